"""Arithmetic of each stage's networks, counted, and the time that a chip needs for it at least.

    python benchmarks/arithmetic.py --bfloat16 989 --float32 67

Each part counts at the rate of the precision that it runs in on a GPU: SAM 2's encoder in
bfloat16, its decoder, structural maps and the teacher in float32. Operations are counted by torch's
own counter, mostly on tensors without data, so that it takes seconds; a multiplication with an
addition is two. A training step costs about three forward passes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from statistics import median
from typing import Any

import torch
from harness import seconds
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from s4m_pipeline.segmenter.mask_head import added_levels, answer
from s4m_pipeline.segmenter.sam2_spec import SAM2_CONFIGS
from s4m_pipeline.segmenter.two_way import image_side

H100_BF16, H100_FLOAT32 = 989.0, 67.0
"""TFLOP/s of an H100 SXM in dense bfloat16 and in float32, as its maker states."""
SIZE = 1024


def counted(work: Callable[[], Any]) -> float:
    """GFLOP of some work."""
    math = sdpa_kernel(SDPBackend.MATH)  # the counter does not know a CPU's fused attention
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), math:
        work()
    return counter.get_total_flops() / 1e9


@cache
def product_rate() -> float:
    """GFLOP/s of a product of two float32 matrices of 2048 x 2048 on the CPU, measured once."""
    side = 2048
    a, b = torch.rand(2, side, side)
    return 2e-9 * side**3 / median(seconds(lambda: a @ b) for _ in range(10))


def sam2_counts(name: str) -> dict[str, float]:
    """GFLOP of a SAM 2: its encoder an image, its decoder a prompt, a structural map a point."""
    from sam2.build_sam import build_sam2

    model = build_sam2(SAM2_CONFIGS[name].config, device="cpu").to("meta").eval()
    decoder = model.sam_mask_decoder
    cells, width = SIZE // 16, model.hidden_dim
    image = torch.empty(1, width, cells, cells, device="meta")
    fine = (
        torch.empty(1, width // 8, 4 * cells, 4 * cells, device="meta"),
        torch.empty(1, width // 4, 2 * cells, 2 * cells, device="meta"),
    )
    many = 64
    points, prompts = (torch.empty(many, count, width, device="meta") for count in (2, 4))

    def decode() -> None:
        answer(decoder, image, image, prompts, added_levels(decoder, fine), False)

    def released() -> None:
        decoder(
            image_embeddings=image,
            image_pe=image,
            sparse_prompt_embeddings=prompts[:1],
            dense_prompt_embeddings=image,
            multimask_output=False,
            repeat_image=False,
            high_res_features=fine,
        )

    return {
        "encoder": counted(lambda: model.forward_image(_pixels())),
        "decoder, a prompt": counted(decode) / many,
        "the package's, a prompt": counted(released),
        "structure, a point": counted(lambda: image_side(decoder, image, image, points)) / many,
    }


def _pixels() -> torch.Tensor:
    return torch.empty(1, 3, SIZE, SIZE, device="meta")


def mask2former_count(name: str) -> float:
    """GFLOP of a model config's forward pass at 1024 x 1024."""
    from s4m_pipeline.models.openmmlab import prepare

    prepare()
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmengine.registry import init_default_scope

    from s4m_pipeline.models.model_config import read_model_config

    init_default_scope("mmdet")
    model = read_model_config(name, 80).model
    model.backbone.init_cfg = None
    built = MODELS.build(model).eval()  # it asks for values, which meta tensors do not have
    pixels = torch.zeros(1, 3, SIZE, SIZE)
    shape = (SIZE, SIZE)
    samples = [DetDataSample(metainfo=dict(img_shape=shape, batch_input_shape=shape))]
    return counted(lambda: built.panoptic_head(built.extract_feat(pixels), samples))


def main() -> None:
    """Print the counts and what they mean for the stages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bfloat16", type=float, default=H100_BF16, help="the chip's TFLOP/s")
    parser.add_argument("--float32", type=float, default=H100_FLOAT32, help="the chip's TFLOP/s")
    args = parser.parse_args()
    for name in ("sam2.1_hiera_tiny", "sam2.1_hiera_large"):
        found = sam2_counts(name)
        for part, count in found.items():
            print(f"{name} {part}: {count:.1f} GFLOP")
        encoder, decoder = found["encoder"], 20 * found["decoder, a prompt"]
        least = encoder / args.bfloat16 + decoder / args.float32
        print(
            f"  refine, 20 instances: {encoder + decoder:.0f} GFLOP, at least {least:.2f} ms, so "
            f"at most {1e3 / least:.0f} a second"
        )
        targets = 256 * found["structure, a point"]
        print(f"  256 structural maps: {targets:.0f} GFLOP, {targets / args.float32:.2f} ms more")
    forward = mask2former_count("mask2former_r50_coco")
    least = forward / args.float32
    print(
        f"mask2former_r50_coco: {forward:.0f} GFLOP, at least {least:.2f} ms, so at most "
        f"{1e3 / least:.0f} a second"
    )


if __name__ == "__main__":
    main()
