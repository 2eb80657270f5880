"""Cityscapes to COCO: masks, groups and void, checked against the data set's own scripts."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_api

from s4m_pipeline.data.check.check import check_coco
from s4m_pipeline.data.formats import cityscapes, coco
from s4m_pipeline.data.formats.cityscapes.files import convert, find_pairs
from s4m_pipeline.data.formats.cityscapes.reader import (
    CLASSES,
    VOID_LABELS,
    masks_by_value,
    read_instance_ids,
)
from s4m_pipeline.errors import UsageError
from s4m_pipeline.metrics.cityscapes_metric import cityscapes_ap, read_void
from tests.data.cityscapes_tree import FRAMES, HEIGHT, WIDTH, write_tree

CLASS_NAMES = set(CLASSES.values())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tree(tmp_path / "cityscapes")
    return tmp_path / "cityscapes"


@pytest.fixture
def content(tree: Path) -> dict[str, Any]:
    convert(tree, "val", tree / "val.json")
    return json.loads((tree / "val.json").read_text())


@pytest.fixture
def evaluation(tree: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Cityscapes' script, made to write below the tree."""
    module = pytest.importorskip(
        "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling",
        reason="no cityscapesScripts here to compare with",
    )
    if not hasattr(np, "in1d"):  # numpy 2.4 has it no more; the script uses it
        monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    monkeypatch.setattr(module, "writeDict2JSON", _write_json)  # theirs fails on numpy's numbers
    monkeypatch.chdir(tree)
    monkeypatch.setattr(module.args, "gtInstancesFile", str(tree / "instances.json"))
    monkeypatch.setattr(module.args, "predictionPath", str(tree / "results"))
    for switch, value in (("JSONOutput", False), ("quiet", True), ("colorized", False)):
        monkeypatch.setattr(module.args, switch, value)
    return module


def _write_json(content: dict[str, Any], path: str) -> None:
    Path(path).write_text(json.dumps(content, default=int))


def _truth_path(tree: Path, frame: str) -> Path:
    return tree / "gtFine" / "val" / f"{frame}_gtFine_instanceIds.png"


def _frame_of(image: dict[str, Any]) -> str:
    return image["file_name"].removesuffix("_leftImg8bit.png")


def _write_predictions(
    tree: Path, content: dict[str, Any], detections: list[dict[str, Any]]
) -> tuple[list[str], list[str]]:
    """Write detections in the format of Cityscapes' results; both lists for its script."""
    (tree / "results").mkdir()
    predictions, truths = [], []
    for image in content["images"]:
        name = _frame_of(image).split("/")[1]
        lines = []
        for number, found in enumerate(d for d in detections if d["image_id"] == image["id"]):
            mask = mask_api.decode(found["segmentation"]) * 255
            Image.fromarray(mask).save(tree / "results" / f"{name}_{number}.png")
            lines.append(f"{name}_{number}.png {found['category_id']} {found['score']:.9f}\n")
        (tree / "results" / f"{name}.txt").write_text("".join(lines))
        predictions.append(str(tree / "results" / f"{name}.txt"))
        truths.append(str(_truth_path(tree, _frame_of(image))))
    return predictions, truths


def _encode(mask: np.ndarray) -> dict[str, Any]:
    return mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))


def _perturbed(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Shifted truth, some of it twice, some left out, and alarms in groups, void and the open."""
    generator = np.random.default_rng(1)
    found = []
    for entry in content["annotations"]:
        mask = mask_api.decode(entry["segmentation"])
        for _ in range(int(generator.choice([0, 1, 1, 1, 2]))):
            moved = np.roll(mask, generator.integers(-3, 4, 2), (0, 1))
            found.append((entry["image_id"], entry["category_id"], moved))
    for image in content["images"]:
        for _ in range(12):
            y, x = generator.integers(0, HEIGHT - 20), generator.integers(0, WIDTH - 20)
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[y : y + 20, x : x + 20] = 1
            found.append((image["id"], int(generator.choice([24, 26])), mask))
    return [
        {"image_id": i, "category_id": c, "segmentation": _encode(m), "score": float(s)}
        for (i, c, m), s in zip(found, generator.permutation(len(found)) / len(found), strict=True)
    ]


def test_every_value_becomes_the_mask_of_its_pixels(tree: Path) -> None:
    values = read_instance_ids(_truth_path(tree, FRAMES[1]))
    masks = masks_by_value(values)
    assert list(masks) == sorted(set(values.ravel().tolist()))
    for value, rle in masks.items():
        assert np.array_equal(mask_api.decode(rle), values == value)
        assert rle["counts"].encode() == _encode(values == value)["counts"]


def test_one_pixel_and_one_value_can_be_encoded() -> None:
    values = np.array([[5, 5], [5, 9]], np.int32)
    assert mask_api.decode(masks_by_value(values)[9]).tolist() == [[0, 0], [0, 1]]
    assert mask_api.decode(masks_by_value(np.full((3, 2), 4))[4]).all()


def test_groups_are_crowds_and_names_are_of_the_split(content: dict[str, Any], tree: Path) -> None:
    assert {c["id"]: c["name"] for c in content["categories"]} == CLASSES
    assert [image["file_name"] for image in content["images"]] == [
        f"{frame}_leftImg8bit.png" for frame in FRAMES
    ]
    crowds = [a for a in content["annotations"] if a["iscrowd"]]
    assert {(a["category_id"], a["instance_id"]) for a in crowds} == {(24, 24), (26, 26)}
    assert all(a["instance_id"] // 1000 == a["category_id"] for a in content["annotations"] if
               not a["iscrowd"])  # fmt: skip
    assert [a["id"] for a in content["annotations"]] == [
        n + 1 for n in range(len(content["annotations"]))
    ]
    assert check_coco(tree / "val.json", tree / "leftImg8bit" / "val", decode=True)[0].is_note


def test_processes_write_the_same_file(tree: Path, content: dict[str, Any]) -> None:
    figures = convert(tree, "val", tree / "two.json", processes=2)
    assert json.loads((tree / "two.json").read_text()) == content
    single = [a for a in content["annotations"] if not a["iscrowd"]]
    assert (figures["images"], figures["instances"], figures["left_out"]) == (4, len(single), 0)
    assert figures["groups"] == len(content["annotations"]) - len(single)
    assert figures["per_class"]["train"] == sum(a["category_id"] == 31 for a in single) > 0


def test_missing_pairs_are_named(tree: Path) -> None:
    _truth_path(tree, FRAMES[0]).unlink()
    (tree / "leftImg8bit" / "val" / f"{FRAMES[2]}_leftImg8bit.png").unlink()
    pairs = find_pairs(tree, "val")
    assert (pairs.without_truth, pairs.without_image) == ([FRAMES[0]], [FRAMES[2]])
    with pytest.raises(UsageError, match=f"1 images .*{FRAMES[0]}.* 1 ground .*{FRAMES[2]}"):
        convert(tree, "val", tree / "val.json")
    figures = convert(tree, "val", tree / "val.json", skip_missing=True)
    assert (figures["images"], figures["left_out"]) == (2, 2)


def test_files_that_do_not_fit_are_named(tree: Path) -> None:
    path = _truth_path(tree, FRAMES[0])
    Image.fromarray(np.zeros((8, 9), np.uint16)).save(path)
    with pytest.raises(UsageError, match="9 x 8 pixels, its image has 256 x 128"):
        convert(tree, "val", tree / "val.json")
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(path)
    with pytest.raises(UsageError, match="not an image of instance ids"):
        convert(tree, "val", tree / "val.json")
    path.write_bytes(b"text")
    with pytest.raises(UsageError, match="not a readable image"):
        convert(tree, "val", tree / "val.json")
    with pytest.raises(UsageError, match="no such folder"):
        convert(tree, "train", tree / "val.json")


def test_labels_are_those_of_cityscapes() -> None:
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    evaluated = {s.id: s.name for s in labels if s.hasInstances and not s.ignoreInEval}
    assert evaluated == dict(CLASSES)
    assert {s.id for s in labels if s.ignoreInEval and s.id >= 0} == VOID_LABELS


def test_instances_are_those_of_cityscapes(
    tree: Path, content: dict[str, Any], evaluation: ModuleType
) -> None:
    for image in content["images"]:
        path = str(_truth_path(tree, _frame_of(image)))
        theirs = evaluation.instances2dict([path], False)[path]
        ours = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        assert {
            (name, entry["instID"], entry["pixelCount"])
            for name, entries in theirs.items()
            for entry in entries
            if name in CLASS_NAMES
        } == {(CLASSES[a["category_id"]], a["instance_id"], a["area"]) for a in ours}


def test_the_truth_as_prediction_has_full_precision(
    tree: Path, content: dict[str, Any], evaluation: ModuleType
) -> None:
    exact = [{**a, "score": 0.9} for a in content["annotations"] if not a["iscrowd"]]
    result = evaluation.evaluateImgLists(*_write_predictions(tree, content, exact), evaluation.args)
    assert result["averages"]["allAp"] == pytest.approx(1.0, abs=1e-12)
    assert set(result["averages"]["classes"]) == CLASS_NAMES


def test_perturbed_predictions_match_as_often(
    tree: Path, content: dict[str, Any], evaluation: ModuleType
) -> None:
    detections = _perturbed(content)
    lists = _write_predictions(tree, content, detections)
    result = evaluation.evaluateImgLists(*lists, evaluation.args)
    matches = json.loads((tree / "matches.json").read_text())
    for threshold in (0.5, 0.75):
        theirs = _their_matches(matches, threshold)
        assert theirs == _our_matches(content, detections, threshold)
        assert sum(theirs.values()) > 10
    ours = cityscapes_ap(
        coco.load(tree / "val.json", tree), detections, read_void(tree / "val.json")
    )
    assert 0.1 < ours["AP"] < 0.9
    assert ours["AP"] == pytest.approx(result["averages"]["allAp"], abs=1e-9)


def _their_matches(matches: dict[str, Any], threshold: float) -> dict[str, int]:
    counts = dict.fromkeys(sorted(CLASS_NAMES), 0)
    for image in matches.values():
        for name, instances in image["groundTruth"].items():
            for true in instances:
                for found in true["matchedPred"]:
                    union = true["pixelCount"] + found["pixelCount"] - found["intersection"]
                    hit = found["intersection"] / union > threshold
                    counts[name] += hit and true["instID"] >= 1000
    return counts


def _our_matches(
    content: dict[str, Any], detections: list[dict[str, Any]], threshold: float
) -> dict[str, int]:
    counts = dict.fromkeys(sorted(CLASS_NAMES), 0)
    for entry in content["annotations"]:
        same = [
            d["segmentation"]
            for d in detections
            if (d["image_id"], d["category_id"]) == (entry["image_id"], entry["category_id"])
        ]
        if same and not entry["iscrowd"]:
            ious = mask_api.iou(same, [entry["segmentation"]], [0])
            counts[CLASSES[entry["category_id"]]] += int((ious > threshold).sum())
    return counts


def test_a_loaded_split_is_the_converted_one(tree: Path, content: dict[str, Any]) -> None:
    loaded = cityscapes.load(tree, "val")
    assert loaded == coco.load(tree / "val.json", tree / "leftImg8bit" / "val")
    assert loaded.instance_count == len(content["annotations"])
    assert any(i.iscrowd for instances in loaded.instances.values() for i in instances)
    assert all(image.path.is_file() for image in loaded.images)
    (tree / "leftImg8bit" / "val" / f"{FRAMES[0]}_leftImg8bit.png").unlink()
    with pytest.raises(UsageError, match=r"--skip-missing"):
        cityscapes.load(tree, "val")
    assert len(cityscapes.load(tree, "val", skip_missing=True).images) == len(FRAMES) - 1
