"""Refine end to end on a CPU: one image of 1024 x 2048 with 30 masks (row 3).

SAM 2.1 tiny at 512 px with seeded random weights, S4M's rule, the same points for both ways. Such
weights give masks that are speckled all over the image, which is the hardest for ours. The two
ways put prompts through the decoder in batches of other sizes, so that logits differ in their last
bits: a pixel whose logit is 0 but for those may differ too.
"""

from __future__ import annotations

import numpy as np
from harness import in_turn, report_times
from made_instances import street_scene
from naive_refine import predictor_of, refine_image
from refine_work import S4M, draw

from s4m_pipeline.refinement.ask import refine_images
from s4m_pipeline.refinement.rle import iou
from s4m_pipeline.segmenter.build import build_segmenter
from s4m_pipeline.segmenter.sam2 import Sam2Segmenter

NAME = "refine_end_to_end"
LEAST_IOU = 0.9999


def main() -> None:
    """Time both ways and report."""
    scene = street_scene()
    draw(scene)
    points = np.stack([instance.points for instance in scene.instances])
    segmenter = build_segmenter("sam2.1_hiera_tiny", "random", 512, "cpu")
    if not isinstance(segmenter, Sam2Segmenter):
        raise TypeError(f"{segmenter.name} is no SAM 2")
    predictor = predictor_of(segmenter.model)

    def naive() -> list[bytes]:
        return refine_image(predictor, scene.image, points)

    def ours() -> list[bytes]:
        embeddings = segmenter.encode([scene.image])
        (masks,) = refine_images(segmenter, embeddings, [scene.instances], S4M)
        return [mask.mask_rle for mask in masks]

    before, after, slow, fast = in_turn(naive, ours, repeats=5)
    pairs = list(zip(before, after, strict=True))
    same = sum(a == b for a, b in pairs)
    least = min(iou(a, b, *scene.image.shape[:2]) for a, b in pairs)
    if least < LEAST_IOU:
        raise SystemExit(f"{NAME}: a mask has an IoU of {least:.6f} with the naive way's")
    equal = f"{same} of {len(pairs)} RLEs identical, least IoU {least:.7f}"
    report_times(NAME, 2.5, slow, fast, equal)


if __name__ == "__main__":
    main()
