"""Splits: sizes, determinism, nothing lost, classes kept in proportion."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.split.split import SplitSource, write_split
from s4m_pipeline.data.split.stratify import draw
from s4m_pipeline.errors import UsageError
from tests.small_sets import coco_content, write_json


def _class_error(part: dict, whole: dict, share: float) -> float:
    """Mean over classes of the relative error of the class's share of instances."""
    total = Counter(a["category_id"] for a in whole["annotations"])
    got = Counter(a["category_id"] for a in part["annotations"])
    return float(np.mean([abs(got[c] - share * n) / (share * n) for c, n in total.items()]))


def _of_images(whole: dict, chosen: set[int]) -> list[dict]:
    return [a for a in whole["annotations"] if a["image_id"] in chosen]


def _long_tailed(images: int, seed: int) -> list[list[int]]:
    """Category ids of each image's instances, as COCO has them: 7 an image, 80 classes."""
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 81) ** 1.2
    counts = generator.poisson(7.3, images)
    classes = generator.choice(80, counts.sum(), p=weights / weights.sum())
    return [row.tolist() for row in np.split(classes, np.cumsum(counts)[:-1])]


def test_animals7_ten_percent(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "data/animals7/train"
    path = folder / "_annotations.coco.json"
    whole = json.loads(path.read_text())
    files = write_split(path, folder, 10, 0, True, tmp_path)
    labelled, unlabelled = (json.loads(file.read_text()) for file in files)
    assert (len(labelled["images"]), len(unlabelled["images"])) == (70, 630)
    assert unlabelled["annotations"] == []
    assert labelled["categories"] == unlabelled["categories"] == whole["categories"]
    entries = {image["id"]: image for image in whole["images"]}
    together = labelled["images"] + unlabelled["images"]
    assert {image["id"] for image in together} == set(entries)
    assert all(entries[image["id"]] == image for image in together)
    chosen = {image["id"] for image in labelled["images"]}
    assert labelled["annotations"] == _of_images(whole, chosen)
    source = SplitSource(path, folder)
    plain = [
        {"annotations": _of_images(whole, set(source.draw(10, seed, False).labelled))}
        for seed in range(5)
    ]
    assert _class_error(labelled, whole, 0.1) < 0.1
    assert _class_error(labelled, whole, 0.1) < np.mean(
        [_class_error(p, whole, 0.1) for p in plain]
    )


@pytest.mark.parametrize("percent", [1, 5, 10])
def test_class_shares_hold_in_a_long_tail(percent: float) -> None:
    labels = _long_tailed(5000, 0)
    share = percent / 100
    total = Counter(key for row in labels for key in row)
    errors = {}
    for stratified in (True, False):
        places = draw(labels, int(5000 * share), np.random.default_rng(1), stratified)
        assert len(set(places)) == len(places) == int(5000 * share)
        got = Counter(key for place in places for key in labels[place])
        errors[stratified] = {key: abs(got[key] - share * n) for key, n in total.items()}
    # within two instances, or a quarter of the class's part where that is more
    assert all(error <= max(2.0, 0.25 * share * total[key]) for key, error in errors[True].items())
    assert sum(errors[True].values()) < (0.6 if percent == 1 else 0.2) * sum(errors[False].values())


def test_images_without_instances_keep_their_share() -> None:
    labels = [[1]] * 800 + [[]] * 200
    places = draw(labels, 100, np.random.default_rng(0), True)
    assert sum(not labels[place] for place in places) == 20


@pytest.mark.parametrize("stratified", [True, False])
def test_seed_decides(shared_dir: Path, stratified: bool) -> None:
    folder = shared_dir / "data/animals7/valid"
    source = SplitSource(folder / "_annotations.coco.json", folder)
    chosen = [source.draw(20, seed, stratified).labelled for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(chosen[0]) == 42


def test_written_files_can_be_read(tmp_path: Path, small_set: tuple[Path, Path]) -> None:
    paths = write_split(*small_set, 50, 0, True, tmp_path / "splits")
    assert [path.name for path in paths] == ["labelled-50.json", "unlabelled-50.json"]
    labelled = coco.load(paths[0], small_set[1])
    unlabelled = coco.load(paths[1], small_set[1], masks=False)
    assert len(labelled.images) == len(unlabelled.images) == 3
    assert all(image.path.is_file() for image in labelled.images + unlabelled.images)
    assert sorted(path.name for path in (tmp_path / "splits").iterdir()) == [
        "labelled-50.json",
        "perc_50.txt",
        "unlabelled-50.json",
    ]
    assert write_split(*small_set, 2.5, 0, True, tmp_path)[0].name == "labelled-2.5.json"


def test_counts_are_rounded_down_as_in_the_authors_lists() -> None:
    # 2975 is Cityscapes' training set; the published lists have 148 and 297 lines
    from s4m_pipeline.data.split.split import _count

    assert [_count(2975, p) for p in (5, 10, 20, 30)] == [148, 297, 595, 892]
    assert (_count(100, 29), _count(30, 1), _count(118287, 1)) == (29, 1, 1182)


def test_validation_is_apart_and_the_same_for_all_percentages(
    tmp_path: Path, shared_dir: Path
) -> None:
    folder = shared_dir / "data/animals7/valid"
    source = SplitSource(folder / "_annotations.coco.json", folder)
    splits = [source.draw(percent, 3, True, validation=20) for percent in (5, 10, 80)]
    assert len({split.validation for split in splits}) == 1
    for split in splits:
        assert len(split.validation) == 42
        assert not split.validation & split.labelled
    assert len(splits[2].labelled | splits[2].validation) == 210
    for unlabelled, count in (("rest", 158), ("all", 168)):
        files = source.write(splits[0], tmp_path / unlabelled, unlabelled)
        assert files.validation is not None
        held = json.loads(files.validation.read_text())
        rest = json.loads(files.unlabelled.read_text())
        assert {image["id"] for image in held["images"]} == set(splits[0].validation)
        assert {a["image_id"] for a in held["annotations"]} <= set(splits[0].validation)
        assert held["annotations"]
        ids = {image["id"] for image in rest["images"]}
        assert len(ids) == count
        assert not ids & splits[0].validation
        assert (splits[0].labelled <= ids) == (unlabelled == "all")
    with pytest.raises(UsageError, match="exceed"):
        source.draw(81, 3, True, validation=20)


def test_summary_counts_what_the_files_have(small_set: tuple[Path, Path], tmp_path: Path) -> None:
    source = SplitSource(*small_set)
    drawn = source.draw(50, 0)
    files = source.write(drawn, tmp_path)
    labelled = json.loads(files.labelled.read_text())
    told = source.summary(drawn)
    assert told["images"] == {"labelled": 3, "validation": 0, "all": 6, "unlabelled": 3}
    assert source.summary(drawn, "all")["images"]["unlabelled"] == 6
    assert told["instances"]["labelled"] == len(labelled["annotations"])
    names = {c["id"]: c["name"] for c in labelled["categories"]}
    counts = Counter(names[a["category_id"]] for a in labelled["annotations"])
    assert {n: c["labelled"] for n, c in told["per_class"].items()} == dict(counts)


def test_the_file_divided_is_not_replaced(small_set: tuple[Path, Path]) -> None:
    source = small_set[0].rename(small_set[0].with_name("labelled-50.json"))
    with pytest.raises(UsageError, match="would be replaced"):
        write_split(source, small_set[1], 50, 0, True, source.parent)


def test_a_file_in_the_place_of_the_folder_is_named(
    small_set: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="out is a file, not a folder"):
        write_split(*small_set, 50, 0, True, tmp_path / "out")


@pytest.mark.parametrize("percent", [0, -1, 101, float("nan")])
def test_percent_out_of_range(small_set: tuple[Path, Path], percent: float) -> None:
    with pytest.raises(UsageError, match="percent"):
        SplitSource(*small_set).draw(percent, 0)


def test_missing_images_and_empty_labels(small_set: tuple[Path, Path]) -> None:
    (small_set[1] / "picture 4.png").unlink()
    with pytest.raises(UsageError, match=r"1 image is missing, it is picture 4\.png"):
        SplitSource(*small_set)
    write_json(small_set[0], {**coco_content(), "annotations": []})
    (small_set[1] / "picture 4.png").touch()
    with pytest.raises(UsageError, match="no labelled instance"):
        SplitSource(*small_set)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 7}, "annotation number 2 is of image 7"),
        ({"category_id": 7}, "annotation number 2 is of category 7"),
    ],
)
def test_annotations_of_nothing(
    small_set: tuple[Path, Path], change: dict[str, int], message: str
) -> None:
    content = coco_content()
    content["annotations"][2].update(change)
    write_json(small_set[0], content)
    with pytest.raises(UsageError, match=message):
        SplitSource(*small_set)


@pytest.mark.slow
def test_a_large_file_is_split_in_seconds(tmp_path: Path) -> None:
    labels = _long_tailed(20_000, 0)
    (tmp_path / "images").mkdir()
    for place in range(len(labels)):
        (tmp_path / "images" / f"{place}.jpg").touch()
    around = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    outline = np.stack([20 + 9 * np.cos(around), 20 + 9 * np.sin(around)], 1).ravel().tolist()
    content = {
        "images": [
            {"id": n, "file_name": f"{n}.jpg", "height": 480, "width": 640}
            for n in range(len(labels))
        ],
        "categories": [{"id": n, "name": str(n)} for n in range(80)],
        "annotations": [
            {"id": n, "image_id": place, "category_id": key, "segmentation": [outline]}
            for n, (place, key) in enumerate((p, k) for p, row in enumerate(labels) for k in row)
        ],
    }
    path = write_json(tmp_path / "large.json", content)
    started = time.process_time()
    labelled, _ = write_split(path, tmp_path / "images", 10, 0, True, tmp_path)
    assert time.process_time() - started < 20  # takes about 2
    written = json.loads(labelled.read_text())
    assert len(written["images"]) == 2000
    assert _class_error(written, content, 0.1) < 0.03


def test_a_part_without_a_label_is_refused_before_anything_is_written(
    small_set: tuple[Path, Path], tmp_path: Path
) -> None:
    content = coco_content()
    for entry in content["annotations"]:
        if entry["image_id"] == 0:
            entry["iscrowd"] = 1
        elif entry["image_id"] == 10:
            entry["segmentation"] = [[5.0, 5.0, 5.1, 5.0, 5.1, 5.1]]  # no pixel
    write_json(small_set[0], content)
    source = SplitSource(*small_set)
    for names in ("picture 3.png", "picture 0.png\npicture 1.png", "picture 1.png\npicture 3.png"):
        (tmp_path / "list.txt").write_text(names)
        with pytest.raises(UsageError, match=r"no labelled instance on the .* labelled part"):
            source.write(source.take(tmp_path / "list.txt", 0, True), tmp_path / "out")
        assert not (tmp_path / "out").exists()
    (tmp_path / "list.txt").write_text("picture 0.png\npicture 2.png")
    files = source.write(source.take(tmp_path / "list.txt", 0, True), tmp_path / "out")
    assert coco.load(files.labelled, small_set[1]).instance_count == 6


def test_every_part_has_the_classes_of_the_file(
    small_set: tuple[Path, Path], tmp_path: Path
) -> None:
    content = coco_content()
    content["categories"] = [
        {"id": 0, "name": "shapes", "supercategory": "none"},
        {"id": 1, "name": "box", "supercategory": "shapes"},
        {"id": 3, "name": "disc", "supercategory": "shapes"},
    ]
    content["annotations"][0]["category_id"] = 0  # one annotation has Roboflow's class
    write_json(small_set[0], content)
    source = SplitSource(*small_set)
    files = source.write(source.draw(50, 0, validation=34), tmp_path)
    assert files.validation is not None
    for path in (small_set[0], files.labelled, files.validation):
        assert [c.id for c in coco.load(path, small_set[1]).categories] == [0, 1, 3]


def test_names_that_lead_out_of_the_folder_are_refused(
    small_set: tuple[Path, Path], tmp_path: Path
) -> None:
    content = coco_content()
    (small_set[1] / "picture 0.png").rename(tmp_path / "secret.png")
    content["images"][0]["file_name"] = "../secret.png"
    write_json(small_set[0], content)
    with pytest.raises(UsageError, match=r"1 of 6 file names lead out .*\n.* give --outside"):
        SplitSource(*small_set)
    source = SplitSource(*small_set, outside=True)
    assert len(source.ids) == 6
