"""Boundary IoU and boundary AP against distance maps and faster-coco-eval's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_api
from scipy import ndimage

from s4m_pipeline.data.formats.coco.writer import to_coco_dict
from s4m_pipeline.metrics import coco_ap
from s4m_pipeline.metrics.boundary import band_width, boundary_band, boundary_rle
from s4m_pipeline.metrics.coco_engine import coco_tables
from tests.metrics.random_detections import random_case

ENGINES = ["faster-coco-eval", "pycocotools"]


def _random_mask(generator: np.random.Generator) -> np.ndarray:
    """Blobs with holes, some cut by the image's edge."""
    height, width = generator.integers(5, 90, 2)
    noise = ndimage.gaussian_filter(generator.standard_normal((height, width)), 2.0)
    return noise > np.quantile(noise, generator.uniform(0.1, 0.95))


def _band_by_distance(mask: np.ndarray, distance: int) -> np.ndarray:
    """Pixels of the mask whose chessboard distance to the outside is small enough."""
    padded = np.pad(mask, 1)
    far = ndimage.distance_transform_cdt(padded, metric="chessboard")[1:-1, 1:-1]
    return mask & (far <= distance)


@pytest.mark.parametrize("distance", [1, 2, 7])
def test_the_band_is_what_is_near_the_outside(distance: int) -> None:
    generator = np.random.default_rng(distance)
    for _ in range(40):
        mask = _random_mask(generator)
        found = boundary_band(mask, distance)
        np.testing.assert_array_equal(found.astype(bool), _band_by_distance(mask, distance))
    full = np.ones((9, 9), np.uint8)
    assert boundary_band(full, 1).sum() == 32  # the image's edge is an outline
    assert boundary_band(np.zeros((4, 5)), 1).sum() == 0


def test_the_bands_width() -> None:
    assert band_width(480, 640) == 16  # 2 % of 800
    assert band_width(1024, 2048) == 46  # 2 % of 2289.7
    assert band_width(10, 10) == 1


def test_bands_equal_those_of_faster_coco_eval() -> None:
    theirs = pytest.importorskip("faster_coco_eval.core.mask")
    generator = np.random.default_rng(5)
    for _ in range(40):
        rle = mask_api.encode(np.asfortranarray(_random_mask(generator).astype(np.uint8)))
        assert boundary_rle(rle)["counts"] == theirs.rleToBoundary(rle)["counts"]


def _plain_boundary_ap(content: dict[str, Any], detections: list[dict[str, Any]]) -> float:
    """Boundary AP by loops over arrays: no crowds, no area ranges, 101 recalls."""
    values = []
    for category in content["categories"]:
        for threshold in np.arange(0.5, 0.96, 0.05):
            values.append(_plain_class_ap(content, detections, category["id"], threshold))
    return float(np.mean(values))


def _plain_class_ap(
    content: dict[str, Any], detections: list[dict[str, Any]], category_id: int, threshold: float
) -> float:
    true = [a for a in content["annotations"] if a["category_id"] == category_id]
    ranked = sorted(
        (d for d in detections if d["category_id"] == category_id), key=lambda d: -d["score"]
    )
    used: set[int] = set()
    hits = []
    for found in ranked:
        best, at = threshold - 1e-10, None
        for truth in true:
            if truth["image_id"] == found["image_id"] and truth["id"] not in used:
                iou = _plain_iou(found, truth)
                if iou >= best:
                    best, at = iou, truth["id"]
        hits.append(at is not None)
        if at is not None:
            used.add(at)
    true_so_far = np.cumsum(hits)
    precision = true_so_far / np.arange(1, len(hits) + 1)
    recall = true_so_far / len(true)
    points = np.linspace(0, 1, 101)
    return float(np.mean([precision[recall >= r - 1e-12].max(initial=0.0) for r in points]))


def _plain_iou(a: dict[str, Any], b: dict[str, Any]) -> float:
    masks = [mask_api.decode(x["segmentation"]).astype(bool) for x in (a, b)]
    distance = max(1, round(0.02 * float(np.hypot(*masks[0].shape))))
    bands = [_band_by_distance(mask, distance) for mask in masks]

    def iou(x: np.ndarray, y: np.ndarray) -> float:
        return float((x & y).sum() / max((x | y).sum(), 1))

    return min(iou(*masks), iou(*bands))


@pytest.mark.parametrize("engine", ENGINES)
def test_boundary_ap_against_plain_arrays(engine: str) -> None:
    if engine == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    truth, detections = random_case(3, images=5, crowds=False)
    figures = coco_ap(truth, detections, kinds=("segm", "boundary"), engine=engine)
    plain = _plain_boundary_ap(to_coco_dict(truth), detections)
    assert figures["boundary"]["AP"] == pytest.approx(plain, abs=1e-9)
    assert 0.05 < figures["boundary"]["AP"] < figures["segm"]["AP"] < 0.95


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("max_dets", [100, 2])
def test_boundary_ap_equals_that_of_faster_coco_eval(engine: str, max_dets: int) -> None:
    """Their own mode makes the band of every mask; ours only where it can matter. With crowds."""
    fast = pytest.importorskip("faster_coco_eval")
    truth, detections = random_case(4, images=12)
    content = to_coco_dict(truth)
    theirs_truth = fast.COCO()
    theirs_truth.dataset = to_coco_dict(truth)
    theirs_truth.createIndex()
    results = [{k: v for k, v in d.items() if k != "bbox"} for d in detections]
    theirs = fast.COCOeval_faster(theirs_truth, theirs_truth.loadRes(results), "boundary")
    theirs.params.maxDets = [max_dets]
    theirs.evaluate()
    theirs.accumulate()
    ours = coco_tables(content, detections, "boundary", max_dets, engine)
    shape = (*ours.precision.shape, 1)
    np.testing.assert_allclose(
        ours.precision, np.reshape(theirs.eval["precision"], shape)[..., -1], atol=1e-9
    )
    shape = (*ours.recall.shape, 1)
    np.testing.assert_allclose(
        ours.recall, np.reshape(theirs.eval["recall"], shape)[..., -1], atol=1e-9
    )
    assert 0 < ours.recall[0, :, 0].max() < 1
