"""Mask2Former's choice and scoring of instances, which evaluation runs, against MMDetection's head.

Both take the same made answers of 100 queries at 480 x 640 pixels and give the best 100 pairs of
query and class with masks, boxes and scores.

    python benchmarks/instance_scoring.py [--device cuda]
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from harness import can_run_on, in_turn, report_times

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402

from s4m_pipeline.models.mask2former.fusion_head import ScoringFusionHead  # noqa: E402

NAME = "instance_scoring"
GOAL = 2
QUERIES, CLASSES, SIZE = 100, 80, (480, 640)
TOLERANCE = 1e-6


def made_answers(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Class logits (Q, K + 1), and mask logits (Q, H, W) of blobs."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(QUERIES, CLASSES + 1, generator=generator)
    coarse = torch.randn(QUERIES, 1, 8, 10, generator=generator) - 0.5
    masks = torch.nn.functional.interpolate(coarse, size=SIZE, mode="bilinear")[:, 0]
    return scores.to(device), masks.to(device)


def check(theirs: Any, ours: Any) -> str:
    """End with a message where the two differ."""
    for key in ("labels", "masks", "bboxes"):
        if not torch.equal(theirs[key], ours[key]):
            raise SystemExit(f"{NAME}: {key} differ")
    worst = float((ours.scores / theirs.scores - 1).abs().max())
    if worst > TOLERANCE:
        raise SystemExit(f"{NAME}: scores differ by {worst:.2g} of their size")
    return f"masks, boxes and labels of {len(ours)} instances, scores within {worst:.1g}"


def main() -> None:
    """Time both and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if not can_run_on(args.device, NAME):
        return
    answers = made_answers(args.device)
    test_cfg = ConfigDict(panoptic_on=False, instance_on=True, max_per_image=100)
    heads = [
        kind(CLASSES, 0, test_cfg=test_cfg) for kind in (MaskFormerFusionHead, ScoringFusionHead)
    ]

    def work(head: Any) -> Any:
        with torch.inference_mode():
            found = head.instance_postprocess(*answers)
        if args.device.startswith("cuda"):
            torch.cuda.synchronize()
        return found

    theirs, ours, slow, fast = in_turn(lambda: work(heads[0]), lambda: work(heads[1]), 9)
    name = NAME if args.device == "cpu" else f"{NAME}_gpu"
    report_times(name, GOAL, slow, fast, check(theirs, ours))


if __name__ == "__main__":
    main()
