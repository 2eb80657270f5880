"""Cityscapes' metric against Cityscapes' own script on a generated tree, and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_api

from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.formats.cityscapes import convert
from s4m_pipeline.data.image_set import Category, ImageRecord, ImageSet
from s4m_pipeline.errors import UsageError
from s4m_pipeline.metrics.cityscapes_metric import cityscapes_ap, is_cityscapes, read_void
from tests.metrics.random_detections import as_detection, as_instance, disturbed, ellipse
from tests.small_sets import encode, rectangle

LABELS = {"person": 24, "rider": 25, "car": 26, "truck": 27}
LABELS |= {"bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33}
VOID = (0, 1, 4, 29)  # unlabeled, ego vehicle, static, caravan: not evaluated
SIZE = (160, 320)
NO_TRAIN = ("train",)  # a class without any true instance
NO_DETECTED = ("bus",)  # a class that is never detected


def _labels(generator: np.random.Generator) -> np.ndarray:
    """One image's instance ids: road, void, groups and instances, some with few pixels."""
    ids = np.full(SIZE, 7, np.int32)
    for number, label in enumerate(VOID):
        ids[ellipse(*SIZE, generator, 25)] = label
        ids[:2] = VOID[number]
    names = [name for name in LABELS if name not in NO_TRAIN]
    for number in range(40):
        label = LABELS[names[int(generator.integers(len(names)))]]
        largest = int(generator.choice([6, 18, 45]))
        shape = ellipse(*SIZE, generator, largest)
        ids[shape] = label if generator.random() < 0.2 else 1000 * label + number
    return ids


def _detections(
    image_id: int, ids: np.ndarray, generator: np.random.Generator
) -> list[dict[str, Any]]:
    """True regions, groups and void too, disturbed; doubled, mislabelled or made up at times."""
    shapes = [
        (int(i) // 1000 if i >= 1000 else int(i), ids == i)
        for i in np.unique(ids)
        if i != 7 and i not in VOID
    ]
    shapes += [(int(generator.choice(list(LABELS.values()))), np.isin(ids, VOID))]
    shapes += [(26, ellipse(*SIZE, generator, 30)) for _ in range(6)]
    found = []
    for label, shape in shapes:
        for _ in range(int(generator.choice([0, 1, 1, 2, 3]))):
            own = label if generator.random() < 0.9 else int(generator.choice([24, 26, 33]))
            if own in [LABELS[name] for name in NO_DETECTED]:
                continue
            mask = disturbed(shape, generator)  # may be empty: such ones do not count
            found.append(as_detection(image_id, mask, own, round(float(generator.random()), 2)))
    return found


def _frame(number: int) -> str:
    return f"aachen_{number:06d}_000019"


def _write_tree(folder: Path, images: list[np.ndarray]) -> None:
    """Write Cityscapes' folders of pictures and truth."""
    for kind in ("gtFine", "leftImg8bit"):
        (folder / kind / "val" / "aachen").mkdir(parents=True)
    for number, ids in enumerate(images):
        picture = folder / "leftImg8bit" / "val" / "aachen" / f"{_frame(number)}_leftImg8bit.png"
        Image.new("RGB", SIZE[::-1]).save(picture)
        truth = folder / "gtFine" / "val" / "aachen" / f"{_frame(number)}_gtFine_instanceIds.png"
        Image.fromarray(ids.astype(np.uint16)).save(truth)


def _script(monkeypatch: pytest.MonkeyPatch) -> Any:
    if not hasattr(np, "in1d"):  # the script's own name for it left numpy in 2.4
        monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    script = pytest.importorskip("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    monkeypatch.setattr(script, "writeDict2JSON", lambda *_: None)  # into the working folder
    return script


def _by_script(script: Any, folder: Path, detections: list[dict[str, Any]]) -> dict[str, Any]:
    """Write results as Cityscapes wants them, and let its script evaluate them."""
    results = folder / "results"
    results.mkdir()
    truth, lists = sorted((folder / "gtFine").rglob("*_instanceIds.png")), []
    for number in range(len(truth)):
        lines = []
        for place, found in enumerate(d for d in detections if d["image_id"] == number + 1):
            mask = results / f"{_frame(number)}_{place}.png"
            Image.fromarray(255 * mask_api.decode(found["segmentation"])).save(mask)
            lines.append(f"{mask.name} {found['category_id']} {found['score']!r}\n")
        lists.append(results / f"{_frame(number)}.txt")
        lists[-1].write_text("".join(lines))
    arguments = script.args
    arguments.predictionPath = str(results)
    arguments.gtInstancesFile = str(folder / "instances.json")
    arguments.JSONOutput, arguments.quiet = False, True
    paths = [[str(path) for path in found] for found in (lists, truth)]
    return script.evaluateImgLists(*paths, arguments)["averages"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_figures_as_cityscapes_own_script(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = _script(monkeypatch)
    generator = np.random.default_rng(seed)
    images = [_labels(generator) for _ in range(5)]
    detections = [d for n, ids in enumerate(images, 1) for d in _detections(n, ids, generator)]
    _write_tree(tmp_path, images)
    theirs = _by_script(script, tmp_path, detections)
    convert(tmp_path, "val", tmp_path / "val.json")
    truth = coco.load(tmp_path / "val.json", tmp_path / "leftImg8bit" / "val")
    ours = cityscapes_ap(truth, detections, read_void(tmp_path / "val.json"))
    assert is_cityscapes(truth)
    assert ours["AP"] == pytest.approx(theirs["allAp"], abs=1e-9)
    assert ours["AP50"] == pytest.approx(theirs["allAp50%"], abs=1e-9)
    assert 0.1 < ours["AP"] < ours["AP50"] < 0.9
    for name, figures in ours["per_class"].items():
        if name in NO_TRAIN:
            assert figures == {"AP": None, "AP50": None, "instances": 0}
            assert np.isnan(theirs["classes"][name]["ap"])
            continue
        assert figures["AP"] == pytest.approx(theirs["classes"][name]["ap"], abs=1e-9)
        assert figures["AP50"] == pytest.approx(theirs["classes"][name]["ap50%"], abs=1e-9)
    assert ours["per_class"]["bus"]["AP"] == 0.0
    assert cityscapes_ap(truth, detections)["AP"] < ours["AP"]  # void is not forgiven then


def _by_hand(*regions: tuple[tuple[int, int, int, int], bool]) -> ImageSet:
    truth = ImageSet([Category(26, "car")], [ImageRecord(1, "a.png", Path("a.png"), 100, 100)])
    truth.instances[1] = [
        as_instance(rectangle(100, 100, *box), 26, group) for box, group in regions
    ]
    return truth


def _found(box: tuple[int, int, int, int], score: float) -> dict[str, Any]:
    return as_detection(1, rectangle(100, 100, *box), 26, score)


def test_a_second_detection_of_an_instance_is_false_whichever_comes_first() -> None:
    truth = _by_hand(((0, 0, 20, 20), False))
    both = [_found((0, 0, 20, 20), 0.5), _found((0, 0, 20, 19), 0.9)]
    for detections in (both, both[::-1]):
        figures = cityscapes_ap(truth, detections)
        # From (0, 1) to recall 1 at precision 1, then down to 1/2 there: no area lost.
        assert figures["AP50"] == pytest.approx(1.0)
    late = [_found((0, 0, 20, 20), 0.5), _found((50, 50, 20, 20), 0.9)]
    # Points (0, 1), (0, 0) and (1, 1/2): a quarter.
    assert cityscapes_ap(truth, late)["AP50"] == pytest.approx(0.25)


def test_at_the_very_limits() -> None:
    half = _by_hand(((0, 0, 20, 20), False))
    assert cityscapes_ap(half, [_found((0, 0, 20, 10), 0.9)])["AP50"] == 0.0  # IoU 0.5, not above
    assert cityscapes_ap(half, [_found((0, 0, 20, 11), 0.9)])["AP50"] == 1.0
    assert cityscapes_ap(_by_hand(((0, 0, 10, 10), False)), [])["AP"] == 0.0  # 100 pixels count
    assert cityscapes_ap(_by_hand(((0, 0, 9, 11), False)), [])["AP"] is None


def test_what_is_forgiven() -> None:
    truth = _by_hand(((0, 0, 20, 20), False), ((40, 0, 40, 40), True), ((0, 60, 9, 9), False))
    hit = _found((0, 0, 20, 20), 0.5)
    in_group, small, mostly_in_group = (40, 0, 20, 20), (0, 60, 9, 9), (30, 0, 21, 20)
    for box in (in_group, small, mostly_in_group):
        assert cityscapes_ap(truth, [hit, _found(box, 0.9)])["AP50"] == pytest.approx(1.0), box
    assert cityscapes_ap(truth, [hit, _found((30, 0, 20, 20), 0.9)])["AP50"] == pytest.approx(0.25)
    void = {1: encode(rectangle(100, 100, 30, 0, 5, 20))}
    forgiven = cityscapes_ap(truth, [hit, _found((30, 0, 20, 20), 0.9)], void)
    assert forgiven["AP50"] == pytest.approx(1.0)
    assert forgiven["per_class"]["car"]["instances"] == 1
    assert cityscapes_ap(truth, [])["AP"] == 0.0


def test_detections_of_unknown_images_or_classes() -> None:
    truth = _by_hand(((0, 0, 20, 20), False))
    assert not is_cityscapes(truth)
    with pytest.raises(UsageError, match="category 5"):
        cityscapes_ap(truth, [{**_found((0, 0, 5, 5), 0.5), "category_id": 5}])


def test_void_is_read_from_the_images_of_a_coco_file(tmp_path: Path) -> None:
    void = encode(rectangle(6, 8, 0, 0, 3, 2))
    path = tmp_path / "labels.json"
    image = {"id": 4, "file_name": "a.png", "height": 6, "width": 8}
    rle = {"size": [6, 8], "counts": void.decode()}
    path.write_text(json.dumps({"images": [{**image, "void": rle}, {**image, "id": 5}]}))
    assert read_void(path) == {4: void}
    path.write_text(json.dumps({"images": [{**image, "void": {**rle, "size": [8, 6]}}]}))
    with pytest.raises(UsageError, match="void of image 4"):
        read_void(path)
