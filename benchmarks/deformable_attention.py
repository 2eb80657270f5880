"""Mask2Former's deformable attention in PyTorch against the form that mmcv falls back to.

Naive is mmcv's: all levels' samples, stacked, then weighted and summed over points. Ours weights
and sums each level at once, with points ahead of queries. Values and gradients of one call with
three levels (strides 8, 16 and 32 of the input's side), 8 heads of 32 channels and 4 points. With
``--device cuda`` a line has mmcv's compiled operators' time over ours, and one PyTorch's form over
Triton's kernels, where those are installed.

    python benchmarks/deformable_attention.py [--device cuda --side 1024 --images 12]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from harness import can_run_on, in_turn, report_times
from torch import Tensor

from s4m_pipeline.models.openmmlab import has_compiled_operators, prepare

prepare()

from s4m_pipeline.models.mask2former.deformable import deformable_attention, in_pytorch  # noqa: E402
from s4m_pipeline.models.mask2former.triton_attention import triton_attention  # noqa: E402

NAME = "deformable_attention"
GOAL = 1.2
COMPILED_GOAL = 0.77
"""Ours is to take at most 1.3 times as long as the compiled operators."""
TOLERANCE = 1e-5
COMPILED_TOLERANCE = 1e-3
"""Kernels of a GPU add up gradients in an order that differs from run to run."""
HEADS, WIDTH, POINTS = 8, 32, 4
Work = Callable[[], list[Tensor]]
Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def naive_attention(value: Tensor, shapes: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """All levels' samples side by side; arguments as of `deformable_attention`."""
    images, _, heads, width = value.shape
    queries = places.shape[1]
    parts = value.split([height * across for height, across in shapes], dim=1)
    grids, sampled = 2 * places - 1, []
    for level, (height, across) in enumerate(shapes):
        maps = parts[level].flatten(2).transpose(1, 2).reshape(-1, width, height, across)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled.append(F.grid_sample(maps, grid, align_corners=False))
    shares = weights.transpose(1, 2).reshape(images * heads, 1, queries, -1)
    total = (torch.stack(sampled, dim=-2).flatten(-2) * shares).sum(-1)
    return total.view(images, heads * width, queries).transpose(1, 2).contiguous()


def compiled_attention(value: Tensor, shapes: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """mmcv's compiled operator."""
    from mmcv.ops import multi_scale_deform_attn as module

    starts = F.pad(shapes.prod(1).cumsum(0)[:-1], (1, 0))
    found: Tensor = module.MultiScaleDeformableAttnFunction.apply(
        value, shapes, starts, places, weights, 64
    )
    return found


def against_compiled(compiled: Work, ours: Work) -> None:
    """Time mmcv's compiled operators, as naive, and ours, and report."""
    _against("the compiled operators", f"{NAME}_compiled", COMPILED_GOAL, compiled, ours)


def against_pytorch(plain: Work, triton: Work) -> None:
    """Time PyTorch's form, as naive, and Triton's kernels, and report."""
    _against("PyTorch's form", f"{NAME}_triton", 1, plain, triton)


def _against(other: str, name: str, goal: float, theirs: Work, ours: Work) -> None:
    expected, found, slow, fast = in_turn(theirs, ours, 5)
    worst = difference(expected, found)
    if worst > COMPILED_TOLERANCE:
        raise SystemExit(f"{NAME}: {worst:.2g} of the largest away from {other}")
    told = f"values and three gradients within {worst:.1g} of the largest"
    report_times(name, goal, slow, fast, told)


def difference(first: list[Tensor], second: list[Tensor]) -> float:
    """The largest difference of tensors in pairs, as a share of the first one's largest value."""
    pairs = zip(first, second, strict=True)
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def main() -> None:
    """Time both and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--side", type=int, default=512, help="of the input in pixels")
    args = parser.parse_args()
    if not can_run_on(args.device, NAME):
        return
    device = torch.device(args.device)
    torch.manual_seed(0)
    shapes = torch.tensor([[args.side // s] * 2 for s in (32, 16, 8)], device=device)
    keys, levels = int(shapes.prod(1).sum()), len(shapes)
    shape = (args.images, keys, HEADS, levels, POINTS)
    value = torch.randn(args.images, keys, HEADS, WIDTH, device=device)
    near = torch.rand(args.images, keys, 1, 1, 1, 2, device=device)
    places = near + 0.05 * torch.randn(*shape, 2, device=device)
    weights = torch.rand(shape, device=device).flatten(3).softmax(-1).view(shape)
    given = [tensor.requires_grad_() for tensor in (value, places, weights)]
    upstream = torch.randn(args.images, keys, HEADS * WIDTH, device=device)

    def work(attention: Attention) -> list[Tensor]:
        found = attention(given[0], shapes, given[1], given[2])
        gradients = torch.autograd.grad(found, given, upstream)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return [found.detach(), *gradients]

    naive, ours, slow, fast = in_turn(
        lambda: work(naive_attention), lambda: work(deformable_attention), 5
    )
    worst = difference(naive, ours)
    if worst > (TOLERANCE if device.type == "cpu" else COMPILED_TOLERANCE):
        raise SystemExit(f"{NAME}: values or gradients differ by {worst:.2g} of the largest")
    if device.type == "cuda" and has_compiled_operators():
        against_compiled(lambda: work(compiled_attention), lambda: work(deformable_attention))
    if triton_attention(device) is not None:
        against_pytorch(lambda: work(in_pytorch), lambda: work(deformable_attention))
    name = NAME if device.type == "cpu" else f"{NAME}_gpu"
    told = f"values and three gradients within {worst:.1g} of the largest"
    report_times(name, GOAL, slow, fast, told, keys=keys)


if __name__ == "__main__":
    main()
