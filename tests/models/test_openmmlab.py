import sys

import mmcv.ops
import pytest
import torch
import torchvision

from s4m_pipeline.errors import UsageError
from s4m_pipeline.models import openmmlab
from s4m_pipeline.models.operators import MissingOperatorError, stand_in

needs_stand_in = pytest.mark.skipif(
    openmmlab.has_compiled_operators(), reason="this mmcv has compiled operators"
)


def test_prepare_twice_keeps_what_it_put_in_place() -> None:
    openmmlab.prepare()
    before = sys.modules["mmcv._ext"], torch.load
    openmmlab.prepare()
    assert (sys.modules["mmcv._ext"], torch.load) == before


@needs_stand_in
def test_mmengine_sees_no_compiled_operators() -> None:
    from mmengine.utils.dl_utils.misc import mmcv_full_available

    assert not mmcv_full_available()


def test_an_operator_that_is_not_served_says_so_when_called() -> None:
    module = stand_in("mmcv._ext")
    operator = module.deform_conv_forward
    with pytest.raises(MissingOperatorError, match="'deform_conv_forward'"):
        operator(1, 2)


@needs_stand_in
def test_a_module_on_a_missing_operator_can_be_built_but_not_run() -> None:
    pool = mmcv.ops.RoIPool(2)
    with pytest.raises(UsageError, match="roi_pool_forward"):
        pool(torch.rand(1, 1, 8, 8), torch.tensor([[0.0, 0, 0, 4, 4]]))


def random_boxes(count: int) -> torch.Tensor:
    corner = torch.rand(count, 2) * 20
    return torch.cat([corner, corner + 1 + torch.rand(count, 2) * 15], dim=1)


def test_nms_equals_a_plain_loop() -> None:
    torch.manual_seed(0)
    boxes, scores = random_boxes(60), torch.rand(60)
    kept: list[int] = []
    overlaps = torchvision.ops.box_iou(boxes, boxes)
    for i in scores.argsort(descending=True).tolist():
        if all(overlaps[i, j] <= 0.3 for j in kept):
            kept.append(i)
    rows, indices = mmcv.ops.nms(boxes, scores, 0.3)
    assert indices.tolist() == kept
    assert torch.equal(rows[:, 4], scores[kept])


def test_batched_nms_keeps_classes_apart() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0])
    _, kept = mmcv.ops.batched_nms(boxes, scores, labels, dict(type="nms", iou_threshold=0.5))
    assert kept.tolist() == [0, 1]


def test_roi_align_and_its_gradient_equal_torchvision() -> None:
    torch.manual_seed(0)
    boxes = torch.cat([torch.tensor([[0.0], [1], [0]]), random_boxes(3)], dim=1)
    ours = torch.rand(2, 3, 12, 16, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    got = mmcv.ops.RoIAlign((5, 4), spatial_scale=0.5, sampling_ratio=2)(ours, boxes)
    expected = torchvision.ops.roi_align(
        theirs, boxes, (5, 4), spatial_scale=0.5, sampling_ratio=2, aligned=True
    )
    weight = torch.rand_like(got)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.allclose(got, expected)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
        ),
    ],
)
def test_deformable_attention_samples_at_its_points(device: str) -> None:
    from mmcv.ops import MultiScaleDeformableAttention

    torch.manual_seed(0)
    attention = MultiScaleDeformableAttention(8, num_heads=1, num_levels=1, num_points=1)
    attention = attention.to(device)
    torch.nn.init.zeros_(attention.sampling_offsets.bias)
    for projection in (attention.value_proj, attention.output_proj):
        torch.nn.init.eye_(projection.weight)
        torch.nn.init.zeros_(projection.bias)
    attention.eval()
    value = torch.rand(12, 1, 8, device=device, requires_grad=True)  # a level of 3 x 4 cells
    query = torch.zeros(2, 1, 8, device=device)
    # centre of cell (row 1, column 2), and the corner that cells (0..1, 0..1) share
    places = torch.tensor([[2.5 / 4, 1.5 / 3], [1 / 4, 1 / 3]], device=device)
    out = attention(
        query,
        value=value,
        reference_points=places.view(1, 2, 1, 2),
        spatial_shapes=torch.tensor([[3, 4]], device=device),
        level_start_index=torch.tensor([0], device=device),
    )
    assert torch.allclose(out[0, 0], value[6, 0], atol=1e-5)
    assert torch.allclose(out[1, 0], value[[0, 1, 4, 5], 0].mean(0), atol=1e-5)
    out.sum().backward()
    assert value.grad is not None
    assert value.grad[6].allclose(torch.ones(8, device=device), atol=1e-5)
    assert value.grad[11].abs().max() == 0
