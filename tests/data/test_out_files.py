"""What data commands and ``init`` write: over no file of another kind, and through no link."""

from __future__ import annotations

from pathlib import Path

import pytest

from s4m_pipeline.configs import write_run_template
from s4m_pipeline.data.formats.coco.writer import write_text
from s4m_pipeline.data.split.lists import write_list
from s4m_pipeline.errors import UsageError

OTHERS = {
    "a run file": b"work_dir: work\n",
    "other JSON": b'{"name": "value"}',
    "a list": b'[{"images": 1}]',
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_of_another_kind_is_not_overwritten(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OTHERS[kind])
    with pytest.raises(UsageError, match="is there already and is no COCO file"):
        write_text(path, ["{}"])
    assert path.read_bytes() == OTHERS[kind]
    (link := tmp_path / "link.json").symlink_to(path)
    with pytest.raises(UsageError, match="is no COCO file"):
        write_text(link, ["{}"])
    with pytest.raises(UsageError, match="is no COCO file"):
        write_text(tmp_path, ["{}"])


@pytest.mark.parametrize(
    "before", [b"", b'{"images": []}', b' {"info": "' + bytes([97]) * 99_999 + b'", "images": []}']
)
def test_a_coco_file_and_an_empty_one_are_written_anew(before: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(before)
    write_text(path, ['{"images": [1]}'])
    assert path.read_text() == '{"images": [1]}'


def test_links_are_replaced_not_followed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(b'{"images": []}')
    (tmp_path / "set.json").symlink_to(canary)
    (tmp_path / "perc_10.txt").symlink_to(canary)
    write_text(tmp_path / "set.json", ['{"images": [1]}'])
    write_list(tmp_path / "perc_10.txt", ["a.png"])
    assert canary.read_bytes() == b'{"images": []}'
    assert (tmp_path / "perc_10.txt").read_text() == "a.png\n"
    (tmp_path / "run.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="does not overwrite"):
        write_run_template("run", tmp_path / "run.yaml")
    assert not (tmp_path / "nowhere").exists()
