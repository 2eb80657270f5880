"""COCO files kept as text: what is read and written is what json reads and writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s4m_pipeline.data.formats.coco.text import CocoText
from s4m_pipeline.errors import UsageError

CONTENT: dict[str, Any] = {
    "info": {"ü": [1, {"annotations": [3]}]},
    "annotations": [{"id": 1, "s": 'a]},"ß'}, 7, [], {"id": 2, "n": {"k": [1.5e-3, None, True]}}],
    "images": [{"id": 5, "file_name": "ä.jpg"}, {"id": 6}],
    "categories": [],
}


@pytest.mark.parametrize("indent", [None, 3])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_read_as_json_reads(tmp_path: Path, indent: int | None, encoding: str) -> None:
    text = json.dumps(CONTENT, ensure_ascii=False, indent=indent)
    (tmp_path / "a.json").write_bytes(f"\n {text} \r\n".encode(encoding))
    seen = []
    found = CocoText(tmp_path / "a.json", lambda place, entry: seen.append((place, entry)))
    assert seen == list(enumerate(CONTENT["annotations"]))
    assert found.images == CONTENT["images"]
    assert found.other == {"info": CONTENT["info"], "categories": []}
    assert [json.loads(found.annotation(n)) for n in range(4)] == CONTENT["annotations"]
    found.write(tmp_path / "new/b.json", found.images[:1], [0, 3])
    assert json.loads((tmp_path / "new/b.json").read_text(encoding="utf-8")) == {
        **CONTENT,
        "images": CONTENT["images"][:1],
        "annotations": [CONTENT["annotations"][0], CONTENT["annotations"][3]],
    }
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b.json"]


@pytest.mark.parametrize("annotations", ["[]", "[ ]", None, '"text"'])
def test_no_annotations(tmp_path: Path, annotations: str | None) -> None:
    tail = "" if annotations is None else f', "annotations": {annotations}'
    (tmp_path / "a.json").write_text('{"images": [ ]' + tail + "}")
    assert CocoText(tmp_path / "a.json").images == []
    with pytest.raises(IndexError):
        CocoText(tmp_path / "a.json").annotation(0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"images": []',
        '{"images": [], }',
        '{"images": [] "annotations": []}',
        '{"images": [], "annotations": [{}, ]}',
        '{"images": [], "annotations": [{} {}]}',
        '{"images": [], "annotations": [{}',
        '{"images": []} {}',
        "{images: []}",
        '{"images": [], "annotations": [{"id": }]}',
    ],
)
def test_what_json_refuses_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError):
        json.loads(text)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UsageError, match=r"a\.json: not a JSON file"):
        CocoText(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"images": {}}'])
def test_what_is_not_coco_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UsageError, match="not a COCO file"):
        CocoText(tmp_path / "a.json")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        CocoText(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'{"images": "\xff\xfe\xfd"}')
    with pytest.raises(UsageError, match="not a JSON file"):
        CocoText(tmp_path / "a.json")
