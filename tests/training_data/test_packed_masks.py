"""Masks come out of a data worker as they went in, as bits in one tensor a batch."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.bbox import HorizontalBoxes  # noqa: E402
from mmdet.structures.mask import BitmapMasks, PolygonMasks  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from s4m_pipeline.training_data.packed_masks import PackedMasks, collate, pack, union, unpacked  # noqa: E402

SHAPES = [(5, 13, 21), (1, 8, 8), (0, 9, 30), (3, 1, 1), (2, 40, 64)]
"""Number, height and width of each image's masks."""


def bitmaps(shape: tuple[int, int, int], seed: int = 0) -> BitmapMasks:
    pixels = np.random.default_rng((seed, *shape)).integers(0, 2, shape, dtype=np.uint8)
    return BitmapMasks(pixels, *shape[1:])


def item(masks: Any, ignored: Any = None) -> dict[str, Any]:
    sample = DetDataSample()
    sample.gt_instances = InstanceData(masks=masks, labels=torch.arange(len(masks)))
    sample.ignored_instances = InstanceData()
    if ignored is not None:
        sample.ignored_instances.masks = ignored
    return {"inputs": torch.zeros(3, 4, 4, dtype=torch.uint8), "data_samples": sample}


class Items:
    """Each image's masks, with others as ignored ones but for the first image."""

    def __len__(self) -> int:
        return len(SHAPES)

    def __getitem__(self, place: int) -> dict[str, Any]:
        shape = SHAPES[place]
        return item(bitmaps(shape), bitmaps((2, *shape[1:]), 1) if place else None)


@pytest.fixture(scope="module")
def delivered() -> list[Any]:
    """The data samples of a batch from a worker."""
    loader = DataLoader(Items(), len(SHAPES), num_workers=1, collate_fn=collate)  # type: ignore[arg-type,var-annotated]
    [batch] = list(loader)
    samples: list[Any] = batch["data_samples"]
    return samples


def test_a_worker_hands_over_bits_in_one_shared_tensor(delivered: list[Any]) -> None:
    stores, pixels = [], 0
    for place, (sample, shape) in enumerate(zip(delivered, SHAPES, strict=True)):
        own, ignored = sample.gt_instances.masks, sample.ignored_instances.get("masks")
        assert (ignored is None) == (place == 0)
        for masks, seed in ((own, 0), (ignored, 1))[: 1 + bool(place)]:
            assert isinstance(masks, PackedMasks)
            again = copy.copy(masks)
            assert not masks.decoded
            expected = bitmaps((len(masks), *shape[1:]), seed)
            assert again.masks.dtype == np.uint8
            assert np.array_equal(again.masks, expected.masks)
            stores.append(masks._store)
            pixels += len(masks) * shape[1] * -(-shape[2] // 8)
    assert all(store is stores[0] for store in stores)
    assert stores[0].is_shared(), "not through the pipe"
    assert stores[0].shape == (pixels,)


STEPS: list[Callable[[Any], Any]] = [
    lambda m: m,
    lambda m: m.pad((50, 70)),
    lambda m: m.pad((50, 70)).pad((64, 96)),
    lambda m: m.pad((50, 70), pad_val=1),
    lambda m: m.pad((50, 70)).crop(np.array([2, 3, 60, 45])),
    lambda m: m.flip("diagonal"),
    lambda m: m.resize((17, 29)),
    lambda m: m.rescale(2.5),
    lambda m: m.expand(60, 80, 3, 5),
    lambda m: m.translate((40, 70), 3),
    lambda m: m[np.array([1, 0])] if len(m) > 1 else m,
    lambda m: m[: len(m) // 2],
    lambda m: m[0] if len(m) else m,
    lambda m: m.cat([m, m]),
    lambda m: copy.deepcopy(m),
    lambda m: pickle.loads(pickle.dumps(m.pad((41, 65)))),
    lambda m: InstanceData(masks=m)[torch.arange(len(m) - 1, -1, -1)].masks,
]


@pytest.mark.parametrize("place", range(len(SHAPES)))
@pytest.mark.parametrize("decoded", [False, True])
def test_what_arrives_behaves_as_bitmaps(delivered: list[Any], place: int, decoded: bool) -> None:
    for number, step in enumerate(STEPS):
        arrived = copy.copy(delivered[place].gt_instances.masks)
        if decoded:
            assert len(arrived.masks) == len(arrived)
        ours, theirs = step(arrived), step(bitmaps(SHAPES[place]))
        told = f"step {number}"
        assert (len(ours), ours.height, ours.width) == (len(theirs), theirs.height, theirs.width)
        for dtype in (torch.uint8, torch.bool, torch.float32):
            sent = [masks.to_tensor(dtype, "cpu") for masks in (ours, theirs)]
            assert sent[0].dtype == dtype
            assert sent[0].equal(sent[1]), told
        assert ours.masks.dtype == theirs.masks.dtype
        assert np.array_equal(ours.to_ndarray(), theirs.to_ndarray()), told
        assert np.array_equal(ours.areas, theirs.areas), told
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)), told
        boxes = [masks.get_bboxes(HorizontalBoxes).tensor for masks in (ours, theirs)]
        assert boxes[0].equal(boxes[1]), told


def test_what_is_changed_in_place_is_what_counts() -> None:
    [packed] = pack([bitmaps((3, 9, 10))])
    packed.masks[1] = 0
    packed.masks[0, 2:4] = 1
    expected = packed.masks.copy()
    for masks in (packed.pad((12, 20)).crop(np.array([0, 0, 10, 9])), copy.deepcopy(packed)):
        assert np.array_equal(masks.masks, expected)
    assert np.array_equal(packed.to_tensor(torch.uint8, "cpu").numpy(), expected)
    packed.masks = expected[:2]
    assert len(packed) == 2
    assert np.array_equal(pickle.loads(pickle.dumps(packed)).masks, expected[:2])


def test_what_bits_cannot_hold_stays_as_it_is() -> None:
    grey = BitmapMasks(np.full((2, 5, 6), 255, np.uint8), 5, 6)
    flags = BitmapMasks(np.ones((2, 5, 6), bool), 5, 6)
    for given, masks in zip(
        (grey, flags, bitmaps((2, 5, 6))), pack([grey, flags, bitmaps((2, 5, 6))]), strict=True
    ):
        assert isinstance(masks, PackedMasks) == (given not in (grey, flags))
        assert masks.masks.dtype == given.masks.dtype
        assert np.array_equal(masks.masks, given.masks)
    [packed] = pack([bitmaps((2, 5, 6))])
    packed.masks[:] = 7
    copied = pickle.loads(pickle.dumps(packed))
    assert type(copied) is BitmapMasks
    assert (copied.masks == 7).all()
    assert pack([]) == []


def test_without_a_worker_nothing_is_packed() -> None:
    masks, polygons = bitmaps((2, 5, 6)), PolygonMasks([[np.arange(6.0)]], 5, 6)
    batch = collate([item(masks), item(polygons)])
    assert batch["data_samples"][0].gt_instances.masks is masks
    assert batch["data_samples"][1].gt_instances.masks is polygons


@pytest.mark.parametrize("width", range(1, 18))
def test_bits_become_the_pixels_that_numpy_packed(width: int) -> None:
    pixels = np.random.default_rng(width).integers(0, 2, (3, 4, width), dtype=np.uint8)
    values = unpacked(torch.from_numpy(np.packbits(pixels, axis=-1)), width)
    assert values.dtype == torch.uint8
    assert np.array_equal(values.numpy(), pixels)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_union_is_that_of_the_pixels_and_decodes_none(shape: tuple[int, int, int]) -> None:
    masks = bitmaps(shape)
    masks.masks &= bitmaps(shape, 1).masks & bitmaps(shape, 2).masks
    [packed] = pack([masks])
    expected = np.zeros(shape[1:], bool)
    for mask in masks.masks:
        expected |= mask == 1
    joined = union(packed)
    assert joined.dtype == bool
    assert np.array_equal(joined, expected)
    assert isinstance(packed, PackedMasks)
    assert not packed.decoded
    assert np.array_equal(union(masks), expected)
    grown = union(packed.pad((shape[1] + 3, shape[2] + 11)))
    assert np.array_equal(grown, np.pad(expected, ((0, 3), (0, 11))))
    packed.masks[:, 0] = 1  # from here on the pixels count
    assert union(packed)[0].all() == (shape[0] > 0)
