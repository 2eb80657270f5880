"""Matching and losses of all layers together, against MMDetection's own head.

The mask losses are divided as the released code of Mask2Former divides them, which MMDetection does
not where an image has no instance or more than there are queries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.models.openmmlab import prepare
from tests.models.waiting import Waits, note_calls

prepare()

from mmdet.models.dense_heads import Mask2FormerHead  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402

from s4m_pipeline.models.mask2former import batch_truth, points  # noqa: E402
from s4m_pipeline.models.mask2former import head as mask2former  # noqa: E402
from s4m_pipeline.models.mask2former.matching import Matches, match  # noqa: E402
from s4m_pipeline.models.model_config import read_model_config  # noqa: E402

SIDE, QUERIES, CLASSES, LAYERS = 48, 6, 3, 3
BATCHES = ((2, 3), (0, 2), (1,), (0, 0), (8, 1), (3, 0, 0, 0))
"""Instances of each image; eight are more than there are queries."""


@pytest.fixture
def head(tiny_model: Path) -> Any:
    init_default_scope("mmdet")
    torch.manual_seed(0)
    return MODELS.build(read_model_config(tiny_model, CLASSES).model).panoptic_head


@pytest.fixture
def peer(tiny_model: Path) -> Any:
    """MMDetection's own head with the same settings."""
    init_default_scope("mmdet")
    settings = read_model_config(tiny_model, CLASSES).model
    settings.panoptic_head.type = Mask2FormerHead
    return MODELS.build(settings).panoptic_head


def samples_of(counts: tuple[int, ...], seed: int) -> list[DetDataSample]:
    random = np.random.default_rng(seed)
    samples = []
    for count in counts:
        masks = np.zeros((count, SIDE, SIDE), np.uint8)
        for mask in masks:
            y, x = random.integers(0, SIDE - 12, 2)
            mask[y : y + random.integers(4, 24), x : x + random.integers(4, 24)] = 1
        shape = (SIDE, SIDE)
        sample = DetDataSample(metainfo=dict(img_shape=shape, batch_input_shape=shape))
        labels = torch.from_numpy(random.integers(0, CLASSES, count))
        sample.gt_instances = InstanceData(labels=labels, masks=BitmapMasks(masks, SIDE, SIDE))
        samples.append(sample)
    return samples


def predictions(images: int, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(LAYERS, images, QUERIES, CLASSES + 1, generator=generator)
    masks = 2 * torch.randn(LAYERS, images, QUERIES, 12, 12, generator=generator)
    return [*scores.requires_grad_().unbind()], [*masks.requires_grad_().unbind()]


def losses_of(head: Any, predicted: Any, samples: list[DetDataSample]) -> dict[str, Tensor]:
    head.forward = lambda x, batch: predicted
    torch.manual_seed(5)
    losses: dict[str, Tensor] = head.loss((), samples)
    return losses


def with_released_divisor(losses: dict[str, Tensor], counts: tuple[int, ...]) -> dict[str, Tensor]:
    """MMDetection's losses as they are with Mask2Former's own number of masks.

    MMDetection counts at least one mask an image, and no more than there are queries.
    """
    theirs = sum(max(min(count, QUERIES), 1) for count in counts)
    factor = theirs / max(sum(counts), 1)
    return {n: v * (1.0 if n.endswith("loss_cls") else factor) for n, v in losses.items()}


@pytest.mark.parametrize("counts", BATCHES)
def test_losses_and_gradients_are_mmdetections_but_for_the_divisor(
    head: Any, peer: Any, counts: tuple[int, ...]
) -> None:
    samples = samples_of(counts, 0)
    predicted = predictions(len(counts), 1)
    ours, theirs = losses_of(head, predicted, samples), losses_of(peer, predicted, samples)
    assert list(ours) == list(theirs)
    theirs = with_released_divisor(theirs, counts)
    for name in theirs:
        torch.testing.assert_close(ours[name].sum(), theirs[name].sum(), rtol=1e-6, atol=1e-7)
    wanted = [*predicted[0], *predicted[1]]
    for mine, other in zip(
        torch.autograd.grad(sum(v.sum() for v in ours.values()), wanted),
        torch.autograd.grad(sum(v.sum() for v in theirs.values()), wanted),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("counts", "masks"), [((3, 0, 0, 0), 3), ((1, 2), 3), ((8, 0), 8)])
def test_mask_losses_are_a_mean_over_all_instances_of_the_batch(
    head: Any, counts: tuple[int, ...], masks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same logit at all points of instances that cover them, by the formulas."""
    logit, area = 0.7, head.num_points
    pairs = sum(min(count, QUERIES) for count in counts)
    at_points = (torch.full((pairs, area), logit), torch.ones(pairs, area))
    monkeypatch.setattr(head, "_at_points", lambda *_: at_points)
    losses = losses_of(head, predictions(len(counts), 1), samples_of(counts, 0))
    entropy, chance = np.log1p(np.exp(-logit)), 1 / (1 + np.exp(-logit))
    dice = 1 - (2 * chance * area + 1) / (chance * area + area + 1)
    assert losses["loss_mask"].item() == pytest.approx(5 * entropy * pairs / masks, rel=1e-5)
    assert losses["loss_dice"].item() == pytest.approx(5 * dice * pairs / masks, rel=1e-5)


@pytest.mark.parametrize("counts", BATCHES)
def test_assignments_are_mmdetections(
    head: Any, peer: Any, counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, predicted = samples_of(counts, 2), predictions(len(counts), 3)
    ours: list[list[int]] = []
    theirs: list[list[int]] = []

    def noted(costs: Any) -> Any:
        matches = match(costs)
        for layer in matches:
            for image, (queries, instances) in enumerate(layer.by_image()):
                ours.append([*queries.tolist(), *(instances - sum(counts[:image])).tolist()])
        return matches

    single = peer._get_targets_single

    def noted_single(*args: Any) -> Any:
        *rest, sampling = single(*args)
        theirs.append([*sampling.pos_inds.tolist(), *sampling.pos_assigned_gt_inds.tolist()])
        return (*rest, sampling)

    monkeypatch.setattr(mask2former, "match", noted)
    monkeypatch.setattr(peer, "_get_targets_single", noted_single)
    losses_of(head, predicted, samples)
    losses_of(peer, predicted, samples)
    assert len(ours) == LAYERS * len(counts)
    assert ours == theirs


def test_the_generator_ends_where_mmdetections_does(head: Any, peer: Any) -> None:
    samples, predicted = samples_of((2, 0, 1), 2), predictions(3, 3)
    ends = []
    for one in (head, peer):
        losses_of(one, predicted, samples)
        ends.append(torch.get_rng_state())
    assert torch.equal(*ends)


def test_pairs_are_those_of_least_cost_and_numbered_through_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((5, 3), (5, 0), (5, 7))
    costs = [[torch.randn(s, generator=generator) for s in shapes] for _ in range(2)]
    for layer, matches in zip(costs, match(costs), strict=True):
        assert matches.counts == (3, 0, 5)
        assert matches.images.tolist() == [0] * 3 + [2] * 5
        for cost, first, (queries, instances) in zip(
            layer, (0, 3, 3), matches.by_image(), strict=True
        ):
            rows, columns = linear_sum_assignment(cost.numpy())
            assert queries.tolist() == rows.tolist()
            assert (instances - first).tolist() == columns.tolist()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls that bring a tensor to the host or make one of the host's values."""
    return note_calls(monkeypatch)


def test_a_matching_comes_to_the_host_once(made: list[str]) -> None:
    costs = [[torch.rand(6, 3), torch.rand(6, 0)], [torch.rand(6, 3), torch.rand(6, 0)]]
    with Waits() as waits:
        matches = match(costs)
    assert len(matches) == 2
    assert waits.seen == []
    assert made == ["cpu", "numpy"]


def fake_match(costs: Any) -> list[Matches]:
    """What a matching sends to the device, without the values."""
    matches = []
    for layer in costs:
        counts = tuple(min(cost.shape) for cost in layer)
        places = torch.empty(3, sum(counts), dtype=torch.long, device=layer[0].device)
        matches.append(Matches(places[0], places[1], places[2], counts))
    return matches


SETTINGS = (
    StudentLosses(),
    StudentLosses(quality_weight=True, class_weight=1.0, ignore_score=0.3),
)


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "everything"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_but_the_matching_waits_for_a_gpu(
    head: Any,
    made: list[str],
    monkeypatch: pytest.MonkeyPatch,
    settings: StudentLosses,
    dtype: torch.dtype,
) -> None:
    """On tensors without values on a GPU that need not be there: what asks for a value fails."""
    counts, samples = (2, 0, 3), samples_of((2, 0, 3), 4)
    head.losses = settings
    with FakeTensorMode(allow_non_fake_inputs=False), Waits() as waits:
        shape, cuda = (len(counts), QUERIES), torch.device("cuda")
        scores = [torch.empty(*shape, CLASSES + 1, device=cuda, dtype=dtype) for _ in range(LAYERS)]
        masks = [torch.empty(*shape, 12, 12, device=cuda, dtype=dtype) for _ in range(LAYERS)]
        head._shares = torch.empty(CLASSES + 1, device=cuda)
        for sample, count in zip(samples, counts, strict=True):
            truth = sample.gt_instances
            truth.labels = torch.empty(count, dtype=torch.long, device=cuda)
            truth.quality = torch.empty(count, device=cuda)
            truth.class_probs = torch.empty(count, CLASSES, device=cuda)
        monkeypatch.setattr(mask2former, "match", fake_match)
        for module, name, shape in (
            (batch_truth, "bytes_to_device", (sum(counts), SIDE, SIDE)),
            (batch_truth, "doubtful_pixels", (SIDE, SIDE)),
        ):
            sent = torch.empty(shape, dtype=torch.bool, device=cuda)
            monkeypatch.setattr(module, name, lambda *_, _sent=sent: _sent)
        monkeypatch.setattr(points, "_state", lambda _: None)
        monkeypatch.setattr(points, "_generator", lambda *_: None)
        losses = losses_of(head, (scores, masks), samples)
    assert len(losses) == 3 * LAYERS + bool(settings.class_weight)
    assert {value.device.type for value in losses.values()} == {"cuda"}
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert waits.seen == []
    assert made == []


def test_mmdetections_head_waits_in_each_layer(peer: Any, made: list[str]) -> None:
    """So the counting counts."""
    with Waits() as waits:
        losses_of(peer, predictions(2, 5), samples_of((2, 3), 4))
    assert made.count("cpu") == 2 * LAYERS
    assert made.count("new_tensor") >= 2 * LAYERS
    assert waits.seen.count("_unique2") == 4 * LAYERS
