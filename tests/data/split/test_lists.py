"""Lists of labelled images: the authors' format, other names, and what is wrong in a list."""

from __future__ import annotations

from pathlib import Path

import pytest

from s4m_pipeline.data.split.lists import match_list, read_list, write_list
from s4m_pipeline.data.split.split import SplitSource
from s4m_pipeline.errors import UsageError
from tests.small_sets import coco_content, write_json

CITYSCAPES = [
    {"id": 1, "file_name": "bremen/bremen_000041_000019_leftImg8bit.png"},
    {"id": 2, "file_name": "ulm/ulm_000075_000019_leftImg8bit.png"},
    {"id": 3, "file_name": "weimar/weimar_000098_000019_leftImg8bit.png"},
]
COCO = [{"id": 9, "file_name": "000000000009.jpg"}, {"id": 25, "file_name": "000000000025.jpg"}]
HERE = Path("list.txt")


def test_the_authors_cityscapes_list(tmp_path: Path) -> None:
    # the first two lines of the published perc_5.txt
    path = tmp_path / "perc_5.txt"
    path.write_bytes(
        b"bremen_000041_000019_gtFine_instanceIds.png\nulm_000075_000019_gtFine_instanceIds.png\n"
    )
    assert match_list(read_list(path), CITYSCAPES, path) == {1, 2}


def test_a_written_cityscapes_list_is_read_as_the_authors_read_it(tmp_path: Path) -> None:
    write_list(tmp_path / "perc_5.txt", [image["file_name"] for image in CITYSCAPES[:2]])
    with (tmp_path / "perc_5.txt").open() as file:
        names = [line[:-1] for line in file]  # their script cuts the last character of each line
    assert names == [
        "bremen_000041_000019_gtFine_instanceIds.png",
        "ulm_000075_000019_gtFine_instanceIds.png",
    ]
    assert match_list(read_list(tmp_path / "perc_5.txt"), CITYSCAPES, HERE) == {1, 2}


@pytest.mark.parametrize(
    "entry",
    [
        "bremen/bremen_000041_000019_leftImg8bit.png",
        "bremen_000041_000019_leftImg8bit.png",
        "bremen_000041_000019_leftImg8bit",
        "bremen_000041_000019",
        "bremen/bremen_000041_000019_gtFine_labelIds.png",
        "bremen_000041_000019_gtFine_polygons.json",
        "1",
    ],
)
def test_ways_to_name_a_cityscapes_image(entry: str) -> None:
    assert match_list([entry], CITYSCAPES, HERE) == {1}


@pytest.mark.parametrize("entry", ["000000000009.jpg", "000000000009", "9", "train2017/9.jpg"])
def test_ways_to_name_a_coco_image(entry: str) -> None:
    assert match_list([entry], COCO, HERE) == {9}


def test_a_whole_name_is_meant_before_a_part() -> None:
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b/a.jpg"}]
    assert match_list(["a.jpg"], images, HERE) == {1}
    assert match_list(["b/a.jpg"], images, HERE) == {2}
    with pytest.raises(UsageError, match="'a' could be any of the images 1, 2"):
        match_list(["a"], images, HERE)
    with pytest.raises(UsageError, match="any of the images 1, 2"):
        match_list(["2"], [{"id": 1, "file_name": "2.jpg"}, {"id": 2, "file_name": "3.jpg"}], HERE)


def test_wrong_entries_are_named() -> None:
    with pytest.raises(UsageError, match=r"2 of 3 entries name no image, the first 'x.jpg', 'y"):
        match_list(["x.jpg", "9", "y"], COCO, HERE)
    with pytest.raises(UsageError, match=r"'9' and '000000000009.jpg' are the same image"):
        match_list(["9", "000000000009.jpg"], COCO, HERE)


def test_comments_and_unusable_lists(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf# labelled\r\n\r\n9\r\n 25 \r\n")
    assert read_list(path) == ["9", "25"]
    path.write_text("# nothing\n")
    with pytest.raises(UsageError, match="names no image"):
        read_list(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="not a text file"):
        read_list(path)
    with pytest.raises(UsageError, match="No such file"):
        read_list(tmp_path / "none.txt")


def test_every_name_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    names = ["#1.jpg", "# 2.jpg", " 3.jpg", "4.jpg ", "\t5", "./6.jpg", "././#7", "8#.jpg"]
    names += ["a/#9.jpg"]
    names += ["10\x85.jpg", "11\u2028.jpg", "12\x0b", "ü 13.jpg", ".14", "/15.jpg"]
    path = tmp_path / "perc_5.txt"
    write_list(path, names)
    assert read_list(path) == names
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    assert match_list(read_list(path), images, path) == set(range(len(names)))
    plain = path.read_text(encoding="utf-8").split("\n")
    assert [plain[number] for number in (7, 8)] == names[7:9]  # the others' scripts know no "./"
    write_list(path, ["\ufeff1.jpg"])
    assert read_list(path) == ["\ufeff1.jpg"]
    for name in ("a\nb.jpg", "a\rb.jpg", "a.jpg\n"):
        with pytest.raises(UsageError, match="has a line break"):
            write_list(path, [name])


def test_a_split_with_a_name_like_a_comment_comes_back(
    small_set: tuple[Path, Path], tmp_path: Path
) -> None:
    content = coco_content()
    for image in content["images"]:
        path = small_set[1] / image["file_name"]
        image["file_name"] = f"#{image['file_name']}"
        path.rename(small_set[1] / image["file_name"])
    write_json(small_set[0], content)
    source = SplitSource(*small_set)
    drawn = source.draw(50, 0)
    listed = source.write(drawn, tmp_path).listed
    assert listed is not None
    assert source.take(listed, 0, True).labelled == drawn.labelled


def test_a_list_gives_back_the_split_it_was_written_for(
    small_set: tuple[Path, Path], tmp_path: Path
) -> None:
    source = SplitSource(*small_set)
    files = source.write(source.draw(50, 4), tmp_path)
    assert files.listed is not None
    taken = source.take(files.listed, 0, True)
    again = source.write(taken, tmp_path / "again")
    assert (taken.name, again.listed) == ("50", None)
    assert again.labelled.read_bytes() == files.labelled.read_bytes()
    assert again.unlabelled.read_bytes() == files.unlabelled.read_bytes()


def test_a_coco_file_names_its_images(small_set: tuple[Path, Path], tmp_path: Path) -> None:
    content = {"images": [{"id": 1, "file_name": "picture 2.png"}]}
    path = write_json(tmp_path / "instances_train2017_10.json", content)
    assert SplitSource(*small_set).take(path, 0, True).labelled == {20}
