"""Label weights and regions of doubt in Mask2Former's losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from s4m_pipeline.errors import UsageError  # noqa: E402
from s4m_pipeline.models.mask2former.doubt import doubtful_pixels, hide_points, mostly_inside  # noqa: E402
from s4m_pipeline.models.mask2former.matching import match  # noqa: E402
from s4m_pipeline.models.model_config import read_model_config  # noqa: E402
from s4m_pipeline.training_data.packed_masks import pack  # noqa: E402

SIDE, QUERIES, CLASSES = 64, 6, 3
LEFT, RIGHT = (slice(0, 24), slice(0, 20)), (slice(30, 64), slice(36, 64))
DOUBT = (slice(32, 64), slice(0, 28))


@pytest.fixture
def head(tiny_model: Path) -> Any:
    """The tiny model's head; its deep supervision has two layers."""
    init_default_scope("mmdet")
    torch.manual_seed(0)
    return MODELS.build(read_model_config(tiny_model, CLASSES).model).panoptic_head


def masks_of(*windows: tuple[slice, slice]) -> BitmapMasks:
    masks = np.zeros((len(windows), SIDE, SIDE), np.uint8)
    for mask, window in zip(masks, windows, strict=True):
        mask[window] = 1
    return BitmapMasks(masks, SIDE, SIDE)


def sample_of(
    quality: list[float] | None = None,
    ignored: tuple[tuple[slice, slice], ...] = (),
    branch: str = "unlabelled",
    labels: tuple[int, ...] = (0, 2),
) -> DetDataSample:
    shape = (SIDE, SIDE)
    sample = DetDataSample(metainfo=dict(branch=branch, img_shape=shape, batch_input_shape=shape))
    sample.gt_instances = InstanceData(
        labels=torch.tensor(labels, dtype=torch.long), masks=masks_of(*(LEFT, RIGHT)[: len(labels)])
    )
    if quality is not None:
        sample.gt_instances.quality = torch.tensor(quality)
    sample.ignored_instances = InstanceData(
        labels=torch.zeros(len(ignored), dtype=torch.long), masks=masks_of(*ignored)
    )
    return sample


def losses_of(
    head: Any, scores: Tensor, masks: Tensor, samples: list[DetDataSample]
) -> dict[str, Tensor]:
    """The head's losses on given predictions of one layer, drawn points fixed."""
    head.forward = lambda x, batch: ([scores], [masks])
    torch.manual_seed(5)
    return head.loss((), samples)


def predictions(images: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Scores (B, Q, K + 1) and mask logits (B, Q, 16, 16)."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(images, QUERIES, CLASSES + 1, generator=generator)
    return scores, 2 * torch.randn(images, QUERIES, 16, 16, generator=generator)


def test_weights_of_one_and_no_doubt_give_mmdetections_losses(head: Any) -> None:
    scores, masks = predictions(2)
    peer = losses_of(head, scores, masks, [sample_of(), sample_of(branch="labelled")])
    head.losses = StudentLosses(quality_weight=True, ignore_score=0.3)
    samples = [sample_of([1.0, 1.0]), sample_of(branch="labelled")]
    ours = losses_of(head, scores, masks, samples)
    assert peer.keys() == ours.keys()
    assert all(torch.equal(peer[name], ours[name]) for name in peer)
    head.losses = StudentLosses()
    doubted = [sample_of([0.1, 3.0], ignored=(DOUBT,)), sample_of(branch="labelled")]
    off = losses_of(head, scores, masks, doubted)
    assert all(torch.equal(peer[name], off[name]) for name in peer), "off by default"


def test_each_labels_losses_are_weighted_by_its_quality(head: Any) -> None:
    """By linearity, and against cross-entropy written out for the class loss."""
    head.losses = StudentLosses(quality_weight=True)
    scores, masks = predictions(1)

    def at(first: float, second: float) -> dict[str, Tensor]:
        return losses_of(head, scores, masks, [sample_of([first, second])])

    both, one, other, none = at(0.3, 1.7), at(1, 0), at(0, 1), at(0, 0)
    for name in ("loss_mask", "loss_dice"):
        assert none[name] == 0
        assert both[name].item() == pytest.approx(
            (0.3 * one[name] + 1.7 * other[name]).item(), rel=1e-5
        )
    matches = matches_of(head, scores, masks, sample_of([0.3, 1.7]))
    divisor, total = 0.0, 0.0
    for query in range(QUERIES):
        label, weight = matches.get(query, (CLASSES, 1.0))
        share = 1.0 if label < CLASSES else 0.1
        total += weight * share * F.cross_entropy(scores[0, query], torch.tensor(label)).item()
        divisor += share
    assert both["loss_cls"].item() == pytest.approx(2 * total / divisor, rel=1e-5)


def matches_of(
    head: Any, scores: Tensor, masks: Tensor, sample: DetDataSample
) -> dict[int, tuple[int, float]]:
    """Label and quality of each matched query."""
    truth = head.truth_of([sample])
    torch.manual_seed(5)
    (matches,) = match([head._costs(scores, masks, truth, torch.rand(1, head.num_points, 2))])
    quality = sample.gt_instances.get("quality", torch.ones(len(truth.labels)))
    return {
        int(q): (int(truth.labels[k]), float(quality[k]))
        for q, k in zip(matches.queries, matches.instances, strict=True)
    }


def drawn(*windows: tuple[slice, slice]) -> Tensor:
    """Mask logits (1, Q, 16, 16): query k predicts window k, the rest nothing."""
    masks = torch.full((1, QUERIES, SIDE, SIDE), -4.0)
    for query, window in enumerate(windows):
        masks[(0, query, *window)] = 4.0
    return F.avg_pool2d(masks[0], 4)[None]


def test_queries_in_a_region_of_doubt_cost_nothing(head: Any) -> None:
    head.losses = StudentLosses(ignore_score=0.3)
    scores, _ = predictions(1)
    barely = (slice(32, 64), slice(16, 36))  # 12 of its 20 columns are in doubt
    partly = (slice(0, 64), slice(0, 28))  # half of it
    masks = drawn(LEFT, RIGHT, DOUBT, barely, partly)
    scores.requires_grad_()
    losses = losses_of(head, scores, masks, [sample_of(ignored=(DOUBT,))])
    losses["loss_cls"].backward()
    assert scores.grad is not None
    gradient = scores.grad[0].abs().sum(1)
    assert set(matches_of(head, scores, masks, sample_of())) == {0, 1}
    assert [bool(value > 0) for value in gradient] == [True, True, False, False, True, True]
    # the others cost what they cost where the two queries do not exist
    weights = torch.tensor([1, 1, 0.1, 0.1])
    labels = torch.tensor([0, 2, CLASSES, CLASSES])
    expected = F.cross_entropy(scores[0, [0, 1, 4, 5]], labels, torch.tensor([1, 1, 1, 0.1]))
    assert weights.sum() == pytest.approx(2.2)
    assert losses["loss_cls"].item() == pytest.approx(2 * expected.item(), rel=1e-5)


def test_pixels_in_a_region_of_doubt_have_no_gradient(head: Any) -> None:
    head.losses = StudentLosses(ignore_score=0.3)
    scores, noise = predictions(1)
    scores[0, 0, 0] = scores[0, 1, 2] = 10.0
    head.num_points = 4096
    reach = (slice(0, 44), slice(0, 20))  # the left label's query leaks into the doubt
    masks = (drawn(reach, RIGHT) + 0.3 * noise).requires_grad_()
    gradients = []
    for ignored in ((), (DOUBT,)):
        sample = sample_of(ignored=ignored)
        assert set(matches_of(head, scores, masks, sample)) == {0, 1}
        losses = losses_of(head, scores, masks, [sample])
        total = losses["loss_mask"] + losses["loss_dice"]
        gradients.append(torch.autograd.grad(total, masks)[0][0].abs())
    # grid of 4 px: the doubt covers rows 8 to 15 and columns 0 to 6; bilinear points reach a cell
    inner = (slice(9, 16), slice(0, 6))
    assert (gradients[0][0][inner] > 0).float().mean() > 0.5
    assert (gradients[1][:2][(slice(None), *inner)] == 0).all()
    assert (gradients[1][0][:7, :6] > 0).any()
    assert (gradients[1][1][8:, 9:] > 0).any()


def test_the_losses_do_not_see_what_is_predicted_in_doubt(head: Any) -> None:
    """Points are drawn alike where logits differ in sign only, so the losses must be the same."""
    head.losses = StudentLosses(ignore_score=0.3)
    scores, noise = predictions(1)
    masks = drawn(LEFT, RIGHT) + 0.2 * noise
    other = masks.clone()
    other[0, :2, 9:, :6] *= -1
    sample = sample_of(ignored=(DOUBT,))
    assert matches_of(head, scores, masks, sample) == matches_of(head, scores, other, sample)
    first, second = (losses_of(head, scores, m, [sample]) for m in (masks, other))
    for name in ("loss_mask", "loss_dice"):
        assert first[name].item() == pytest.approx(second[name].item(), rel=1e-6)
    head.losses = StudentLosses()
    seen = losses_of(head, scores, other, [sample])
    assert seen["loss_mask"] > 1.5 * second["loss_mask"]


def test_an_image_with_doubt_and_no_label_can_be_trained_on(head: Any) -> None:
    head.losses = StudentLosses(quality_weight=True, ignore_score=0.3)
    scores, masks = predictions(1)
    sample = sample_of([], ignored=(DOUBT,), labels=())
    losses = losses_of(head, scores.requires_grad_(), masks.requires_grad_(), [sample])
    assert losses["loss_mask"] == losses["loss_dice"] == 0
    sum(losses.values()).backward()
    everywhere = sample_of([], ignored=((slice(None), slice(None)),), labels=())
    nothing = losses_of(head, scores, drawn(*[LEFT] * QUERIES), [everywhere])
    assert nothing["loss_cls"] == 0


def test_doubt_is_the_ignored_pixels_that_no_label_covers() -> None:
    overlapping = (slice(10, 40), slice(10, 40))
    sample = sample_of(ignored=(DOUBT, overlapping))
    doubtful = doubtful_pixels(sample)
    expected = np.zeros((SIDE, SIDE), bool)
    expected[DOUBT] = expected[overlapping] = True
    expected[LEFT] = expected[RIGHT] = False
    assert doubtful is not None
    assert np.array_equal(doubtful.numpy(), expected)
    assert doubtful_pixels(sample_of(ignored=(DOUBT,), branch="labelled")) is None
    assert doubtful_pixels(sample_of()) is None
    cropped = sample_of(ignored=(DOUBT,))
    cropped.ignored_instances.masks = cropped.ignored_instances.masks.crop(np.array([0, 0, 50, 40]))
    padded = doubtful_pixels(cropped)
    assert padded is not None
    assert padded.shape == (SIDE, SIDE)
    assert padded.sum() == 8 * 28


def test_doubt_of_a_workers_bits_is_that_of_the_pixels() -> None:
    plain, packed = (sample_of(ignored=(DOUBT, LEFT)) for _ in range(2))
    for sample in (plain, packed):  # ignored masks are padded only here
        ignored = sample.ignored_instances
        ignored.masks = ignored.masks.crop(np.array([0, 0, 50, 45]))
    for instances in (packed.gt_instances, packed.ignored_instances):
        [instances.masks] = pack([instances.masks])
    expected, doubtful = doubtful_pixels(plain), doubtful_pixels(packed)
    assert expected is not None
    assert doubtful is not None
    assert expected.any()
    assert torch.equal(doubtful, expected)
    assert not packed.gt_instances.masks.decoded


def test_inside_means_more_than_half() -> None:
    doubtful = torch.zeros(16, 16, dtype=torch.bool)
    doubtful[:, :8] = True
    logits = torch.full((4, 4, 4), -1.0)
    logits[0, :, 1:3] = 1.0  # half
    logits[1, :, 0:3] = 1.0  # two thirds
    logits[2, :, 2:] = 1.0  # nothing
    assert mostly_inside(logits, doubtful).tolist() == [False, True, False, False]


def test_hidden_points_are_those_in_doubt_outside_of_the_own_mask() -> None:
    logits = torch.tensor([[3.0, 3.0, 3.0, -3.0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0.0, 0.2, 0.0]])
    doubt = torch.tensor([[1.0, 0.3, 0.9, 1.0]])
    seen, wanted = hide_points(logits, targets, doubt)
    loss = F.binary_cross_entropy_with_logits(seen, wanted, reduction="none")
    alone = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    assert loss[0, 2] == loss[0, 3] == 0
    assert torch.equal(loss[0, :2], alone[0, :2])
    loss.sum().backward()
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"class_weight": 1.0}, "class_weight"),
        ({"quality_weight": True}, "quality_weight"),
        ({"ignore_score": 0.3}, "ignore_score"),
    ],
)
def test_other_models_refuse_what_only_mask2former_can_do(
    setting: dict[str, Any], name: str
) -> None:
    pytest.importorskip("timm")
    model = read_model_config("mask_rcnn_lite0", CLASSES).model
    with pytest.raises(UsageError, match=f"{name} needs a Mask2Former head"):
        MODELS.build(dict(type="TrainingWrapper", network=model, losses=StudentLosses(**setting)))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("panoptic_head.nothing", "no module"),
        ("panoptic_head.loss_dice", "no map of features"),
        ("panoptic_fusion_head", "no map of features"),
    ],
)
def test_a_module_without_features_is_refused(tiny_model: Path, module: str, message: str) -> None:
    init_default_scope("mmdet")
    settings = dict(
        type="TrainingWrapper",
        network=read_model_config(tiny_model, CLASSES).model,
        losses=StudentLosses(structure_weight=1.0),
        feature_module=module,
    )
    with pytest.raises(UsageError, match=message):
        MODELS.build(settings)(torch.randn(1, 3, SIDE, SIDE), [sample_of()], mode="loss")
