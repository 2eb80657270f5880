"""Pasted instances, against pixel-by-pixel expectations."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.structures.bbox import HorizontalBoxes  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

from s4m_pipeline.training_data.paste import PasteInstances  # noqa: E402
from s4m_pipeline.training_data.seeding import seeded  # noqa: E402
from s4m_pipeline.training_data.transforms import FilterInstances, PackInstances  # noqa: E402
from tests.small_sets import rectangle  # noqa: E402


def boxes_by_loop(masks: np.ndarray) -> np.ndarray:
    """x1, y1, x2, y2 of each mask, one by one."""
    boxes = []
    for mask in masks:
        ys, xs = np.nonzero(mask)
        boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    return np.array(boxes, np.float32).reshape(-1, 4)


def results_of(
    image: np.ndarray, masks: np.ndarray, labels: list[int], ignored: list[int], first: int
) -> dict[str, Any]:
    """A results dict after geometry; of six instances the dataset had, these are left."""
    count = len(labels)
    height, width = image.shape[:2]
    bitmap = BitmapMasks(masks.astype(np.uint8), height, width)
    return {
        "img": image,
        "img_shape": (height, width),
        "img_id": first,
        "gt_masks": bitmap,
        "gt_bboxes": bitmap.get_bboxes(HorizontalBoxes),
        "gt_bboxes_labels": np.array(labels, np.int64),
        "gt_ignore_flags": np.array([place in ignored for place in range(count)], bool),
        "gt_instances_ids": 5 - np.arange(count),
        "instances": [{}] * 6,
        "class_probs": (first + np.arange(12, dtype=np.float32)).reshape(6, 2),
        "quality": first + np.arange(6, dtype=np.float32),
        "branch": "unlabelled",
    }


def random_results(seed: int, size: tuple[int, int], count: int, first: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    masks = np.zeros((count, *size), bool)
    for mask in masks:
        y, x = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
        part = rng.integers(3, 9, 2)
        mask[y : y + part[0], x : x + part[1]] = rng.random((8, 8))[: part[0], : part[1]] < 0.8
        mask[y, x] = True
    return results_of(image, masks, list(rng.integers(0, 9, count)), [1], first)


def test_mmdetections_own_mixing_dataset_pastes_without_our_loading() -> None:
    """A stock results dict has no ids of instances; the wrapper draws the partner."""
    from mmdet.datasets import MultiImageMixDataset
    from mmengine.dataset import BaseDataset

    class Two(BaseDataset):
        _metainfo: ClassVar[dict[str, Any]] = {}

        def __init__(self) -> None: ...

        def full_init(self) -> None: ...

        def __len__(self) -> int:
            return 2

        def __getitem__(self, place: int) -> dict[str, Any]:
            results = random_results(place, (40, 50), 3, 0)
            for name in ("gt_instances_ids", "class_probs", "quality"):
                del results[name]
            return results

    step = {"type": "PasteInstances", "mode": "static", "min_area": 0.0}
    np.random.seed(4)
    with DefaultScope.overwrite_default_scope("mmdet"):
        mixed = MultiImageMixDataset(Two(), [step])
        items = [mixed[0] for _ in range(8)]
    plain = Two()[0]
    changed = [f for f in items if not np.array_equal(f["img"], plain["img"])]
    assert changed, "the partner was drawn at least once"
    for results in changed:
        count = len(results["gt_masks"].masks)
        assert count == len(results["gt_bboxes"]) == len(results["gt_bboxes_labels"])
        assert results["gt_ignore_flags"].shape == (count,)
        partner = Two()[1]
        moved = partner["gt_masks"].masks[~partner["gt_ignore_flags"]].any(0)
        assert np.array_equal(results["pasted"], moved)
        assert np.array_equal(results["img"][moved], partner["img"][moved])


@pytest.mark.parametrize(
    "sizes", [((30, 40), (30, 40)), ((30, 24), (20, 40)), ((20, 40), (33, 20))]
)
def test_static_paste_equals_a_pixel_loop(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    own, partner = random_results(0, sizes[0], 5, 100), random_results(1, sizes[1], 4, 200)
    before = copy.deepcopy(partner)
    source, theirs = partner["img"], partner["gt_masks"].masks
    areas = theirs.sum((1, 2), dtype=int)
    middle = np.median(areas[[0, 2, 3]])
    limit = middle / (sizes[1][0] * sizes[1][1]) - 1e-9
    moving = [k for k in (0, 2, 3) if areas[k] >= middle]
    assert len(moving) == 2, "one is to be kept back"
    image = own["img"].copy()
    masks = own["gt_masks"].masks.astype(bool)
    came = np.zeros((len(moving), *sizes[0]), bool)
    for y in range(min(sizes[0][0], sizes[1][0])):
        for x in range(min(sizes[0][1], sizes[1][1])):
            for place, k in enumerate(moving):
                if theirs[k, y, x]:
                    image[y, x] = source[y, x]
                    masks[:, y, x] = False
                    came[place, y, x] = True
    result = PasteInstances("static", limit)({**own, "mix_results": [partner]})
    expected = np.concatenate([masks, came])
    kept = expected.any((1, 2))
    assert np.array_equal(result["img"], image)
    assert np.array_equal(result["gt_masks"].masks.astype(bool), expected[kept])
    assert np.array_equal(result["pasted"], came.any(0))
    assert np.array_equal(result["gt_bboxes"].tensor.numpy(), boxes_by_loop(expected[kept]))
    labels = [*own["gt_bboxes_labels"], *before["gt_bboxes_labels"][moving]]
    assert result["gt_bboxes_labels"].tolist() == np.array(labels)[kept].tolist()
    ids = result["gt_instances_ids"]
    quality = [*(100 + 5 - np.arange(5)), *(200 + 5 - np.array(moving))]
    assert result["quality"][ids].tolist() == np.array(quality)[kept].tolist()
    assert "mix_results" not in result
    assert np.array_equal(partner["img"], before["img"])
    assert np.array_equal(theirs, before["gt_masks"].masks)
    assert np.array_equal(partner["class_probs"], before["class_probs"])


def blocks(size: tuple[int, int], boxes: list[tuple[int, int, int, int]]) -> dict[str, Any]:
    """An image of flat rectangles, each in a colour of its own, its instances."""
    image = np.zeros((*size, 3), np.uint8)
    masks = np.stack([rectangle(*size, *box) for box in boxes])
    for place, mask in enumerate(masks):
        image[mask] = 40 * (place + 1)
    return results_of(image, masks, list(range(len(boxes))), [], 200)


def test_dynamic_paste_rescales_places_and_occludes() -> None:
    size = (60, 80)
    partner = blocks((50, 50), [(0, 0, 20, 10), (25, 20, 20, 25), (5, 30, 15, 15)])
    sides = [(20, 10), (20, 25), (15, 15)]
    own_mask = rectangle(*size, 10, 10, 60, 40)
    corners, factors, overlaps = [], [], 0
    for draw in range(60):
        own = results_of(np.full((*size, 3), 7, np.uint8), own_mask[None], [8], [], 100)
        with seeded(0, draw):
            result = PasteInstances("dynamic", 0.0)({**own, "mix_results": [partner]})
        masks = result["gt_masks"].masks.astype(bool)
        values = result["img"][..., 0]
        for mask, label in zip(masks, result["gt_bboxes_labels"], strict=True):
            colour = 7 if label == 8 else 40 * (label + 1)
            assert (values[mask] == colour).all(), "a mask is what is seen of its instance"
            if label != 8:
                assert mask.sum() == (values == colour).sum()
        assert (masks.sum(0) <= 1).all()
        assert np.array_equal(result["pasted"], values != 7)
        assert np.array_equal(masks[0], own_mask & (values == 7))
        assert np.array_equal(result["gt_bboxes"].tensor.numpy(), boxes_by_loop(masks))
        last = masks[-1]  # nothing comes after it
        ys, xs = np.nonzero(last)
        assert last.sum() == np.ptp(ys + 0) * np.ptp(xs) + np.ptp(ys) + np.ptp(xs) + 1
        corners.append((xs.min(), ys.min()))
        factors.append(((np.ptp(xs) + 1) / sides[2][0], (np.ptp(ys) + 1) / sides[2][1]))
        overlaps += masks[1].sum() < 0.8**2 * 200 - 30
    assert len(set(corners)) > 50
    assert all(x in range(80) and y in range(60) for x, y in corners)
    assert max(x for x, _ in corners) > 50
    assert min(np.ravel(factors)) >= 12 / 15
    assert max(np.ravel(factors)) <= 18 / 15
    assert {round(x * 15) for x, _ in factors} >= {12, 13, 15, 17, 18}
    assert all(x == y for x, y in factors), "both sides by one factor"
    assert overlaps > 0


def drawn_patch(image: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> list[Any]:
    """A mask and its pixels on a plane of ``size``, drawn as a dynamic paste draws them."""
    ys, xs = np.nonzero(mask)
    cut = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    factor = np.random.uniform(0.8, 1.2)
    height, width = (max(1, round(side * factor)) for side in mask[cut].shape)
    small = cv2.resize(mask[cut], (width, height), interpolation=cv2.INTER_NEAREST)
    pixels = cv2.resize(image[cut], (width, height), interpolation=cv2.INTER_LINEAR)
    room = [size[1] - width, size[0] - height]
    x, y = (np.random.randint(min(0, free), max(0, free) + 1) for free in room)
    plane, colours = np.zeros(size, bool), np.zeros((*size, 3), np.uint8)
    for row in range(max(0, y), min(size[0], y + height)):
        for column in range(max(0, x), min(size[1], x + width)):
            plane[row, column] = small[row - y, column - x] > 0
            colours[row, column] = pixels[row - y, column - x]
    return [plane, colours]


@pytest.mark.parametrize("one", [1, 255])
@pytest.mark.parametrize("sizes", [((22, 22), (22, 22)), ((20, 26), (60, 44))])
def test_dynamic_paste_equals_full_planes_pasted_in_turn(
    sizes: tuple[tuple[int, int], tuple[int, int]], one: int
) -> None:
    vanished = 0
    for draw in range(12):
        own = random_results(draw, sizes[0], 6, 100)
        partner = random_results(draw + 50, sizes[1], 7, 200)
        for results in (own, partner):
            results["gt_masks"].masks *= np.uint8(one)
        own["gt_masks"].masks[2] = one * rectangle(*sizes[0], 12, 10, 1, 1)
        partner["img"] = partner["img"][:, ::-1]  # as a flip leaves it, a view that runs backwards
        image, pasted = own["img"].copy(), np.zeros(sizes[0], bool)
        planes = list(own["gt_masks"].masks > 0)
        moving = [k for k in range(7) if k != 1]
        with seeded(3, draw):
            for k in moving:
                mask = partner["gt_masks"].masks[k]
                plane, colours = drawn_patch(partner["img"], mask, sizes[0])
                planes = [before & ~plane for before in planes]
                planes.append(plane)
                image[plane] = colours[plane]
                pasted |= plane
        before = [results["img"].copy() for results in (own, partner)]
        with seeded(3, draw):
            result = PasteInstances("dynamic", 0.0)({**own, "mix_results": [partner]})
        kept = np.array([plane.any() for plane in planes])
        masks = result["gt_masks"].masks
        assert masks.dtype == np.uint8
        assert np.array_equal(masks, np.stack(planes)[kept])
        assert np.array_equal(result["img"], image)
        assert result["pasted"].dtype == bool
        assert np.array_equal(result["pasted"], pasted)
        assert np.array_equal(result["gt_bboxes"].tensor.numpy(), boxes_by_loop(masks))
        labels = [*own["gt_bboxes_labels"], *partner["gt_bboxes_labels"][moving]]
        assert result["gt_bboxes_labels"].tolist() == np.array(labels)[kept].tolist()
        for results, pixels in zip((own, partner), before, strict=True):
            assert np.array_equal(results["img"], pixels), "the images themselves stay"
        vanished += (~kept).sum()
    assert vanished > 0


def test_an_instance_larger_than_the_image_is_cut() -> None:
    partner = blocks((90, 90), [(2, 2, 80, 80)])
    own = results_of(
        np.full((30, 20, 3), 7, np.uint8), rectangle(30, 20, 0, 0, 3, 3)[None], [8], [], 0
    )
    for draw in range(10):
        with seeded(0, draw):
            result = PasteInstances("dynamic")({**own, "mix_results": [partner]})
        assert (result["img"] == 40).all()
        assert result["gt_bboxes_labels"].tolist() == [0], "the covered one is gone"
        assert result["gt_bboxes"].tensor.tolist() == [[0, 0, 20, 30]]


def test_only_masks_of_the_least_area_move_and_ignored_ones_never() -> None:
    partner = blocks((100, 100), [(0, 0, 10, 10), (20, 20, 9, 11), (40, 40, 30, 30)])
    own = blocks((100, 100), [(60, 5, 4, 4)])
    partner["gt_ignore_flags"][2] = True
    result = PasteInstances("static", 0.01)({**own, "mix_results": [partner]})
    assert result["pasted"].sum() == 100
    assert result["gt_bboxes_labels"].tolist() == [0, 0]
    on_canvas = PasteInstances("static", 0.0025, canvas=200 * 200)
    assert on_canvas({**own, "mix_results": [partner]})["pasted"].sum() == 100
    on_larger_canvas = PasteInstances("static", 0.0025, canvas=201 * 200)
    assert "pasted" not in on_larger_canvas({**own, "mix_results": [partner]})
    nothing = PasteInstances("static", 0.0101)({**own, "mix_results": [partner]})
    assert "pasted" not in nothing
    assert nothing["gt_masks"] is own["gt_masks"]
    assert "mix_results" not in nothing


def test_3000_pixels_of_the_papers_input_are_the_default_limit() -> None:
    partner = blocks((1024, 1024), [(0, 0, 60, 50), (100, 100, 2990, 1)])
    partner["gt_masks"].masks[1] = rectangle(1024, 1024, 100, 100, 299, 10)
    own = blocks((1024, 1024), [(500, 500, 4, 4)])
    result = PasteInstances("static")({**own, "mix_results": [partner]})
    assert result["pasted"].sum() == 3000


def test_ignored_regions_are_cut_as_labels_are() -> None:
    partner = blocks((40, 40), [(0, 0, 20, 20)])
    own = blocks((40, 40), [(5, 5, 6, 6), (15, 5, 10, 10)])
    own["gt_ignore_flags"][:] = True
    result = PasteInstances("static")({**own, "mix_results": [partner]})
    assert result["gt_ignore_flags"].tolist() == [True, False]
    assert result["gt_masks"].masks[0].sum() == 50
    assert result["gt_bboxes"].tensor.tolist() == [[20, 5, 25, 15], [0, 0, 20, 20]]


def test_what_belongs_to_instances_is_packed_with_them() -> None:
    own, partner = random_results(4, (30, 40), 5, 100), random_results(5, (30, 40), 4, 200)
    result = PasteInstances("dynamic", 0.0)({**own, "mix_results": [partner]})
    flags = result["gt_ignore_flags"]
    ids = result["gt_instances_ids"][~flags]
    with DefaultScope.overwrite_default_scope("mmdet"):
        filtered = FilterInstances(min_gt_bbox_wh=(2, 2), keep_empty=False)(result)
        packed = PackInstances()(filtered)["data_samples"]
    instances = packed.gt_instances
    assert 3 <= len(instances.labels) <= len(ids)
    assert len(packed.ignored_instances.labels) == filtered["gt_ignore_flags"].sum()
    first = torch.where(instances.quality >= 200, 200, 100)
    assert torch.equal(instances.class_probs[:, 0] - first, 2 * (instances.quality - first))
    known = {100 + 5 - k: label for k, label in enumerate(own["gt_bboxes_labels"])}
    known |= {200 + 5 - k: label for k, label in enumerate(partner["gt_bboxes_labels"])}
    assert [known[int(q)] for q in instances.quality] == instances.labels.tolist()


def test_a_table_that_one_side_lacks_is_left_out() -> None:
    own, partner = random_results(4, (30, 40), 5, 100), random_results(5, (30, 40), 4, 200)
    del partner["class_probs"]
    result = PasteInstances("static", 0.0)({**own, "mix_results": [partner]})
    assert "class_probs" not in result
    assert set(result["quality"][result["gt_instances_ids"]]) & {205.0, 203.0}


def test_without_a_partner_nothing_happens() -> None:
    own = random_results(0, (30, 40), 5, 100)
    assert PasteInstances("dynamic")(own) is own
    with pytest.raises(ValueError, match="static"):
        PasteInstances("off")
