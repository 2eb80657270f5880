"""A picture has one role in a run: unlabelled images that are validation or labelled ones too."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from s4m_pipeline.artifacts.file_facts import FileFacts
from s4m_pipeline.config_data import DataSection
from s4m_pipeline.data.same_files import resolved_names
from s4m_pipeline.engine.image_sets import ImageSets
from s4m_pipeline.errors import UsageError
from tests.small_sets import coco_content, write_images, write_json


def _part(numbers: list[int]) -> dict[str, Any]:
    content = coco_content()
    ids = {10 * number for number in numbers}
    content["images"] = [image for image in content["images"] if image["id"] in ids]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    return content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One folder of six pictures; 0 and 1 are labelled, 4 and 5 for validation."""
    write_images(tmp_path / "images")
    write_json(tmp_path / "labelled.json", _part([0, 1]))
    write_json(tmp_path / "validation.json", _part([4, 5]))
    write_json(tmp_path / "all.json", {**_part([0, 1, 2, 3, 4, 5]), "annotations": []})
    return tmp_path


def _sets(
    folder: Path,
    told: list[str],
    validation: bool = True,
    outside: str = "refuse",
    **unlabelled: Any,
) -> ImageSets:
    data: dict[str, Any] = {
        "outside": outside,
        "labelled": {"images": folder / "images", "annotations": folder / "labelled.json"},
        "unlabelled": {"images": folder / "images", **unlabelled},
    }
    if validation:
        data["validation"] = {
            "images": folder / "images",
            "annotations": folder / "validation.json",
        }
    return ImageSets(DataSection(**data), FileFacts(None), told.append)


def _numbers(sets: ImageSets) -> list[int]:
    names = [image.file_name for image in sets.unlabelled.images]
    return [int(name.partition(" ")[2].partition(".")[0]) for name in names]


@pytest.mark.parametrize("listed", [True, False])
def test_pictures_of_another_role_are_left_out_and_told(folder: Path, listed: bool) -> None:
    annotations = {"annotations": folder / "all.json"} if listed else {}
    told: list[str] = []
    assert _numbers(_sets(folder, told, **annotations)) == [2, 3]
    assert told == [
        "data.unlabelled: 2 of 6 images are validation images, the first is picture 4.png: "
        "left out",
        "data.unlabelled: 2 of 6 images are labelled images, the first is picture 0.png: "
        "left out (data.unlabelled.include_labelled: true takes them)",
    ]
    told.clear()
    sets = _sets(folder, told, include_labelled=True, **annotations)
    assert _numbers(sets) == [0, 1, 2, 3]
    assert len(told) == 1
    told.clear()
    sets = _sets(folder, told, validation=False, include_labelled=True, **annotations)
    assert (_numbers(sets), told) == ([0, 1, 2, 3, 4, 5], [])


def test_ids_do_not_depend_on_what_is_left_out(folder: Path) -> None:
    sets = _sets(folder, [])
    assert [image.id for image in sets.unlabelled.images] == [3, 4]


@pytest.mark.parametrize(
    "how", ["links", "link to the folder", "another way", "hard links", "copies", "other names"]
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_picture_is_known_by_its_file_and_by_its_bytes(
    folder: Path, how: str, listed: bool
) -> None:
    other = folder / "other"
    if how == "link to the folder":
        other.symlink_to(folder / "images")
    elif how == "another way":
        other = folder / "images" / ".." / "images"
    else:
        other.mkdir()
        for path in sorted((folder / "images").iterdir()):
            target = other / path.name
            if how == "links":
                target.symlink_to(Path("..") / "images" / path.name)
            elif how == "hard links":
                target.hardlink_to(path)
            else:
                shutil.copy(path, target.with_suffix(".PNG") if how == "other names" else target)
    annotations: dict[str, Any] = {}
    if listed:
        content = {**_part([0, 1, 2, 3, 4, 5]), "annotations": []}
        for image, path in zip(content["images"], sorted(other.iterdir()), strict=True):
            image["file_name"] = f"./{path.name}"
        annotations = {"annotations": write_json(folder / "listed.json", content)}
    outside = "allow" if how == "links" else "refuse"  # a list may not lead out of its folder
    sets = _sets(folder, told := [], outside=outside, images=other, **annotations)
    assert _numbers(sets) == [2, 3]
    assert [message.split(" of ")[0] for message in told] == ["data.unlabelled: 2"] * 2


def test_another_picture_under_the_same_name_has_no_other_role(folder: Path) -> None:
    (folder / "other").mkdir()
    for path in (folder / "images").iterdir():
        (folder / "other" / path.name).write_bytes(path.read_bytes() + b"\0")
    sets = _sets(folder, told := [], images=folder / "other")
    assert (_numbers(sets), told) == ([0, 1, 2, 3, 4, 5], [])


def test_files_that_cannot_be_read_are_not_the_same(folder: Path) -> None:
    for name in ("picture 0.png", "picture 2.png"):
        (folder / "images" / name).unlink()
    sets = _sets(folder, [], annotations=folder / "all.json")
    assert _numbers(sets) == [2, 3]


def test_nothing_is_left(folder: Path) -> None:
    write_json(folder / "all.json", _part([0, 4]))
    with pytest.raises(UsageError, match="all 2 images are labelled or validation images"):
        _ = _sets(folder, [], annotations=folder / "all.json").unlabelled


def test_what_is_left_out_is_in_the_digest(folder: Path) -> None:
    def digest(**options: Any) -> str:
        return _sets(folder, [], **options).unlabelled_digest()

    everything = digest(validation=False, include_labelled=True)
    digests = {digest(), digest(include_labelled=True), digest(validation=False), everything}
    assert len(digests) == 4
    shutil.copytree(folder / "images", folder / "apart")
    apart = _sets(folder, [], validation=False, images=folder / "apart", include_labelled=True)
    assert apart.unlabelled_digest() == everything  # as before, where no picture has two roles
    assert digest() == digest()


def test_validation_images_that_are_trained_on_are_told(folder: Path) -> None:
    sets = _sets(folder, told := [])
    sets.load_labelled_sets()
    assert told == []
    write_json(folder / "validation.json", _part([1, 4, 5]))
    sets = _sets(folder, told)
    sets.load_labelled_sets()
    assert told == [
        "data.validation: 1 of 3 images are labelled images as well, the first is picture 1.png: "
        "figures on them say little"
    ]


def test_names_are_resolved_without_their_files(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "a.jpg").symlink_to("real/b.jpg")  # leads nowhere
    names = ["link/b.jpg", "./real//b.jpg", "a.jpg", "nul\0.jpg", "link/../c.jpg"]
    found = resolved_names(tmp_path, names)
    assert list(found) == names
    root = os.path.realpath(tmp_path)
    assert [found[name] for name in names[:3]] == [f"{root}/real/b.jpg"] * 3
    assert found["link/../c.jpg"] == f"{root}/c.jpg"


def test_a_run_warns_and_labels_the_rest(empty_workshop: Any, tmp_path: Path) -> None:
    workshop = empty_workshop.copy(tmp_path / "run")
    scenes = workshop.folder / "scenes"
    for part in ("labelled", "validation"):
        for name in json.loads((scenes / f"{part}.json").read_text())["images"]:
            link = scenes / "unlabelled" / f"{part}-{name['file_name']}"
            link.symlink_to(scenes / part / name["file_name"])
    assert len(workshop.run().images.unlabelled.images) == 18
    run = workshop.run("data.unlabelled.include_labelled=true")
    assert len(run.images.unlabelled.images) == 18 + 5


@pytest.mark.parametrize("part", ["labelled", "unlabelled"])
def test_names_with_backslashes_are_told_with_the_file_that_is_there(
    folder: Path, part: str
) -> None:
    (folder / "images/sub").mkdir()
    for path in (folder / "images").glob("*.png"):
        path.rename(folder / "images/sub" / path.name)
    content = _part([0, 1])
    for image in content["images"]:
        image["file_name"] = "sub\\" + image["file_name"]
    write_json(folder / "labelled.json", content)
    sets = _sets(folder, [], validation=False, annotations=folder / "labelled.json")
    said = f"data.{part}: 2 of 2 images are not in .*; there is one named sub/picture 0.png"
    with pytest.raises(UsageError, match=said):
        _ = getattr(sets, part)


def test_names_that_are_not_utf8_have_roles_too(folder: Path) -> None:
    name = "gr\udcf6n.png"
    try:
        (folder / "images/picture 4.png").rename(folder / "images" / name)
    except OSError:
        pytest.skip("this file system has no such names")
    content = _part([4, 5])
    content["images"][0]["file_name"] = name
    write_json(folder / "validation.json", content)
    sets = _sets(folder, told := [], include_labelled=True)
    assert _numbers(sets) == [0, 1, 2, 3]
    assert told[0].endswith("the first is gr\\udcf6n.png: left out")
    assert sets.unlabelled_digest()
