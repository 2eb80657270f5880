"""Which points and cells a step of structural distillation takes, and their mean."""

from __future__ import annotations

import pytest
import torch
from mmengine.structures import BaseDataElement
from torch._subclasses.fake_tensor import FakeTensorMode

from s4m_pipeline.models import structure_loss as module
from s4m_pipeline.models.structure_loss import (
    Geometry,
    draw_points,
    points_inside,
    structure_loss,
    structure_sum,
    warp_targets,
)
from tests.models.waiting import Waits, note_calls


def geometry_of(side: int = 64) -> Geometry:
    return Geometry(torch.eye(3), (side, side), (side, side), (side, side))


def test_half_of_a_steps_points_are_the_unions() -> None:
    points = torch.rand(256, 2) * 64
    torch.manual_seed(0)
    seen = torch.zeros(256)
    for _ in range(200):
        drawn = draw_points(points_inside(points, geometry_of()), 128)
        assert len(drawn) == len(set(drawn.tolist())) == 128
        assert (drawn < 128).sum() == 64
        seen[drawn] += 1
    assert ((seen / 200 - 0.5).abs() < 0.2).all(), "all points have the same chance"


@pytest.mark.parametrize(
    ("union", "anywhere", "expected"),
    [(128, 40, (88, 40)), (30, 128, (30, 98)), (20, 25, (20, 25)), (64, 64, (64, 64))],
)
def test_the_other_half_makes_up_for_points_that_a_crop_lost(
    union: int, anywhere: int, expected: tuple[int, int]
) -> None:
    points = torch.full((256, 2), 99.0)
    points[:union] = points[128 : 128 + anywhere] = 5.0
    drawn = draw_points(points_inside(points, geometry_of()), 128)
    assert ((drawn < 128).sum().item(), (drawn >= 128).sum().item()) == expected


def sample_of(structure: BaseDataElement, shape: tuple[int, int]) -> BaseDataElement:
    data = BaseDataElement(metainfo=dict(img_shape=shape, batch_input_shape=(32, 32)))
    data.structure = structure
    return data


def structure_of(points: torch.Tensor) -> BaseDataElement:
    generator = torch.Generator().manual_seed(3)
    return BaseDataElement(
        points=points,
        similarity=torch.randint(0, 256, (len(points), 8, 8), generator=generator).byte(),
        scale=torch.full((len(points),), 0.005),
        offset=torch.full((len(points),), -0.4),
        matrix=torch.eye(3),
        size=torch.tensor([30, 28]),
    )


def test_cells_with_pasted_pixels_count_neither_way() -> None:
    """Grid of 8 x 8 cells of 4 px over 32 x 32; an image of 30 x 28 px."""
    points = torch.tensor([[2.0, 2.0], [13.0, 9.0], [21.0, 25.0], [26.0, 3.0]])
    structure = structure_of(points)
    hidden = torch.zeros(30, 28, dtype=torch.bool)
    hidden[8:10, 11:16] = True  # touches cells (row 2, columns 2 and 3): the second point's
    hidden[29, 27] = True  # one pixel in (row 7, column 6)
    structure.hidden = hidden
    torch.manual_seed(0)
    feature = torch.randn(1, 5, 8, 8, requires_grad=True)
    total, count = structure_sum(feature, [sample_of(structure, (30, 28))], 8)
    unit = torch.nn.functional.normalize(feature[0].detach(), dim=0)
    expected, pairs = 0.0, 0
    for k in (0, 2, 3):
        x, y = points[k].tolist()
        own = unit[:, int(y // 4), int(x // 4)]
        target, _ = warp_targets(
            structure.similarity[k : k + 1].float(),
            Geometry(torch.eye(3), (30, 28), (30, 28), (32, 32)),
            8,
        )
        for row in range(8):
            for column in range(7):
                if (row, column) in ((2, 2), (2, 3), (7, 6)) or 4 * row + 2 >= 30:
                    continue
                value = -0.4 + 0.005 * target[0, row * 8 + column].item()
                error = abs(float(own @ unit[:, row, column]) - value)
                expected += 0.5 * error**2 if error < 1 else error - 0.5
                pairs += 1
    assert count == pairs
    assert total.item() == pytest.approx(expected, rel=1e-5)
    total.backward()
    assert feature.grad is not None
    gradient = feature.grad[0].abs().sum(0)
    assert gradient[2, 2] == gradient[2, 3] == gradient[7, 6] == 0
    assert (gradient[:7, :7] > 0).sum() == 49 - 2


def test_the_mean_is_over_all_points_and_cells_of_a_batch() -> None:
    """An image with more points inside weighs more: not a mean of images' means."""
    many, few = structure_of(torch.rand(20, 2) * 28), structure_of(torch.rand(2, 2) * 28)
    features = torch.randn(2, 5, 8, 8)
    samples = [sample_of(many, (30, 28)), sample_of(few, (30, 28))]
    parts = [structure_sum(features[k : k + 1], samples[k : k + 1], 8) for k in (0, 1)]
    assert parts[0][1] == 10 * parts[1][1]
    expected = (parts[0][0] + parts[1][0]) / (11 * parts[1][1])
    assert structure_loss(features, samples, 8).item() == pytest.approx(expected.item(), rel=1e-5)


def batch_of(count: int) -> list[BaseDataElement]:
    samples = []
    for _ in range(count):
        structure = structure_of(torch.rand(40, 2) * 32)
        structure.hidden = torch.zeros(30, 28, dtype=torch.bool)
        structure.hidden[:4, :4] = True
        samples.append(sample_of(structure, (30, 28)))
    return samples


def test_a_batchs_points_come_to_the_host_once(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, features = batch_of(3), torch.randn(3, 5, 8, 8)
    host: list[str] = []

    def drawn(inside: torch.Tensor, count: int) -> torch.Tensor:
        made_before = len(made)
        places = draw_points(inside, count)
        host.extend(made[made_before:])
        return places

    monkeypatch.setattr(module, "draw_points", drawn)
    made = note_calls(monkeypatch)
    structure_sum(features, samples, 8, 16)
    assert sorted(made) == sorted(["cpu", *host]), "what is drawn is drawn on the host"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_but_the_drawing_waits_for_a_gpu(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """On tensors without values on a GPU that need not be there: what asks for a value fails."""
    with FakeTensorMode(allow_non_fake_inputs=False), Waits() as waits:
        cuda = torch.device("cuda")
        features = torch.empty(2, 5, 16, 16, device=cuda, dtype=dtype)
        structure = BaseDataElement(
            points=torch.empty(40, 2, device=cuda),
            similarity=torch.empty(40, 8, 8, dtype=torch.uint8, device=cuda),
            scale=torch.empty(40, device=cuda),
            offset=torch.empty(40, device=cuda),
            matrix=torch.empty(3, 3, device=cuda),
            size=torch.empty(2, dtype=torch.long, device=cuda),
            hidden=torch.empty(30, 28, dtype=torch.bool, device=cuda),
        )
        places = torch.empty(12, dtype=torch.long, device=cuda)
        monkeypatch.setattr(module, "_drawn", lambda images, _: [places] * len(images))
        made = note_calls(monkeypatch)
        total, count = structure_sum(features, [sample_of(structure, (30, 28))] * 2, 8)
    assert (total.dtype, total.device.type, count.device.type) == (torch.float32, "cuda", "cuda")
    assert waits.seen == made == []
