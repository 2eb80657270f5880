"""Mask to RLE alone, at 1024 x 2048 and at 480 x 640 (row 4).

`pycocotools.mask.encode` on whole masks, a mask at a time, against ours on the crops that
upsampling leaves: bool, column-major, the rest of the image known to be empty.
"""

from __future__ import annotations

import numpy as np
from harness import in_turn, report_times
from made_instances import IMAGE_SIZE, Scene, coco_scene, street_scene
from naive_refine import encode

from s4m_pipeline.refinement.choice import cell_rates, logits_on
from s4m_pipeline.refinement.resampling import Window, reach
from s4m_pipeline.refinement.rle import encode_crop
from s4m_pipeline.segmenter.base import Frame

WHOLE = 2
"""The candidate that holds the whole instance."""
ROUNDS = 20
"""How often ours encodes all masks in a timed run, as once is too short to time."""


def crops_of(scene: Scene) -> list[tuple[np.ndarray, Window]]:
    """The instances' masks as upsampling leaves them, with their places in the image."""
    height, width = scene.image.shape[:2]
    crops = []
    for logits in scene.answers[:, WHOLE].numpy():
        rates = cell_rates(Frame(height, width, IMAGE_SIZE, IMAGE_SIZE), IMAGE_SIZE, len(logits))
        window = reach(logits > 0, *rates, height, width)
        crops.append((logits_on(logits, rates, window) > 0, window))
    return crops


def compare(name: str, goal: float, scene: Scene) -> None:
    """Time both ways on one image's masks and report."""
    height, width = scene.image.shape[:2]
    crops = crops_of(scene)
    masks = np.zeros((len(crops), height, width), bool)
    for mask, (crop, at) in zip(masks, crops, strict=True):
        mask[at.y : at.y + at.height, at.x : at.x + at.width] = crop

    def naive() -> list[bytes]:
        return [encode(mask) for mask in masks]

    def ours() -> list[bytes]:
        for _ in range(ROUNDS):
            found = [encode_crop(crop, at.x, at.y, height, width) for crop, at in crops]
        return found

    before, after, slow, fast = in_turn(naive, ours, repeats=7)
    if before != after:
        raise SystemExit(f"{name}: the RLEs are not identical")
    fast = [time / ROUNDS for time in fast]
    report_times(name, goal, slow, fast, f"{len(before)} RLEs identical")


if __name__ == "__main__":
    compare("mask_to_rle_large", 100, street_scene())
    compare("mask_to_rle_coco", 20, coco_scene())
