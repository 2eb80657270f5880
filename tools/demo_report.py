"""How good the demo's segmenter is on scenes that it has not seen."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from demo_batches import Batch, normalise, predict
from demo_prompts import draw_points, jitter_box

from s4m_pipeline.artifacts.seeds import rng as seeded_rng
from s4m_pipeline.data.scenes.scenes import make_scene
from s4m_pipeline.segmenter.demo import DEMO_IMAGE_SIZE, DemoSegmenter

REPORT_SEED = 990_001
"""Seed of the held-out scenes; the demo's seeds are small numbers."""


def _report_prompt(
    rng: np.random.Generator, mask: np.ndarray, kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 2) and labels (P,) of one of the report's prompts: ``points`` or ``box``."""
    if kind == "points":
        return draw_points(rng, mask, 3, soft=False), np.ones(3, np.int32)
    return jitter_box(rng, mask, 0.0).reshape(2, 2), np.array([2, 3], np.int32)


@torch.inference_mode()
def evaluate(model: DemoSegmenter, style: str, scenes: int) -> dict[str, float]:
    """Mean IoU at full resolution on held-out scenes of a style.

    Returns:
        ``points`` and ``box``: single mask from three uniform points or the true box;
        ``points_best_score``: candidate with the highest predicted IoU; ``points_best``: best one.
    """
    found: dict[str, list[float]] = {}
    for index in range(scenes):
        rng = seeded_rng(REPORT_SEED, "report", style, index)
        scene = make_scene(rng, DEMO_IMAGE_SIZE, style)
        for kind in ("points", "box"):
            drawn = [_report_prompt(rng, mask, kind) for mask in scene.masks]
            count = len(drawn)
            if not count:
                continue
            batch = Batch(
                normalise(scene.image)[None],
                torch.from_numpy(np.stack([points for points, _ in drawn])),
                torch.from_numpy(np.stack([labels for _, labels in drawn])),
                torch.zeros(count, 1, 1, 1),
                torch.zeros(count, dtype=torch.bool),
                torch.zeros(count, 1, 1),
            )
            logits, scores = predict(model, batch)
            full = F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
            truth = torch.from_numpy(np.stack(scene.masks))[:, None]
            union = ((full > 0) | truth).sum((2, 3)).clamp(min=1)
            ious = ((full > 0) & truth).sum((2, 3)) / union
            found.setdefault(kind, []).extend(ious[:, 0].tolist())
            if kind == "points":
                chosen = ious[:, 1:].gather(1, scores[:, 1:].argmax(dim=1, keepdim=True))
                found.setdefault("points_best_score", []).extend(chosen[:, 0].tolist())
                found.setdefault("points_best", []).extend(ious[:, 1:].max(dim=1).values.tolist())
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}
