"""Average precision in both engines, and label quality against a plain numpy reckoning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_api

from s4m_pipeline.data.coco import ImageSet, read_coco
from s4m_pipeline.data.metrics import coco_ap, label_quality, to_coco_dict
from s4m_pipeline.errors import UsageError
from tests.data.conftest import boxes_of, coco_content, encode, rectangle, write_json


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


def _perfect(truth: ImageSet) -> list[dict[str, Any]]:
    return [
        _detection(truth, number, box, category_id, 0.9)
        for number in range(6)
        for category_id, box in boxes_of(number)
    ]


@pytest.mark.parametrize("engine", ["faster-coco-eval", "pycocotools"])
def test_perfect_none_and_half(small_set: tuple[Path, Path], engine: str) -> None:
    truth = read_coco(*small_set)
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
    assert half["per_class"]["disc"] == {"AP": 1.0, "AP50": 1.0, "AP75": 1.0, "instances": 8}
    assert half["per_class"]["box"] == {"AP": 0.0, "AP50": 0.0, "AP75": 0.0, "instances": 5}


def test_iou_thresholds_by_hand(small_set: tuple[Path, Path]) -> None:
    """A single instance found with IoU 0.6 counts at thresholds 0.5, 0.55 and 0.6."""
    content = coco_content()
    content["annotations"] = content["annotations"][1:2]  # box 18, 15, 9, 13 in image 0
    write_json(small_set[0], content)
    truth = read_coco(*small_set)
    found = _detection(truth, 0, (18, 15, 9, 8), 1, 0.3)  # 8 of 13 rows: 0.615
    figures = coco_ap(truth, [found])["segm"]
    assert figures["AP"] == pytest.approx(0.3)
    assert (figures["AP50"], figures["AP75"]) == (1.0, 0.0)
    assert figures["per_class"]["disc"]["AP"] is None


def _shifted(truth: ImageSet, seed: int) -> list[dict[str, Any]]:
    """The true masks moved sideways at random, with random scores and some other classes."""
    generator = np.random.default_rng(seed)
    detections = []
    for image in truth.images:
        for instance in truth.instances.get(image.id, []):
            size = [image.height, image.width]
            mask = mask_api.decode({"size": size, "counts": instance.rle})
            rle = mask_api.encode(np.asfortranarray(np.roll(mask, generator.integers(-25, 25), 1)))
            other = generator.random() < 0.1
            detections.append(
                {
                    "image_id": image.id,
                    "category_id": truth.categories[0].id if other else instance.category_id,
                    "score": float(generator.random()),
                    "segmentation": rle,
                    "bbox": [float(value) for value in mask_api.toBbox(rle)],
                }
            )
    return detections


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
    truth = read_coco(data / annotations, data / images)
    detections = _shifted(truth, 1)
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


def test_the_masks_area_decides_the_size_range(small_set: tuple[Path, Path]) -> None:
    """A thin L in a large box is small by its mask, so it counts as a false alarm among small."""
    truth = read_coco(*small_set)
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


def test_unknown_image_or_category(small_set: tuple[Path, Path]) -> None:
    truth = read_coco(*small_set)
    found = _perfect(truth)[0]
    with pytest.raises(UsageError, match="image 77"):
        coco_ap(truth, [{**found, "image_id": 77}])
    with pytest.raises(UsageError, match="category 77"):
        coco_ap(truth, [{**found, "category_id": 77}])


def _plain_quality(truth: ImageSet, labels: dict[int, list]) -> dict[str, Any]:
    """The same figures with masks as arrays and no care for speed."""
    matched, best, count = [], [], 0
    for image in truth.images:
        size = [image.height, image.width]

        def mask(rle: bytes, size: list[int] = size) -> np.ndarray:
            return mask_api.decode({"size": size, "counts": rle}).astype(bool)

        true = [(t.category_id, mask(t.rle)) for t in truth.instances.get(image.id, [])]
        ours = sorted(labels.get(image.id, []), key=lambda label: -label[2])
        ours = [(label[0], mask(label[1])) for label in ours]
        count += len(ours)
        iou = [[(a & b).sum() / max((a | b).sum(), 1) for _, b in true] for _, a in ours]
        for j in range(len(true)):
            top = max((row[j] for row in iou), default=0)
            if top > 0.1:
                best.append(top)
        used: set[int] = set()
        for i, (category_id, _) in enumerate(ours):
            options = [
                (iou[i][j], j)
                for j in range(len(true))
                if j not in used and true[j][0] == category_id and iou[i][j] > 0.5
            ]
            if options:
                value, j = max(options)
                used.add(j)
                matched.append(value)
    return {
        "precision": len(matched) / count,
        "recall": len(matched) / truth.instance_count,
        "mean_iou": np.mean(matched),
        "mean_best_iou": np.mean(best),
        "overlapped": len(best),
        "labels": count,
    }


def _labels(detections: list[dict[str, Any]]) -> dict[int, list]:
    labels: dict[int, list] = {}
    for found in detections:
        label = (found["category_id"], found["segmentation"]["counts"], found["score"])
        labels.setdefault(found["image_id"], []).append(label)
    return labels


def test_label_quality_against_arrays(shared_dir: Path) -> None:
    folder = shared_dir / "data/animals7/test"
    truth = read_coco(folder / "_annotations.coco.json", folder)
    labels = _labels(_shifted(truth, 2))
    labels.pop(next(iter(labels)))
    figures = label_quality(truth, labels)
    plain = _plain_quality(truth, labels)
    assert {key: figures[key] for key in plain} == pytest.approx(plain)
    assert 0.2 < figures["precision"] < 1
    per_class = figures["per_class"].values()
    for count in ("truth", "labels", "matched", "overlapped"):
        assert sum(tally[count] for tally in per_class) == figures[count]


def test_label_quality_by_hand(small_set: tuple[Path, Path]) -> None:
    truth = read_coco(*small_set)
    image = truth.images[1]
    (_, disc), (_, box) = boxes_of(1)  # disc 5, 5, 12, 10 and box 18, 14, 9, 13

    def mask(x: int, y: int, w: int, h: int) -> bytes:
        return encode(rectangle(image.height, image.width, x, y, w, h))

    labels = {
        image.id: [
            (3, mask(disc[0], disc[1], 12, 8), 0.4),  # IoU 0.8, but a better scored one is first
            (3, mask(disc[0], disc[1], 12, 6), 0.9),  # IoU 0.6: matched
            (3, mask(*box), 0.8),  # right place, wrong class
        ]
    }
    figures = label_quality(truth, labels)
    assert figures["truth"] == truth.instance_count
    assert (figures["labels"], figures["matched"]) == (3, 1)
    assert figures["precision"] == pytest.approx(1 / 3)
    assert figures["mean_iou"] == pytest.approx(0.6)
    assert figures["mean_best_iou"] == pytest.approx((0.8 + 1.0) / 2)
    assert figures["per_class"]["box"]["mean_iou"] is None
    assert figures["per_class"]["box"]["mean_best_iou"] == pytest.approx(1.0)
    empty = label_quality(truth, {})
    assert (empty["precision"], empty["recall"], empty["mean_iou"]) == (None, 0.0, None)


def test_a_label_in_a_crowd_does_not_count(small_set: tuple[Path, Path]) -> None:
    content = coco_content()
    content["annotations"][0]["iscrowd"] = 1
    write_json(small_set[0], content)
    truth = read_coco(*small_set)
    image = truth.images[0]
    inside = encode(rectangle(image.height, image.width, 5, 6, 3, 3))
    figures = label_quality(truth, {image.id: [(3, inside, 0.9), (1, inside, 0.9)]})
    assert figures["truth"] == truth.instance_count - 1
    assert figures["labels"] == 1  # the one of the crowd's class is passed over


def test_labels_of_an_image_without_truth_are_refused(small_set: tuple[Path, Path]) -> None:
    truth = read_coco(*small_set)
    with pytest.raises(UsageError, match="image 7"):
        label_quality(truth, {7: []})
