"""The image sets of a run: what is taken of a folder, and what notices a change."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from s4m_pipeline.cli import main
from s4m_pipeline.config_data import LabelledSet
from s4m_pipeline.data.folders import ImagesFolder
from s4m_pipeline.engine.perform import freshness
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.errors import UsageError
from tests.workshop import Workshop


@pytest.fixture
def own(empty_workshop: Workshop, tmp_path: Path) -> Workshop:
    return empty_workshop.copy(tmp_path / "run")


def test_a_run_says_what_of_a_folder_it_passed_over(
    own: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own.folder / "scenes" / "unlabelled"
    first = min(folder.glob("*.jpg"))
    shutil.copy(first, folder / "web.jfif")
    shutil.copy(first, folder / "._web.jpg")
    (folder / "notes.txt").write_text("")
    (own.folder / "other").mkdir()
    shutil.copy(first, own.folder / "other" / "linked.jpg")
    (folder / "camera2").symlink_to(own.folder / "other")
    with pytest.raises(SystemExit) as ended:
        main(["run", "-c", str(own.config), "--dry-run"])
    assert not ended.value.code
    told = [line for line in capsys.readouterr().err.splitlines() if "data.unlabelled" in line]
    assert told == [
        "data.unlabelled: 20 images taken, also through links (camera2); "
        "passed over: 1 .txt, 1 hidden"
    ]


def _list_also(own: Workshop, name: str) -> None:
    """Add a name to the list of labelled images."""
    path = own.folder / "scenes" / "labelled.json"
    content = json.loads(path.read_text())
    content["images"].append({**content["images"][0], "id": 99, "file_name": name})
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("kind", ["dots", "absolute", "file", "folder"])
def test_names_that_lead_out_of_the_folder_are_refused(own: Workshop, kind: str) -> None:
    images, secret = own.folder / "scenes" / "labelled", own.folder / "secret"
    secret.mkdir()
    shutil.copy(min(images.glob("*.jpg")), secret / "a.jpg")
    (images / "link.jpg").symlink_to(secret / "a.jpg")
    (images / "link").symlink_to(secret)
    names = {
        "dots": "../../secret/a.jpg",
        "absolute": str(secret / "a.jpg"),
        "file": "link.jpg",
        "folder": "link/a.jpg",
    }
    _list_also(own, names[kind])
    teacher = stage_named("train-teacher")
    for use in (
        lambda run: run.fingerprint(teacher),
        lambda run: run.images.labelled,
        lambda run: run.images.load_labelled_sets(),
        lambda run: run.images.digest(
            LabelledSet(images=images, annotations=own.folder / "scenes" / "labelled.json")
        ),
    ):
        with pytest.raises(UsageError, match=r"1 of 6 file names lead out[^\n]*\n.*data\.outside"):
            use(own.run())
    allowed = own.run("data.outside=allow")
    assert len(allowed.images.labelled.images) == 6
    assert teacher.settings(allowed.config) == teacher.settings(own.run().config)


def test_names_that_stay_in_the_folder_are_taken(own: Workshop) -> None:
    images = own.folder / "scenes" / "labelled"
    first = min(images.glob("*.jpg"))
    (images / "sub").mkdir()
    (images / "own.jpg").symlink_to(first)
    (images / "sub" / "own.jpg").symlink_to(first)
    for name in ("own.jpg", "sub/own.jpg", f"sub/../{first.name}", str(first)):
        assert not ImagesFolder(images).leaves(name)
        assert not ImagesFolder(images).leaves(f"./{name}" if name[0] != "/" else name)
    images.rename(own.folder / "elsewhere")
    images.symlink_to(own.folder / "elsewhere")  # the folder itself may be a link
    assert not ImagesFolder(images).leaves(first.name)
    assert len(own.run().images.labelled.images) == 5


def test_a_folder_beside_it_of_a_longer_name_is_outside(tmp_path: Path) -> None:
    assert ImagesFolder(tmp_path / "a").leaves("../ab/x.jpg")
    assert ImagesFolder(tmp_path / "a").leaves("..")
    assert not ImagesFolder(tmp_path / "a").leaves("b/../x.jpg")
    assert not ImagesFolder(tmp_path / "a").leaves("..x.jpg")
    assert not ImagesFolder(tmp_path / "a").leaves("nul\0.jpg")


def test_a_changed_picture_of_the_same_size_makes_stages_stale(
    finished: Workshop, tmp_path: Path
) -> None:
    own = finished.copy(tmp_path / "run")
    teacher = stage_named("train-teacher")
    assert freshness(own.run(), teacher).state == "fresh"  # though copying changed the times
    first = min((own.folder / "scenes" / "labelled").glob("*.jpg"))
    before, content = first.stat(), bytearray(first.read_bytes())
    content[-20] ^= 1
    first.write_bytes(content)
    os.utime(first, ns=(before.st_atime_ns, before.st_mtime_ns))
    standing = freshness(own.run(), teacher)
    assert standing.state == "stale"
    assert standing.why.startswith("the labelled images changed; structure: ")
    content[-20] ^= 1
    first.write_bytes(content)
    assert freshness(own.run(), teacher).state == "fresh"
