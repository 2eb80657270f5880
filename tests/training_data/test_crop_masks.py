"""Masks that stay run-lengths give the pixels that MMDetection's bitmaps give."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.registry import TRANSFORMS  # noqa: E402
from mmdet.structures.bbox import HorizontalBoxes  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

from s4m_pipeline.configs import model_config_path  # noqa: E402
from s4m_pipeline.training_data.crop_masks import RleMasks  # noqa: E402
from s4m_pipeline.training_data.packed_masks import PackedMasks  # noqa: E402
from s4m_pipeline.training_data.seeding import seeded  # noqa: E402
from tests.small_sets import encode  # noqa: E402

SIZES = [(40, 60), (61, 37), (97, 128), (1, 50), (128, 128)]


def random_masks(size: tuple[int, int], count: int, seed: int) -> np.ndarray:
    """bool (count, H, W): ellipses, one in four torn apart, the last one empty."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((count, *size), np.uint8)
    for number, mask in enumerate(masks[:-1]):
        centre = (int(generator.integers(size[1])), int(generator.integers(size[0])))
        axes = tuple(int(a) for a in generator.integers(1, 30, 2))
        cv2.ellipse(mask, centre, axes, float(generator.uniform(0, 180)), 0, 360, 1, -1)
        if number % 4 == 0:
            mask &= generator.random(size) < 0.8
    return masks > 0


def both(size: tuple[int, int], count: int, seed: int) -> tuple[RleMasks, BitmapMasks]:
    masks = random_masks(size, count, seed)
    rles = [{"size": list(size), "counts": encode(mask).decode()} for mask in masks]
    return RleMasks.of_image(rles, *size), BitmapMasks(masks.astype(np.uint8), *size)


def random_step(generator: np.random.Generator, masks: Any) -> Callable[[Any], Any]:
    """One of the changes that keep masks run-lengths, for both kinds."""
    kind = generator.integers(5)
    if kind == 0:
        direction = str(generator.choice(["horizontal", "vertical", "diagonal"]))
        return lambda m: m.flip(direction)
    if kind == 1:
        shape = tuple(int(s) for s in generator.integers(1, 200, 2))
        return lambda m: m.resize(shape)
    if kind == 2:
        scale = (int(generator.integers(20, 300)), int(generator.integers(20, 300)))
        return lambda m: m.rescale(scale)
    if kind == 3:
        chosen = generator.random(len(masks)) < 0.8
        return lambda m: m[chosen]
    x1, y1 = (int(generator.integers(0, side)) for side in (masks.width, masks.height))
    box = np.array([x1, y1, x1 + generator.integers(1, 90), y1 + generator.integers(1, 90)])
    return lambda m: m.crop(box)


@pytest.mark.parametrize("seed", range(60))
def test_any_order_of_steps_gives_the_bitmaps_pixels(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = SIZES[seed % len(SIZES)]
    ours, theirs = both(size, 7, seed)
    for _ in range(int(generator.integers(1, 6))):
        step = random_step(generator, theirs)
        ours, theirs = step(ours), step(theirs)
        assert isinstance(ours, RleMasks), "still run-lengths"
        assert (ours.height, ours.width, len(ours)) == (theirs.height, theirs.width, len(theirs))
    assert ours.masks.dtype == theirs.masks.dtype
    assert np.array_equal(ours.masks, theirs.masks)
    assert np.array_equal(ours.areas, theirs.areas)
    boxes = [m.get_bboxes(HorizontalBoxes).tensor for m in (ours, theirs)]
    assert boxes[0].equal(boxes[1])


@pytest.mark.parametrize("size", [(480, 640), (1024, 2048), (375, 1242)])
def test_every_scale_takes_the_pixels_that_opencv_takes(size: tuple[int, int]) -> None:
    ours, theirs = both(size, 2, 3)
    noise = (np.random.default_rng(1).random((1, *size)) < 0.5).astype(np.uint8)
    rle = {"size": list(size), "counts": encode(noise[0] > 0)}
    ours, theirs = RleMasks.of_image([rle], *size), BitmapMasks(noise, *size)
    for factor in np.random.default_rng(2).uniform(0.1, 2, 12):
        assert np.array_equal(ours.rescale(factor).masks, theirs.rescale(factor).masks), factor


def test_what_was_decoded_is_changed_as_pixels() -> None:
    ours, theirs = both((40, 60), 4, 0)
    for masks in (ours, theirs):
        masks.masks[:, 5:20, 5:30] = 1
    for step in (
        lambda m: m.flip("vertical"),
        lambda m: m.resize((31, 77)),
        lambda m: m.rescale(1.7),
        lambda m: m.crop(np.array([3, 4, 30, 30])),
        lambda m: m[1:3],
        lambda m: m.pad((64, 64)),
    ):
        assert np.array_equal(step(ours).masks, step(theirs).masks)
        assert type(step(ours)) is BitmapMasks


def test_what_lists_of_rows_cannot_express_is_left_to_the_bitmaps() -> None:
    ours, theirs = both((40, 60), 4, 0)
    outside = np.array([70, 10, 90, 20])
    for step in (
        lambda m: m.crop(outside),
        lambda m: m.pad((64, 80)),
        lambda m: m.resize((20, 30), "bilinear"),
    ):
        assert np.array_equal(step(ours).masks, step(theirs).masks)


@pytest.mark.parametrize("decoded", [False, True])
def test_copies_have_the_same_pixels_and_go_to_another_process_as_bits(decoded: bool) -> None:
    ours, theirs = both((40, 60), 4, 0)
    flipped = ours.flip()
    if decoded:
        flipped.masks[0, 3:7] = 1
    expected = flipped.masks.copy() if decoded else theirs.flip().masks
    sent = pickle.dumps(flipped)
    assert len(sent) < expected.size / 4
    copied = pickle.loads(sent)
    assert isinstance(copied, PackedMasks)
    alike = copy.deepcopy(flipped)
    assert isinstance(alike, RleMasks)
    for made in (copied, alike, flipped.cat([flipped])):
        assert made.masks.dtype == np.uint8
        assert np.array_equal(made.masks, expected)
    alike.masks[:] = 1
    assert np.array_equal(flipped.masks, expected)
    flipped.masks = expected[:2]
    assert len(flipped) == 2
    assert np.array_equal(flipped.areas, expected[:2].sum((1, 2)))


def test_no_mask_at_all() -> None:
    ours, theirs = RleMasks.of_image([], 40, 60), BitmapMasks([], 40, 60)
    for step in (lambda m: m, lambda m: m.rescale((100, 90)), lambda m: m.flip()):
        assert len(step(ours)) == 0
        assert step(ours).masks.shape == step(theirs).masks.shape


@pytest.mark.parametrize(
    "model",
    ["mask2former_demo", "mask2former_lite0", "mask2former_r50_coco", "mask2former_r50_cityscapes"],
)
def test_pipelines_of_the_configs_see_no_difference(model: str) -> None:
    config = Config.fromfile(str(model_config_path(model)))
    size = (256, 320)
    masks = random_masks(size, 9, 5)
    rows, columns = np.any(masks, 2), np.any(masks, 1)
    instances = [
        {
            "bbox": [*(float(np.argmax(a)) for a in (c, r)), c.nonzero()[0][-1] + 1.0,
                     r.nonzero()[0][-1] + 1.0],
            "bbox_label": number,
            "ignore_flag": number % 2,
            "mask": {"size": list(size), "counts": encode(mask).decode()},
        }
        for number, (mask, r, c) in enumerate(zip(masks, rows, columns, strict=True))
        if mask.any()
    ]  # fmt: skip
    made = []
    for loader in ("LoadInstances", "LoadAnnotations"):
        steps = [dict(type=loader, with_bbox=True, with_mask=True), *config.train_pipeline]
        with DefaultScope.overwrite_default_scope("mmdet"):
            pipeline = [TRANSFORMS.build(dict(step)) for step in steps]
        for draw in range(6):
            with seeded(3, draw):
                results: dict[str, Any] = {
                    "img": np.zeros((*size, 3), np.uint8),
                    "img_shape": size,
                    "ori_shape": size,
                    "instances": [dict(i) for i in instances],
                    "gt_instances_ids": np.arange(len(instances)),
                }
                for step in pipeline:
                    results = step(results)
            made.append(results)
    for ours, theirs in zip(made[:6], made[6:], strict=True):
        assert isinstance(ours["gt_masks"], RleMasks)
        assert np.array_equal(ours["gt_masks"].masks, theirs["gt_masks"].masks)
        assert ours["gt_bboxes"].tensor.equal(theirs["gt_bboxes"].tensor)
        for key in ("gt_bboxes_labels", "gt_ignore_flags", "gt_instances_ids"):
            assert np.array_equal(ours[key], theirs[key])
