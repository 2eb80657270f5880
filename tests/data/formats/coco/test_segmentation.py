"""Run lengths out of COCO's compressed code, and polygons, against masks as arrays."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as mask_api

from s4m_pipeline.data.formats.coco.segmentation import bbox_areas, decode_runs, encode_segmentation
from tests.small_sets import encode, rectangle


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_the_masks(seed: int) -> None:
    generator = np.random.default_rng(seed)
    height, width = (int(value) for value in generator.integers(1, 400, 2))
    mask = np.zeros((height, width), bool)
    for _ in range(generator.integers(0, 12)):
        y, x = generator.integers(0, height), generator.integers(0, width)
        mask[y : y + generator.integers(1, 90), x : x + generator.integers(1, 90)] ^= True
    if seed % 3 == 0:
        mask ^= generator.random(mask.shape) < 0.1
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    expected = np.diff([0, *edges, flat.size]).tolist()
    expected = [0, *expected] if flat[0] else expected
    assert decode_runs(encode(mask)) == expected
    rle = {"size": [height, width], "counts": encode(mask).decode()}
    assert encode_segmentation(rle, height, width) == encode(mask)
    uncompressed = {"size": [height, width], "counts": expected}
    again = encode_segmentation(uncompressed, height, width)
    decoded = mask_api.decode({"size": [height, width], "counts": again})
    assert np.array_equal(decoded.astype(bool), mask)


def test_several_polygons_make_one_mask() -> None:
    parts = [(2, 3, 6, 5), (5, 6, 9, 4)]
    polygons = [[x, y, x + w, y, x + w, y + h, x, y + h] for x, y, w, h in parts]
    rle = encode_segmentation(polygons, 20, 30)
    union = rectangle(20, 30, *parts[0]) | rectangle(20, 30, *parts[1])
    decoded = mask_api.decode({"size": [20, 30], "counts": rle}).astype(bool)
    assert np.array_equal(decoded, union)
    assert bbox_areas([rle], 20, 30) == ([(2.0, 3.0, 12.0, 7.0)], [int(union.sum())])


def test_nothing_has_no_boxes() -> None:
    assert bbox_areas([], 20, 30) == ([], [])


def test_areas_of_more_masks_than_a_byte_counts():
    masks = np.zeros((300, 6, 8), np.uint8)
    for n, mask in enumerate(masks):
        mask.flat[: n % 40 + 1] = 1
    rles = [mask_api.encode(np.asfortranarray(mask))["counts"] for mask in masks]
    boxes, areas = bbox_areas(rles, 6, 8)
    assert areas == [n % 40 + 1 for n in range(300)]
    assert len(boxes) == 300
