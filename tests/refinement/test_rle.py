"""RLE from crops against pycocotools on whole masks."""

import numpy as np
import pytest
from pycocotools import mask as coco

from s4m_pipeline.refinement import rle
from tests.segmenter.fakes import encode_mask


def _coco(mask: np.ndarray) -> dict:
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


def _blobs(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // 5 + 2, width // 5 + 2)) > 0.6
    return np.kron(coarse, np.ones((5, 5), bool))[:height, :width]


@pytest.mark.parametrize("shape", [(1, 1), (7, 40), (40, 7), (63, 101)])
@pytest.mark.parametrize("kind", ["blobs", "empty", "full"])
def test_whole_mask_equals_pycocotools(shape: tuple[int, int], kind: str) -> None:
    mask = {
        "blobs": _blobs(1, *shape),
        "empty": np.zeros(shape, bool),
        "full": np.ones(shape, bool),
    }
    assert rle.encode_crop(mask[kind], 0, 0, *shape) == _coco(mask[kind])["counts"]


@pytest.mark.parametrize(
    "box", [(0, 0, 101, 63), (10, 20, 30, 15), (0, 48, 101, 15), (71, 0, 30, 63)]
)
@pytest.mark.parametrize("fortran", [False, True])
def test_crop_equals_whole_mask(box: tuple[int, int, int, int], fortran: bool) -> None:
    x, y, w, h = box
    mask = np.zeros((63, 101), bool)
    mask[y : y + h, x : x + w] = _blobs(2, h, w)
    crop = mask[y : y + h, x : x + w]
    crop = np.asfortranarray(crop) if fortran else np.ascontiguousarray(crop)
    assert rle.encode_crop(crop, x, y, 63, 101) == _coco(mask)["counts"]


def test_crop_without_pixels_is_an_empty_mask() -> None:
    expected = _coco(np.zeros((20, 30), bool))["counts"]
    assert rle.encode_crop(np.zeros((0, 0), bool), 0, 0, 20, 30) == expected
    assert rle.encode_crop(np.zeros((3, 4), bool), 5, 6, 20, 30) == expected


def test_crop_outside_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves the 20 x 30 image"):
        rle.encode_crop(np.ones((5, 5), bool), 26, 0, 20, 30)


@pytest.mark.parametrize("seed", [3, 4])
def test_bbox_area_and_iou_equal_pycocotools(seed: int) -> None:
    a, b = _blobs(seed, 63, 101), _blobs(seed + 10, 63, 101)
    a[:9], a[:, 90:] = False, False
    first, second = encode_mask(a), encode_mask(b)
    bbox, area = rle.bbox_area(first, 63, 101)
    assert area == a.sum() == coco.area(_coco(a))
    assert list(bbox) == coco.toBbox(_coco(a)).tolist()
    expected = coco.iou([_coco(a)], [_coco(b)], [0])[0, 0]
    assert rle.iou(first, second, 63, 101) == pytest.approx(expected, abs=1e-12)


def test_empty_masks() -> None:
    empty = encode_mask(np.zeros((5, 6), bool))
    full = encode_mask(np.ones((5, 6), bool))
    assert rle.bbox_area(empty, 5, 6) == ((0, 0, 0, 0), 0)
    assert rle.iou(empty, empty, 5, 6) == 0
    assert rle.iou(empty, full, 5, 6) == 0


def test_pairs_of_masks_equal_numpy() -> None:
    masks = [_blobs(seed, 63, 101) for seed in range(4)] + [np.zeros((63, 101), bool)]
    masks[3] &= masks[0]
    rles = [encode_mask(mask) for mask in masks]
    ious, shares = rle.pairwise_iou(rles, 63, 101), rle.pairwise_containment(rles, 63, 101)
    for i, a in enumerate(masks):
        for j, b in enumerate(masks):
            both, either, smaller = (a & b).sum(), (a | b).sum(), min(a.sum(), b.sum())
            assert ious[i, j] == both / max(either, 1)
            assert shares[i, j] == both / max(smaller, 1)
    assert shares[3, 0] == 1 > ious[3, 0]
    assert rle.pairwise_iou([], 63, 101).shape == (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_difference_and_merge_equal_numpy(seed: int) -> None:
    for a, b in [
        (_blobs(seed, 63, 101), _blobs(seed + 10, 63, 101)),
        (_blobs(seed, 63, 101), np.ones((63, 101), bool)),
        (_blobs(seed, 63, 101), np.zeros((63, 101), bool)),
    ]:
        first, second = encode_mask(a), encode_mask(b)
        assert rle.difference(first, second, 63, 101) == encode_mask(a & ~b)
        assert rle.merge(first, second, 63, 101) == encode_mask(a | b)


@pytest.mark.parametrize("kind", ["blobs", "empty", "full", "first pixel"])
def test_points_inside_equal_indexing_the_mask(kind: str) -> None:
    mask = {
        "blobs": _blobs(5, 63, 101),
        "empty": np.zeros((63, 101), bool),
        "full": np.ones((63, 101), bool),
        "first pixel": np.arange(63 * 101).reshape(63, 101) == 0,
    }[kind]
    y, x = np.mgrid[:63, :101]
    for shift in (0, 0.5, 0.99):
        points = np.stack([x.ravel(), y.ravel()], 1) + shift
        found = rle.contains(encode_mask(mask), points, 63, 101)
        assert np.array_equal(found.reshape(63, 101), mask)
    outside = np.array([[-3, -3], [101, 63], [200, 0]])
    expected = [mask[0, 0], mask[62, 100], mask[0, 100]]
    assert rle.contains(encode_mask(mask), outside, 63, 101).tolist() == expected
    assert rle.contains(encode_mask(mask), np.zeros((0, 2)), 63, 101).shape == (0,)
