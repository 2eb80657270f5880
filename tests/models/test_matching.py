"""Matching and losses of all layers together, against MMDetection's own head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.models.dense_heads import Mask2FormerHead  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402

from s4m_pipeline.models import mask2former  # noqa: E402
from s4m_pipeline.models.matching import match  # noqa: E402
from s4m_pipeline.models.model_config import read_model_config  # noqa: E402

SIDE, QUERIES, CLASSES, LAYERS = 48, 6, 3, 3
BATCHES = ((2, 3), (0, 2), (1,), (0, 0), (8, 1))
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


def losses_of(head: Any, found: Any, samples: list[DetDataSample]) -> dict[str, Tensor]:
    head.forward = lambda x, batch: found
    torch.manual_seed(5)
    losses: dict[str, Tensor] = head.loss((), samples)
    return losses


@pytest.mark.parametrize("counts", BATCHES)
def test_losses_and_gradients_are_mmdetections(
    head: Any, peer: Any, counts: tuple[int, ...]
) -> None:
    samples = samples_of(counts, 0)
    found = predictions(len(counts), 1)
    ours, theirs = losses_of(head, found, samples), losses_of(peer, found, samples)
    assert list(ours) == list(theirs)
    for name in theirs:
        torch.testing.assert_close(ours[name].sum(), theirs[name].sum(), rtol=1e-6, atol=1e-7)
    wanted = [*found[0], *found[1]]
    for mine, other in zip(
        torch.autograd.grad(sum(v.sum() for v in ours.values()), wanted),
        torch.autograd.grad(sum(v.sum() for v in theirs.values()), wanted),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("counts", BATCHES)
def test_all_layers_together_have_mmdetections_assignments(
    head: Any, peer: Any, counts: tuple[int, ...]
) -> None:
    samples = samples_of(counts, 2)
    scores, masks = predictions(len(counts), 3)
    truth = mask2former.BatchTruth.of(head.preprocess_gt([s.gt_instances for s in samples], []))
    torch.manual_seed(7)
    layers = match([head._costs(*layer, truth) for layer in zip(scores, masks, strict=True)])
    theirs = peer.preprocess_gt([s.gt_instances for s in samples], [None] * len(samples))
    torch.manual_seed(7)
    for layer, found in enumerate(layers):
        for image, (queries, instances) in enumerate(found.by_image()):
            *_, sampling = peer._get_targets_single(
                scores[layer][image], masks[layer][image], theirs[image], {}
            )
            assert torch.equal(queries, sampling.pos_inds)
            assert torch.equal(instances - truth.firsts[image], sampling.pos_assigned_gt_inds)


def test_pairs_are_those_of_least_cost_and_numbered_through_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((5, 3), (5, 0), (5, 7))
    costs = [[torch.randn(s, generator=generator) for s in shapes] for _ in range(2)]
    for layer, found in zip(costs, match(costs), strict=True):
        assert found.counts == (3, 0, 5)
        assert found.images.tolist() == [0] * 3 + [2] * 5
        for cost, first, (queries, instances) in zip(
            layer, (0, 3, 3), found.by_image(), strict=True
        ):
            rows, columns = linear_sum_assignment(cost.numpy())
            assert queries.tolist() == rows.tolist()
            assert (instances - first).tolist() == columns.tolist()


class Waits(TorchDispatchMode):
    """Counts what would make the host wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2"):
            self.seen.append(name)
        if name.startswith("index") and len(args) > 1 and isinstance(args[1], (list, tuple)):
            given = [i for i in args[1] if isinstance(i, Tensor)]
            self.seen += [name for index in given if index.dtype in (torch.bool, torch.uint8)]
        return func(*args, **(kwargs or {}))


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls that bring a tensor to the host or make one of the host's values."""
    made: list[str] = []
    for name in ("cpu", "numpy", "item", "tolist", "new_tensor", "__bool__", "__int__"):
        real = getattr(Tensor, name)

        def noted(
            self: Tensor, *args: Any, _name: str = name, _real: Any = real, **more: Any
        ) -> Any:
            made.append(_name)
            return _real(self, *args, **more)

        monkeypatch.setattr(Tensor, name, noted)
    return made


@pytest.mark.parametrize("switches", [(), ("quality_weight",)])
def test_a_steps_losses_wait_for_the_device_once(
    head: Any, peer: Any, copies: list[str], switches: tuple[str, ...]
) -> None:
    samples = samples_of((2, 3), 4)
    for name in switches:
        setattr(head, name, True)
        for sample in samples:
            sample.gt_instances.quality = torch.full((len(sample.gt_instances),), 0.5)
    scores, masks = predictions(2, 5)
    truth = mask2former.BatchTruth.of(head.preprocess_gt([s.gt_instances for s in samples], []))
    copies.clear()
    with Waits() as waits:
        layers = list(zip(scores, masks, strict=True))
        divisor = head._divisor(truth, scores[0])
        matches = match([head._costs(*layer, truth) for layer in layers])
        for layer, found in zip(layers, matches, strict=True):
            head._layer_losses(*layer, truth, found, divisor)
    assert waits.seen == []
    assert copies == ["cpu", "numpy"]  # the costs of all layers, once
    copies.clear()
    with Waits() as waits:
        losses_of(peer, (scores, masks), samples)
    assert len(waits.seen) + copies.count("cpu") > 2 * LAYERS  # so the counting counts
