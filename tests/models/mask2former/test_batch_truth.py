"""A batch's truth is the same whether its masks come as pixels or as bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from s4m_pipeline.models.mask2former import batch_truth  # noqa: E402
from s4m_pipeline.models.mask2former.batch_truth import BatchTruth  # noqa: E402
from s4m_pipeline.training_data.packed_masks import PackedMasks, pack  # noqa: E402
from tests.models.waiting import Waits  # noqa: E402

SHAPES = [(3, 20, 33), (0, 24, 40), (2, 24, 7)]
"""Number, height and width of each image's masks."""
SIZE = (24, 45)
"""What they are padded to."""


def pixels() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 2, shape, dtype=np.uint8) for shape in SHAPES]


def samples_of(masks_of_images: list[Any]) -> list[DetDataSample]:
    """Samples on the CPU, padded as MMDetection's preprocessor does it."""
    samples = []
    for number, masks in enumerate(masks_of_images):
        sample = DetDataSample(metainfo=dict(batch_input_shape=SIZE, branch="unlabelled"))
        labels = number * 10 + torch.arange(len(masks))
        sample.gt_instances = InstanceData(labels=labels, masks=masks.pad(SIZE))
        doubt = np.zeros((1, *SHAPES[number][1:]), np.uint8)
        doubt[:, 5:9, 2:] = 1
        [ignored] = pack([BitmapMasks(doubt, *doubt.shape[1:])])
        sample.ignored_instances = InstanceData(masks=ignored)
        samples.append(sample)
    return samples


def bitmaps() -> list[BitmapMasks]:
    return [BitmapMasks(one, *one.shape[1:]) for one in pixels()]


@pytest.mark.parametrize("plain", [(), (1,), (0, 1, 2)], ids=["bits", "mixed", "pixels"])
def test_masks_are_the_padded_pixels(plain: tuple[int, ...]) -> None:
    packed = pack(bitmaps())
    given = [bitmaps()[n] if n in plain else packed[n] for n in range(len(SHAPES))]
    samples = samples_of(given)
    truth = BatchTruth.of(samples, StudentLosses(ignore_score=0.3))
    expected = np.zeros((sum(shape[0] for shape in SHAPES), *SIZE), np.float32)
    first = 0
    for one, doubtful in zip(pixels(), truth.doubtful, strict=True):
        count, height, width = one.shape
        expected[first : first + count, :height, :width] = one
        covered = expected[first : first + count].any(0)
        first += count
        doubt = np.zeros(SIZE, bool)
        doubt[5:9, 2:width] = True
        assert doubtful is not None
        assert np.array_equal(doubtful.numpy(), doubt & ~covered)
    assert truth.masks.dtype == torch.float32
    assert np.array_equal(truth.masks.numpy(), expected)
    assert truth.labels.tolist() == [0, 1, 2, 20, 21]
    assert truth.counts == (3, 0, 2)


def test_a_pixel_above_one_counts_as_one() -> None:
    grey = [BitmapMasks(200 * one, *one.shape[1:]) for one in pixels()]
    packed = BatchTruth.of(samples_of(pack(grey)))
    assert packed.masks.equal(BatchTruth.of(samples_of(pack(bitmaps()))).masks)


def test_bits_are_sent_and_taken_apart_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors without values on a GPU that need not be there."""
    samples, sent = samples_of(pack(bitmaps())), []

    def noted(parts: list[np.ndarray], device: torch.device) -> torch.Tensor:
        sent.append(parts)
        shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
        return torch.empty(shape, dtype=torch.uint8, device=device)

    bits = {id(sample.gt_instances.masks): sample.gt_instances.masks.bits() for sample in samples}
    monkeypatch.setattr(PackedMasks, "bits", lambda masks: bits[id(masks)])
    monkeypatch.setattr(batch_truth, "bytes_to_device", noted)
    with FakeTensorMode(allow_non_fake_inputs=False), Waits() as waits:
        for sample in samples:
            count = len(sample.gt_instances)
            sample.gt_instances.labels = torch.empty(count, dtype=torch.long, device="cuda")
        truth = BatchTruth.of(samples)
    assert truth.masks.device.type == "cuda"
    assert truth.masks.shape == (5, *SIZE)
    assert waits.seen == []
    [parts] = sent
    for part, shape, sample in zip(parts, SHAPES, samples, strict=True):
        assert part.shape == (shape[0], SIZE[0], 6), "45 pixels are 6 bytes"
        masks = sample.gt_instances.masks
        assert isinstance(masks, PackedMasks)
        assert not masks.decoded
