"""Names that are not UTF-8, and terminals that cannot show what is in a name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from s4m_pipeline.artifacts.fingerprint import digest_of, image_set_digest
from s4m_pipeline.data.formats import coco, image_folder
from s4m_pipeline.data.split.lists import read_list, write_list
from s4m_pipeline.errors import UsageError
from s4m_pipeline.wording import escaped
from tests.workshop import Workshop

ROOT = Path(__file__).parents[2]
LATIN = os.fsdecode(b"K\xf6ln.png")
SHOWN = "K\\udcf6ln.png"
CLASS = "Köln 猫"
SHORT = ("student.iterations=2",)
ASCII = [
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "1"},
]


def _first_file(folder: Path) -> Path:
    return sorted(folder.glob("*.*"))[0]


def _in_latin(own: Workshop) -> None:
    """Give a picture of each part a Latin-1 name, and a class one that few terminals can show."""
    scenes = own.folder / "scenes"
    for part in ("labelled", "unlabelled", "validation"):
        old = _first_file(scenes / part)
        old.rename(old.with_name(LATIN))
        listed = scenes / f"{part}.json"
        if not listed.is_file():
            continue
        content = json.loads(listed.read_text())
        content["categories"][0]["name"] = CLASS
        for image in content["images"]:
            image["file_name"] = image["file_name"].replace(old.name, LATIN)
        listed.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def latin(empty_workshop, tmp_path_factory) -> Workshop:
    """The workshop with such names, its folder among them."""
    own = empty_workshop.copy(tmp_path_factory.mktemp("latin") / os.fsdecode(b"Br\xfcder"))
    _in_latin(own)
    return own


def _s4m(own: Workshop, *arguments: str, **changes: str) -> tuple[int, str, str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("LC_ALL", "LANG", "LC_CTYPE")}
    environment |= {"PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", **changes}
    command = [sys.executable, "-m", "s4m_pipeline.cli", *arguments]
    done = subprocess.run(command, cwd=own.folder, env=environment, capture_output=True)
    out, err = (os.fsdecode(stream) for stream in (done.stdout, done.stderr))
    assert "bug in s4m" not in err, err
    assert "UnicodeEncodeError" not in err, err
    return done.returncode, out, err


@pytest.mark.slow
def test_a_run_over_such_names_works_and_is_the_same_in_every_locale(latin):
    work = latin.folder.parent / "work"
    short = (*SHORT, f"work_dir={work}")
    code, out, err = _s4m(latin, "run", "-c", "run.yaml", *short)
    assert code == 0, err
    assert CLASS in out
    for stage, table in (("pseudo-label", "predictions"), ("structure", "structure")):
        files = sorted((work / stage).glob(f"*/{table}/*.parquet"))
        names = {n for f in files for n in pq.ParquetFile(f).read(["file_name"])[0].to_pylist()}
        assert SHOWN in names
    fresh = {}
    for changes in [{}, *ASCII]:
        code, out, err = _s4m(latin, "status", "-c", "run.yaml", "--json", *short, **changes)
        assert code == 0, err
        fresh[str(changes)] = [(row["state"], row["fingerprint"]) for row in json.loads(out)]
        assert {state for state, _ in fresh[str(changes)]} == {"fresh"}
        code, out, err = _s4m(latin, "evaluate", "-c", "run.yaml", *short, **changes)
        assert code == 0, err
        assert CLASS in out or "K\\xf6ln \\u732b" in out
    assert len({str(rows) for rows in fresh.values()}) == 1
    page = latin.folder / "labels.html"
    code, _, err = _s4m(latin, "report", "-c", "run.yaml", "--out", page.name, *short)
    assert code == 0, err
    assert SHOWN in page.read_text(encoding="utf-8")


def test_a_work_folder_that_no_table_can_be_written_to_is_refused(latin, tmp_path):
    own = latin.copy(tmp_path / latin.folder.name)  # others may have begun a work folder there
    shutil.rmtree(own.folder / "work", ignore_errors=True)
    code, _, err = _s4m(own, "structure", "-c", "run.yaml")
    assert code == 2
    assert "Br\\udcfcder/work: not UTF-8" in err
    assert "Give another work_dir" in err
    assert not (own.folder / "work").exists()


@pytest.mark.parametrize("changes", ASCII)
def test_check_and_split_take_such_names_in_every_locale(latin, changes, tmp_path):
    scenes = ("--annotations", "scenes/labelled.json", "--images", "scenes/labelled")
    code, out, err = _s4m(latin, "data", "check", *scenes, "--processes", "2", **changes)
    assert code == 0, err
    assert "missing" not in out
    (latin.folder / "scenes" / "labelled" / LATIN).rename(tmp_path / "away.png")
    try:
        code, out, err = _s4m(latin, "data", "check", *scenes, **changes)
    finally:
        (tmp_path / "away.png").rename(latin.folder / "scenes" / "labelled" / LATIN)
    assert SHOWN in out + err


def test_names_are_escaped_where_they_are_shown_and_whole_where_they_are_opened(latin):
    scenes = latin.folder / "scenes"
    for images in (
        image_folder.load(scenes / "unlabelled"),
        coco.load(scenes / "labelled.json", scenes / "labelled"),
    ):
        (record,) = (image for image in images.images if image.file_name == SHOWN)
        assert record.path.name == LATIN
        assert record.path.is_file()
        assert record.height > 0


def test_names_count_by_their_bytes_in_digests(tmp_path):
    assert digest_of([LATIN]) != digest_of([os.fsdecode(b"K\xf7ln.png")])
    assert digest_of(["Köln"]) == digest_of([json.loads('"K\\u00f6ln"')])
    (tmp_path / LATIN).write_bytes(b"123")
    assert image_set_digest(tmp_path, [LATIN]) == digest_of(
        [[LATIN, hashlib.sha256(b"123").hexdigest()]]
    )


def test_a_name_that_is_no_bytes_at_all_is_refused(tmp_path):
    content = {"images": [{"id": 1, "file_name": "\ud800.png", "height": 4, "width": 4}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="is not text"):
        coco.load(tmp_path / "a.json", tmp_path, masks=False)


def test_lists_hold_such_names(tmp_path):
    write_list(tmp_path / "list.txt", [LATIN, "Köln.png"])
    assert (tmp_path / "list.txt").read_bytes() == b"K\xf6ln.png\nK\xc3\xb6ln.png\n"
    assert read_list(tmp_path / "list.txt") == [LATIN, "Köln.png"]
    (tmp_path / "list.txt").write_bytes("a.png\n".encode("utf-16"))
    with pytest.raises(UsageError, match="not a text file"):
        read_list(tmp_path / "list.txt")


def test_escaping_leaves_what_utf_8_can_hold(tmp_path):
    assert escaped(LATIN) == SHOWN
    assert escaped(SHOWN) == SHOWN
    assert escaped("Köln 猫\\\n") == "Köln 猫\\\n"
