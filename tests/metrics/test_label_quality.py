"""Label quality against a plain numpy reckoning and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_api

from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.image_set import ImageSet
from s4m_pipeline.errors import UsageError
from s4m_pipeline.metrics import Label, label_quality
from tests.metrics.random_detections import shifted
from tests.small_sets import boxes_of, coco_content, encode, rectangle, write_json


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
        label = Label(found["category_id"], found["segmentation"]["counts"], found["score"])
        labels.setdefault(found["image_id"], []).append(label)
    return labels


def test_label_quality_against_arrays(shared_dir: Path) -> None:
    folder = shared_dir / "data/animals7/test"
    truth = coco.load(folder / "_annotations.coco.json", folder)
    labels = _labels(shifted(truth, 2))
    labels.pop(next(iter(labels)))
    figures = label_quality(truth, labels)
    plain = _plain_quality(truth, labels)
    assert {key: figures[key] for key in plain} == pytest.approx(plain)
    assert 0.2 < figures["precision"] < 1
    per_class = figures["per_class"].values()
    for count in ("truth", "labels", "matched", "overlapped"):
        assert sum(tally[count] for tally in per_class) == figures[count]


def test_label_quality_by_hand(small_set: tuple[Path, Path]) -> None:
    truth = coco.load(*small_set)
    image = truth.images[1]
    (_, disc), (_, box) = boxes_of(1)  # disc 5, 5, 12, 10 and box 18, 14, 9, 13

    def mask(x: int, y: int, w: int, h: int) -> bytes:
        return encode(rectangle(image.height, image.width, x, y, w, h))

    labels = {
        image.id: [
            Label(3, mask(disc[0], disc[1], 12, 8), 0.4),  # IoU 0.8, but a better score is first
            Label(3, mask(disc[0], disc[1], 12, 6), 0.9),  # IoU 0.6: matched
            Label(3, mask(*box), 0.8),  # right place, wrong class
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
    truth = coco.load(*small_set)
    image = truth.images[0]
    inside = encode(rectangle(image.height, image.width, 5, 6, 3, 3))
    figures = label_quality(truth, {image.id: [Label(3, inside, 0.9), Label(1, inside, 0.9)]})
    assert figures["truth"] == truth.instance_count - 1
    assert figures["labels"] == 1  # the one of the crowd's class is passed over


def test_labels_of_an_image_without_truth_are_refused(small_set: tuple[Path, Path]) -> None:
    truth = coco.load(*small_set)
    with pytest.raises(UsageError, match="image 7"):
        label_quality(truth, {7: []})
