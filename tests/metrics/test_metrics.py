"""Average precision in both engines, against COCO's own summary and by hand."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.formats.coco.writer import to_coco_dict
from s4m_pipeline.data.image_set import ImageSet
from s4m_pipeline.errors import UsageError
from s4m_pipeline.metrics import (
    coco_ap,
    default_engine,
    score_detections,
)
from tests.metrics.random_detections import CLASSES, random_case, shifted
from tests.small_sets import boxes_of, coco_content, encode, rectangle, write_json


def _detection(
    truth: ImageSet, number: int, box: tuple[int, ...], category_id: int, score: float
) -> dict[str, Any]:
    image = truth.images[number]
    rle = encode(rectangle(image.height, image.width, *box))
    return {
        "image_id": image.id,
        "category_id": category_id,
        "score": score,
        "bbox": list(box),
        "segmentation": {"size": [image.height, image.width], "counts": rle},
    }


def _sound_content() -> dict[str, Any]:
    """The small set's file with the boxes and areas of its masks."""
    content = coco_content()
    boxes = [box for number in range(6) for _, box in boxes_of(number)]
    for entry, box in zip(content["annotations"], boxes, strict=True):
        entry |= {"bbox": list(box), "area": box[2] * box[3]}
    return content


def _perfect(truth: ImageSet) -> list[dict[str, Any]]:
    return [
        _detection(truth, number, box, category_id, 0.9)
        for number in range(6)
        for category_id, box in boxes_of(number)
    ]


@pytest.mark.parametrize("engine", ["faster-coco-eval", "pycocotools"])
def test_perfect_none_and_half(small_set: tuple[Path, Path], engine: str) -> None:
    truth = coco.load(write_json(small_set[0], _sound_content()), small_set[1])
    perfect = coco_ap(truth, _perfect(truth), engine=engine)
    for kind in ("segm", "bbox"):
        # annotation ids from 0 would cost one match in pycocotools
        assert perfect[kind]["AP"] == pytest.approx(1.0)
        assert perfect[kind]["AR"] == pytest.approx(1.0)
        assert perfect[kind]["AP_large"] is None
    nothing = coco_ap(truth, [], engine=engine)
    assert nothing["segm"]["AP"] == nothing["bbox"]["AP50"] == 0.0
    discs = [found for found in _perfect(truth) if found["category_id"] == 3]
    half = coco_ap(truth, discs, engine=engine)["segm"]
    assert half["AP"] == pytest.approx(0.5)
    keys = ("AP", "AP50", "AP75", "AP_small", "AR", "AR_small", "instances")
    assert [half["per_class"]["disc"][key] for key in keys] == [*[1.0] * 6, 8]
    assert [half["per_class"]["box"][key] for key in keys] == [*[0.0] * 6, 5]


def test_iou_thresholds_by_hand(small_set: tuple[Path, Path]) -> None:
    """A single instance found with IoU 0.6 counts at thresholds 0.5, 0.55 and 0.6."""
    content = _sound_content()
    content["annotations"] = content["annotations"][1:2]  # box 18, 15, 9, 13 in image 0
    write_json(small_set[0], content)
    truth = coco.load(*small_set)
    found = _detection(truth, 0, (18, 15, 9, 8), 1, 0.3)  # 8 of 13 rows: 0.615
    figures = coco_ap(truth, [found])["segm"]
    assert figures["AP"] == pytest.approx(0.3)
    assert (figures["AP50"], figures["AP75"]) == (1.0, 0.0)
    assert figures["per_class"]["disc"]["AP"] is None


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("animals7/valid/_annotations.coco.json", "animals7/valid"),
        ("tiny_coco/annotations/instances_train2017.json", "tiny_coco/images/train2017"),
        ("nuclei/valid/_annotations.coco.json", "nuclei/valid"),
    ],
)
@pytest.mark.parametrize("max_dets", [100, 3])
def test_engines_agree(shared_dir: Path, annotations: str, images: str, max_dets: int) -> None:
    pytest.importorskip("faster_coco_eval")
    data = shared_dir / "data"
    truth = coco.load(data / annotations, data / images)
    detections = shifted(truth, 1)
    before = [dict(found) for found in detections]
    fast = coco_ap(truth, detections, max_dets, engine="faster-coco-eval")
    slow = coco_ap(truth, detections, max_dets, engine="pycocotools")
    assert detections == before
    assert 0 < slow["segm"]["AP50"] < 1
    for kind, figures in slow.items():
        for name, value in figures.items():
            if name == "per_class":
                for label, per_class in value.items():
                    assert fast[kind][name][label] == pytest.approx(per_class, abs=1e-9)
            else:
                assert fast[kind][name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("max_dets", [100, 3])
def test_engines_agree_on_random_detections(max_dets: int) -> None:
    """With crowds, ties, several detections of one instance, and an image without truth."""
    pytest.importorskip("faster_coco_eval")
    truth, detections = random_case(1, images=20)
    kinds = ("segm", "bbox", "boundary")
    fast = coco_ap(truth, detections, max_dets, kinds, "faster-coco-eval")
    slow = coco_ap(truth, detections, max_dets, kinds, "pycocotools")
    for kind in kinds:
        for figures, other in [
            (fast[kind], slow[kind]),
            *((fast[kind]["per_class"][name], slow[kind]["per_class"][name]) for name in CLASSES),
        ]:
            assert figures.keys() == other.keys()
            assert 0.02 < figures["AP"] < figures["AP50"] < 0.95
            for name in figures.keys() - {"per_class"}:
                assert figures[name] is not None, name
                assert figures[name] == pytest.approx(other[name], abs=1e-9), name


def test_without_faster_coco_eval_pycocotools_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, detections = random_case(5, images=4)
    if default_engine() != "pycocotools":
        assert score_detections(truth, detections)["engine"].startswith("faster-coco-eval ")
    before = score_detections(truth, detections)["boundary"]["AP50"]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    figures = score_detections(truth, detections)
    assert figures["engine"] == f"pycocotools {metadata.version('pycocotools')}"
    assert figures["boundary"]["AP50"] == pytest.approx(before, abs=1e-9)


def test_recall_by_size_is_that_of_cocos_own_summary() -> None:
    truth, detections = random_case(2, images=10)
    figures = coco_ap(truth, detections, kinds=("segm",))["segm"]
    content = COCO()
    content.dataset = to_coco_dict(truth)
    content.createIndex()
    results = [{k: v for k, v in d.items() if k != "bbox"} for d in detections]
    evaluation = COCOeval(content, content.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    names = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]
    recalls = ["AR", "AR_small", "AR_medium", "AR_large"]
    assert [figures[name] for name in names] == pytest.approx(evaluation.stats[:6].tolist())
    assert [figures[name] for name in recalls] == pytest.approx(evaluation.stats[8:].tolist())
    evaluation.params.catIds = [2]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    dog = figures["per_class"]["dog"]
    assert [dog[name] for name in names] == pytest.approx(evaluation.stats[:6].tolist())
    assert [dog[name] for name in recalls] == pytest.approx(evaluation.stats[8:].tolist())


def test_a_detections_mask_or_box_decides_its_size_range(small_set: tuple[Path, Path]) -> None:
    """A thin L in a large box is small by its mask, so it counts as a false alarm among small."""
    truth = coco.load(write_json(small_set[0], _sound_content()), small_set[1])
    image = truth.images[5]
    thin = rectangle(image.height, image.width, 2, 2, 50, 3)
    thin |= rectangle(image.height, image.width, 2, 2, 3, 50)
    alarm = {
        **_detection(truth, 5, (2, 2, 50, 50), 1, 1.0),
        "segmentation": {"size": [image.height, image.width], "counts": encode(thin)},
    }
    figures = coco_ap(truth, [alarm, *_perfect(truth)])
    assert figures["segm"]["AP_small"] < 0.95
    assert figures["bbox"]["AP_small"] == pytest.approx(1.0)
    assert all(a["id"] > 0 for a in to_coco_dict(truth)["annotations"])


def test_the_files_area_decides_a_true_instances_size_range(small_set: tuple[Path, Path]) -> None:
    content = _sound_content()
    content["annotations"][0]["area"] = 32**2 + 0.5
    truth = coco.load(write_json(small_set[0], content), small_set[1])
    figures = coco_ap(truth, _perfect(truth)[1:])
    for kind in ("segm", "bbox"):
        assert figures[kind]["AP_small"] == pytest.approx(1.0)
        assert figures[kind]["AP_medium"] == 0.0


def test_unknown_image_or_category(small_set: tuple[Path, Path]) -> None:
    truth = coco.load(*small_set)
    found = _perfect(truth)[0]
    with pytest.raises(UsageError, match="image 77"):
        coco_ap(truth, [{**found, "image_id": 77}])
    with pytest.raises(UsageError, match="category 77"):
        coco_ap(truth, [{**found, "category_id": 77}])
