import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.model import BaseAveragedModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.models.ema import WarmUpAverage, effective_decay
from s4m_pipeline.models.mask2former.class_losses import class_distillation_loss
from s4m_pipeline.models.structure_loss import Geometry, structure_loss, warp_targets

GRID = 8


def element(
    matrix: np.ndarray, points: np.ndarray, maps: np.ndarray, size: tuple[int, int]
) -> BaseDataElement:
    count = len(points)
    homogeneous = np.concatenate([points, np.ones((count, 1))], axis=1) @ matrix.T
    structure = BaseDataElement(
        points=torch.tensor(homogeneous[:, :2], dtype=torch.float32),
        similarity=torch.from_numpy(maps),
        scale=torch.linspace(0.004, 0.006, count),
        offset=torch.linspace(-0.5, 0.1, count),
        matrix=torch.tensor(matrix, dtype=torch.float32),
        size=torch.tensor(size),
    )
    return structure


def sample(
    structure: BaseDataElement | None, augmented: tuple[int, int], padded: tuple[int, int]
) -> BaseDataElement:
    data = BaseDataElement(metainfo=dict(img_shape=augmented, batch_input_shape=padded))
    if structure is not None:
        data.structure = structure
    return data


def bilinear(values: np.ndarray, x: float, y: float) -> float:
    """Value at a place given in cells, edges repeated; cell i has its centre at i + 0.5."""
    x = min(max(x - 0.5, 0), values.shape[1] - 1)
    y = min(max(y - 0.5, 0), values.shape[0] - 1)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, values.shape[1] - 1), min(top + 1, values.shape[0] - 1)
    fx, fy = x - left, y - top
    upper = values[top, left] * (1 - fx) + values[top, right] * fx
    lower = values[bottom, left] * (1 - fx) + values[bottom, right] * fx
    return upper * (1 - fy) + lower * fy


def naive_loss(
    feature: torch.Tensor,
    structure: BaseDataElement,
    augmented: tuple[int, int],
    padded: tuple[int, int],
    matrix: np.ndarray,
    size: tuple[int, int],
) -> float:
    """The loss by loops: flip, scale and padding undone cell by cell."""
    inverse = np.linalg.inv(matrix)
    resized = torch.nn.functional.interpolate(
        feature[None].double(), (GRID, GRID), mode="bilinear", align_corners=False
    )[0].numpy()
    errors = []
    for p in range(len(structure.points)):
        px, py = structure.points[p].tolist()
        if not (0 <= px < augmented[1] and 0 <= py < augmented[0]):
            continue
        here = resized[:, int(py * GRID / padded[0]), int(px * GRID / padded[1])]
        for r in range(GRID):
            for c in range(GRID):
                ax, ay = (c + 0.5) * padded[1] / GRID, (r + 0.5) * padded[0] / GRID
                ox, oy, _ = inverse @ (ax, ay, 1)
                if ax >= augmented[1] or ay >= augmented[0]:
                    continue
                if not (0 <= ox <= size[1] and 0 <= oy <= size[0]):
                    continue
                maps = structure.similarity[p].numpy().astype(float)
                stored = bilinear(maps, ox * maps.shape[1] / size[1], oy * maps.shape[0] / size[0])
                target = float(structure.offset[p]) + float(structure.scale[p]) * stored
                there = resized[:, r, c]
                cosine = here @ there / np.linalg.norm(here) / np.linalg.norm(there)
                error = abs(cosine - target)
                errors.append(0.5 * error**2 if error < 1 else error - 0.5)
    return float(np.mean(errors))


def flipped_and_scaled(size: tuple[int, int], scale: float) -> tuple[np.ndarray, tuple[int, int]]:
    height, width = round(size[0] * scale), round(size[1] * scale)
    resize = np.diag([width / size[1], height / size[0], 1.0])
    flip = np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]])
    return flip @ resize, (height, width)


def test_structure_loss_equals_a_naive_one_through_flip_scale_and_padding() -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    size, padded = (50, 70), (64, 96)
    matrix, augmented = flipped_and_scaled(size, 1.2)
    points = rng.uniform([0, 0], [70, 50], (9, 2))
    maps = rng.integers(0, 256, (9, 6, 6), dtype=np.uint8)
    structure = element(matrix, points, maps, size)
    features = torch.randn(1, 5, 16, 24, requires_grad=True)
    loss = structure_loss(features, [sample(structure, augmented, padded)], grid=GRID)
    expected = naive_loss(features[0].detach(), structure, augmented, padded, matrix, size)
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    loss.backward()
    assert features.grad is not None
    assert features.grad.abs().max() > 0


def test_points_outside_a_crop_drop_out_and_cells_beside_it_do_not_count() -> None:
    size, padded = (40, 40), (32, 32)
    matrix = np.array([[1.0, 0, -20], [0, 1, -10], [0, 0, 1]])  # crop at x 20, y 10
    points = np.array([[5.0, 5.0], [30.0, 20.0]])
    maps = np.random.default_rng(1).integers(0, 256, (2, 6, 6), dtype=np.uint8)
    structure = element(matrix, points, maps, size)
    feature = torch.randn(1, 4, 8, 8)
    augmented = (30, 20)
    loss = structure_loss(feature, [sample(structure, augmented, padded)], grid=GRID)
    expected = naive_loss(feature[0], structure, augmented, padded, matrix, size)
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    geometry = Geometry(structure.matrix, size, augmented, padded)
    _, valid = warp_targets(structure.similarity.float(), geometry, GRID)
    assert valid.reshape(GRID, GRID)[:7, :5].all()
    assert (
        valid.sum() == 35
    )  # of 8 x 8 cells of 4 px: 7 rows and 5 columns have their centre inside


def test_images_without_structure_or_points_give_zero_with_a_gradient() -> None:
    features = torch.randn(2, 3, 4, 4, requires_grad=True)
    outside = element(np.eye(3), np.array([[99.0, 99.0]]), np.zeros((1, 4, 4), np.uint8), (16, 16))
    samples = [sample(None, (16, 16), (16, 16)), sample(outside, (16, 16), (16, 16))]
    loss = structure_loss(features, samples, grid=4)
    assert loss.item() == 0
    loss.backward()


def test_no_more_than_the_wanted_points_are_drawn() -> None:
    points = np.random.default_rng(0).uniform(0, 16, (50, 2))
    maps = np.random.default_rng(1).integers(0, 256, (50, 4, 4), dtype=np.uint8)
    structure = element(np.eye(3), points, maps, (16, 16))
    feature = torch.randn(1, 3, 4, 4)
    losses = set()
    for seed in range(3):
        torch.manual_seed(seed)
        loss = structure_loss(feature, [sample(structure, (16, 16), (16, 16))], 4, max_points=5)
        losses.add(loss.item())
    assert len(losses) == 3


def test_class_distillation_is_the_mean_kl_over_object_classes() -> None:
    logits = torch.tensor([[1.0, 0.2, -0.5, 3.0], [0.0, 2.0, 1.0, -1.0]])
    teacher = torch.tensor([[0.5, 0.2, 0.1], [0.1, 0.1, 0.6]])
    total = 0.0
    for row, probs in zip(logits.tolist(), teacher.tolist(), strict=True):
        mass = sum(math.exp(v) for v in row[:3])
        for value, prob in zip(row[:3], probs, strict=True):
            p, q = prob / sum(probs), math.exp(value) / mass
            total += p * math.log(p / q)
    assert class_distillation_loss(logits, teacher).item() == pytest.approx(total / 2, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5, 4.0])
def test_temperature_softens_both_sides_and_keeps_the_gradients_size(temperature: float) -> None:
    """Against torch's own divergence between distributions, made from the teacher's logits."""
    torch.manual_seed(0)
    logits = torch.randn(7, 6, requires_grad=True)
    teacher = torch.randn(7, 5) * 2
    expected = temperature**2 * torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=teacher / temperature),
        torch.distributions.Categorical(logits=logits[:, :5] / temperature),
    )
    shares = 0.83 * teacher.softmax(1)  # the rest went to "no object"
    loss = class_distillation_loss(logits, shares, temperature)
    assert loss.item() == pytest.approx(expected.mean().item(), rel=1e-5)
    own = torch.autograd.grad(loss, logits)[0]
    formula = torch.autograd.grad(expected.mean(), logits)[0]
    assert torch.allclose(own, formula, atol=1e-6)
    assert (own[:, 5] == 0).all()


@pytest.mark.parametrize("buffers", [False, True])
def test_averages_taken_together_have_the_bits_of_mmengines_one_by_one(buffers: bool) -> None:
    class OneByOne(BaseAveragedModel):
        def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: int) -> None:
            averaged_param.lerp_(source_param, 1.0 - effective_decay(0.7, int(steps)))

    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(5, 7)).train()
    model.register_buffer("whole", torch.arange(4))
    ours = WarmUpAverage(model, decay=0.7)
    theirs = OneByOne(model)
    for average in (ours, theirs):
        average.update_buffers, average.interval = buffers, 2
        if buffers:
            average.avg_parameters = average.module.state_dict()
    for _ in range(6):
        model[:2](torch.randn(2, 3, 6, 6))
        model.get_buffer("whole").add_(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update_parameters(model)
        theirs.update_parameters(model)
        expected = theirs.state_dict()
        assert ours.state_dict().keys() == expected.keys()
        for name, value in ours.state_dict().items():
            assert torch.equal(value, expected[name]), name
    assert not torch.equal(ours.module[0].weight, model[0].weight)


def test_average_follows_its_formula() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = WarmUpAverage(model, decay=0.7)
    expected = None
    for t, value in enumerate([1.0, 5.0, -2.0, 3.0, 8.0, 0.5, 7.0, 1.0, 2.0, 3.0]):
        model.weight.data.fill_(value)
        average.update_parameters(model)
        decay = min(0.7, (1 + t) / (10 + t))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert effective_decay(0.9996, 10**6) == 0.9996
    assert effective_decay(0.9996, 0) == 0.1


def test_head_distils_the_last_layers_matches(tiny_model: Path) -> None:
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.registry import init_default_scope
    from mmengine.structures import InstanceData

    from s4m_pipeline.models.mask2former.head import CLASS_LOSS
    from s4m_pipeline.models.model_config import read_model_config
    from s4m_pipeline.models.openmmlab import prepare

    prepare()
    init_default_scope("mmdet")
    torch.manual_seed(0)
    settings = dict(
        type="TrainingWrapper",
        network=read_model_config(tiny_model, 3).model,
        losses=StudentLosses(class_weight=2.5, unlabelled_weight=4.0),
    )
    net = MODELS.build(settings)
    masks = np.zeros((2, 64, 64), np.uint8)
    masks[0, :20, :20] = masks[1, 30:, 30:] = 1
    probs = torch.tensor([[0.7, 0.1, 0.1], [0.2, 0.2, 0.5]])
    truth = InstanceData(
        labels=torch.tensor([0, 2]), masks=BitmapMasks(masks, 64, 64), class_probs=probs
    )
    samples = [
        DetDataSample(
            metainfo=dict(branch=branch, img_shape=(64, 64), batch_input_shape=(64, 64)),
            gt_instances=truth,
        )
        for branch in ("labelled", "unlabelled")
    ]
    matches: list[tuple[torch.Tensor, torch.Tensor]] = []
    head = net.network.panoptic_head
    matched = head._class_loss

    def watched(scores: torch.Tensor, truth: Any, pairs: Any) -> torch.Tensor:
        matches.append((scores[0, pairs.queries], probs[pairs.instances]))  # of one image
        return matched(scores, truth, pairs)

    head._class_loss = watched
    losses = net(torch.randn(2, 3, 64, 64), samples, mode="loss")
    logits, teacher = matches[-1]  # the unlabelled side is the second of two forwards
    assert sorted(teacher.tolist()) == sorted(probs.tolist())
    expected = 2.5 * class_distillation_loss(logits, teacher)
    assert losses[CLASS_LOSS].item() == pytest.approx(expected.item(), rel=1e-5)
    losses[CLASS_LOSS].backward()
    assert head.cls_embed.weight.grad.abs().max() > 0
