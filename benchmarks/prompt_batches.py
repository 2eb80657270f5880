"""How many prompts a pass of the mask decoder takes on a CPU: the package's choice against 16.

SAM 2.1 tiny with seeded random weights, 30 prompts of three points on one image of 1024 x 2048, at
512 and at 1024 pixels. Masks must agree but for pixels whose logit is 0 in all but its last bits.
"""

from __future__ import annotations

import numpy as np
import torch
from harness import in_turn, report_times
from made_instances import street_scene
from refine_work import draw

from s4m_pipeline.refinement.prompts import build_prompts
from s4m_pipeline.segmenter.build import build_segmenter
from s4m_pipeline.segmenter.sam2 import Sam2Segmenter

MANY = 16
LEAST_EQUAL = 0.9999


def compare(size: int, repeats: int) -> None:
    """Time both at one size and report."""
    name = f"prompt_batches_{size}"
    scene = street_scene()
    draw(scene)
    segmenter = build_segmenter("sam2.1_hiera_tiny", "random", size, "cpu")
    if not isinstance(segmenter, Sam2Segmenter):
        raise TypeError(f"{segmenter.name} is no SAM 2")
    embeddings = segmenter.encode([scene.image])
    prompts = [build_prompts(scene.instances, "points", 3)]
    chosen = segmenter.decoder.max_prompts

    def decode(most: int) -> np.ndarray:
        segmenter.decoder.max_prompts = most
        (found,) = segmenter.decode(embeddings, prompts, True)
        return (found.logits > 0).numpy()

    before, after, slow, fast = in_turn(lambda: decode(MANY), lambda: decode(chosen), repeats)
    equal = float((before == after).mean())
    if equal < LEAST_EQUAL:
        raise SystemExit(f"{name}: only {equal:.6f} of the cells are the same")
    told = f"{100 * equal:.5f} % of the cells the same; {chosen} prompts a pass against {MANY}"
    report_times(name, 1, slow, fast, told, threads=torch.get_num_threads())


if __name__ == "__main__":
    compare(512, repeats=5)
    compare(1024, repeats=3)
