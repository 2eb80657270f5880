"""The data commands: files, exit codes, JSON, and wrong use."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s4m_pipeline.cli import main
from tests.data.cityscapes_tree import FRAMES, write_tree
from tests.small_sets import boxes_of, coco_content, write_images, write_json

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def s4m(capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def options(tmp_path: Path) -> list[Any]:
    """The options that name a small set."""
    write_images(tmp_path / "images")
    path = write_json(tmp_path / "labels.json", coco_content())
    return ["--annotations", path, "--images", tmp_path / "images"]


def test_split_by_percent_and_by_list(s4m: Call, options: list[Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--percent", 50, "--percent", 20, "--validation", 20, "--out", out]
    code, printed, err = s4m("data", "split", *options, *arguments)
    assert code == 0
    parts = ("labelled-{}.json", "unlabelled-{}.json", "validation-{}.json", "perc_{}.txt")
    assert printed.split() == [str(out / p.format(n)) for n in (50, 20) for p in parts]
    assert "labelled: 3 of 6 images" in err
    code, printed, _ = s4m(
        "data", "split", *options, "--list", out / "perc_50.txt", "--out", tmp_path / "b", "--json",
        "--unlabelled", "all",
    )  # fmt: skip
    (summary,) = json.loads(printed)
    assert (code, summary["name"], summary["images"]["labelled"]) == (0, "50", 3)
    assert [Path(path).name for path in summary["files"]] == [
        "labelled-50.json",
        "unlabelled-50.json",
    ]
    assert Path(summary["files"][0]).read_bytes() == (out / "labelled-50.json").read_bytes()
    assert len(json.loads(Path(summary["files"][1]).read_text())["images"]) == 6


def test_split_warns_of_classes_without_labels(
    s4m: Call, options: list[Any], tmp_path: Path
) -> None:
    content = coco_content()
    content["annotations"] = [a for a in content["annotations"] if a["id"] != 4]  # a box
    write_json(tmp_path / "labels.json", content)
    (tmp_path / "one.txt").write_text("picture 1.png\n")
    code, _, err = s4m(
        "data", "split", *options, "--list", tmp_path / "one.txt", "--out", tmp_path / "o"
    )
    assert (code, "no labelled instance of box" in err) == (0, True)


def test_split_refuses_to_write_two_splits_to_one_name(
    s4m: Call, options: list[Any], tmp_path: Path
) -> None:
    lists = [tmp_path / folder / "perc_5.txt" for folder in ("l1", "l2")]
    for number, path in enumerate(lists):
        path.parent.mkdir()
        path.write_text(f"picture {number}.png\n")
    for arguments in (
        ["--list", lists[0], "--list", lists[1]],
        ["--percent", 50, "--percent", 50.0000001],
    ):
        code, printed, err = s4m("data", "split", *options, *arguments, "--out", tmp_path / "o")
        assert (code, printed) == (2, "")
        assert str(arguments[1]) in err
        assert "would both be written to labelled-5" in err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize(
    ("shares", "empty"),
    [
        (["--percent", 100], True),
        (["--percent", 80, "--validation", 20], False),
        (["--percent", 83.4, "--validation", 16.7], True),
        (["--percent", 100, "--unlabelled", "all"], False),
    ],
)
def test_split_warns_of_an_unlabelled_file_without_images(
    s4m: Call,
    options: list[Any],
    tmp_path: Path,
    shares: list[Any],
    empty: bool,
    as_json: list[str],
) -> None:
    code, _, err = s4m("data", "split", *options, *shares, *as_json, "--out", tmp_path / "o")
    assert code == 0
    (path,) = (tmp_path / "o").glob("unlabelled-*.json")
    assert (not json.loads(path.read_text())["images"]) == empty
    assert (f"warning: no image in {path.name}" in err) == empty


def test_check_prints_names_that_no_file_can_have(
    s4m: Call, options: list[Any], tmp_path: Path
) -> None:
    content = coco_content()
    content["images"][0]["file_name"] = "\ud800"
    content["annotations"][4]["id"] = "\ud801"
    write_json(tmp_path / "labels.json", content)
    code, printed, _ = s4m("data", "check", *options, "--processes", 1)
    assert code == 0
    assert "without id, file name, or usable height and width: 1\n  image number 0" in printed
    assert "annotation \\ud801 of image 10" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --percent or --list"),
        (["--percent", 5, "--list", "x.txt"], "either --percent or --list"),
        (["--percent", 5, "--unlabelled", "none"], "one of rest, all"),
        (["--percent", 0], "percent is 0"),
        (["--percent", 5, "--validation", 100], "validation is 100"),
        (["--list", "none.txt"], "none.txt: No such file"),
    ],
)
def test_split_used_wrongly(
    s4m: Call, options: list[Any], arguments: list[Any], message: str
) -> None:
    code, _, err = s4m("data", "split", *options, *arguments)
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("name", "fault"), [("nope", "no such folder"), ("labels.json", "is a file, not a folder")]
)
@pytest.mark.parametrize("command", [["check"], ["split", "--percent", 50]])
def test_images_that_are_no_folder_are_wrong_use(
    s4m: Call, options: list[Any], tmp_path: Path, name: str, fault: str, command: list[Any]
) -> None:
    wrong = [*options[:2], "--images", tmp_path / name]
    code, printed, said = s4m("data", *command, *wrong)
    assert (code, printed, said) == (2, "", f"error: {tmp_path / name}: {fault}\n")


def test_a_set_to_compare_with_has_a_folder_too(
    s4m: Call, options: list[Any], tmp_path: Path
) -> None:
    against = ["--against", options[1], "--against-images", tmp_path / "nope"]
    code, printed, err = s4m("data", "check", *options, *against)
    assert (code, printed, err) == (2, "", f"error: {tmp_path / 'nope'}: no such folder\n")


def test_check_prints_faults_and_fails_only_when_strict(s4m: Call, options: list[Any]) -> None:
    code, printed, _ = s4m("data", "check", *options, "--processes", 1)
    assert code == 0
    assert "annotations whose area is not their mask's: " in printed
    assert "note: gaps in the category ids: 1\n  between category 1 and category 3" in printed
    assert "no fault found" not in printed
    code, printed, _ = s4m(
        "data", "check", *options, "--processes", 1, "--headers", "--strict", "--json"
    )
    assert code == 1
    rows = {row["kind"]: row for row in json.loads(printed)}
    assert rows["wrong-area"]["count"] == len(coco_content()["annotations"])
    assert (rows["wrong-area"]["note"], rows["category-gap"]["note"]) == (False, True)


def test_notes_alone_are_no_failure(s4m: Call, options: list[Any], tmp_path: Path) -> None:
    content = coco_content()
    boxes = [box for number in range(6) for _, box in boxes_of(number)]
    for entry, box in zip(content["annotations"], boxes, strict=True):
        entry |= {"bbox": list(box), "area": box[2] * box[3]}
    write_json(tmp_path / "labels.json", content)
    code, printed, _ = s4m("data", "check", *options, "--processes", 1, "--strict")
    assert code == 0
    assert printed.startswith("note: images without annotations: 1\n")
    assert printed.endswith("no fault found\n")


def test_check_against_other_sets(s4m: Call, options: list[Any], tmp_path: Path) -> None:
    against = ["--against", options[1], "--against-images", options[3]]
    code, printed, _ = s4m("data", "check", *options, *against, "--processes", 1, "--json")
    rows = {row["kind"]: row for row in json.loads(printed)}
    assert (code, rows["same-file"]["count"]) == (0, 6)
    code, _, err = s4m("data", "check", *options, *against[:2])
    assert (code, "one --against-images for each" in err) == (2, True)
    code, _, err = s4m("data", "check", *options, *against, "--headers")
    assert (code, "does not go with --headers" in err) == (2, True)


def test_cityscapes_to_coco(s4m: Call, tmp_path: Path) -> None:
    write_tree(tmp_path / "cs", "train")
    arguments = ["--root", tmp_path / "cs", "--out", tmp_path / "train.json", "--processes", 1]
    code, printed, err = s4m("data", "cityscapes", *arguments)
    assert code == 0
    assert printed.startswith("4 images, ")
    assert printed.endswith(f"{tmp_path / 'train.json'}\n")
    assert "cityscapes train: 4/4 images" in err
    (tmp_path / "cs/leftImg8bit/train" / f"{FRAMES[0]}_leftImg8bit.png").unlink()
    code, _, err = s4m("data", "cityscapes", *arguments)
    assert (code, FRAMES[0] in err) == (2, True)
    code, printed, _ = s4m("data", "cityscapes", *arguments, "--skip-missing", "--json")
    summary = json.loads(printed)
    assert (code, summary["images"], summary["left_out"]) == (4, 3, 1)


def test_cityscapes_can_be_split_by_the_authors_list(s4m: Call, tmp_path: Path) -> None:
    write_tree(tmp_path / "cs", "train")
    path = tmp_path / "train.json"
    s4m("data", "cityscapes", "--root", tmp_path / "cs", "--out", path, "--processes", 1)
    (tmp_path / "perc_5.txt").write_text("zurich_000005_000019_gtFine_instanceIds.png\n")
    images = tmp_path / "cs/leftImg8bit/train"
    options = ["--annotations", path, "--images", images, "--out", tmp_path / "s"]
    assert s4m("data", "split", *options, "--list", tmp_path / "perc_5.txt")[0] == 0
    labelled = json.loads((tmp_path / "s/labelled-5.json").read_text())
    assert [image["file_name"] for image in labelled["images"]] == [f"{FRAMES[3]}_leftImg8bit.png"]
    assert s4m("data", "split", *options, "--percent", 50)[0] == 0
    lines = (tmp_path / "s/perc_50.txt").read_text().splitlines()
    assert len(lines) == 2
    assert all(line.endswith("_gtFine_instanceIds.png") and "/" not in line for line in lines)


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_the_command_that_a_refusal_names_cleans_the_file(
    s4m: Call, options: list[Any], tmp_path: Path, as_json: list[str]
) -> None:
    content = coco_content()
    content["annotations"][0]["segmentation"] = []
    write_json(tmp_path / "labels.json", content)
    code, _, err = s4m("data", "split", *options, "--percent", 50, "--out", tmp_path / "out")
    assert code == 2
    assert len(err.strip().splitlines()) <= 3
    command = shlex.split(err.partition("with: s4m ")[2])
    code, printed, _ = s4m(*command, *as_json)
    assert code == 0
    out = tmp_path / "labels-clean.json"
    if as_json:
        told = json.loads(printed)
        assert (told["file"], told["mended"]) == (str(out), 0)
        assert told["annotations"] == {"kept": 12, "all": 13}
        assert [(row["kind"], row["count"]) for row in told["left_out"]] == [
            ("bad-segmentation", 1)
        ]
    else:
        assert "left out: annotations whose polygons or RLE cannot be used: 1\n" in printed
        assert printed.endswith(f"kept: 6 of 6 images, 12 of 13 annotations; 0 mended\n{out}\n")
    options[1] = out
    assert s4m("data", "split", *options, "--percent", 50, "--out", tmp_path / "out")[0] == 0


def test_a_picture_that_is_left_out_is_told_by_the_exit_code(
    s4m: Call, options: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "images/picture 0.png").unlink()
    code, printed, _ = s4m("data", "clean", *options, "--out", tmp_path / "clean.json")
    assert code == 4
    assert "left out: images whose file is missing: 1\n  image 0 (picture 0.png)\n" in printed
