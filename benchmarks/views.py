"""Refined masks by view, on large pictures with small objects.

    python benchmarks/views.py --data ../shared/data --mobilesam ../shared/weights/mobilesam

Mosaics of 1 024 x 2 048 px (``mosaics.py``) of ``animals7``'s validation photographs with many
small objects and with fewer, larger ones, and of ``nuclei``. A rough teacher is made from the true
masks: bent outlines, blurred, on cells of 4 px. MobileSAM draws each instance in each view, three
points from the teacher's soft mask, fused as by default. Printed are the mean IoU with the truth of
the teacher's masks and of those of each view, by the size of the object, and the encoder passes a
picture. The last line's ratio is the gain of the worst view but the whole picture on the first
mosaics, over 0.10.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from harness import report
from mosaics import HEIGHT, WIDTH, Piece, drawn, mosaic, photographs
from scipy.ndimage import gaussian_filter, map_coordinates

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.refinement.ask import ask
from s4m_pipeline.refinement.instances import TeacherInstance
from s4m_pipeline.refinement.policies import VIEWS, RefinePolicy
from s4m_pipeline.refinement.rle import bbox_area, encode_crop, iou
from s4m_pipeline.refinement.soft_masks import (
    decode_soft_mask,
    draw_prompt_points,
    encode_soft_mask,
    soft_mask_to_pixels,
)
from s4m_pipeline.refinement.view_plan import encode_views, plan_batch
from s4m_pipeline.segmenter.base import Segmenter
from s4m_pipeline.segmenter.build import build_segmenter

GOAL = 0.10
"""IoU above the whole picture's, on the small objects' mosaics."""
STRIDE = 4
"""Pixels a cell of the teacher's masks."""
BEND, BLUR = 0.16, 0.05
"""How far outlines are bent and blurred, in the object's side (the square root of its area)."""
MARGIN = 32
"""Pixels about an object in which its rough mask may lie."""
SIZES = (0, 24, 32, 48, 96, 4096)
"""Edges of the size classes, in pixels of an object's side."""
SETS = (
    ("animals7, 11 rows", "animals7", "valid", 11),
    ("animals7, 4 rows", "animals7", "valid", 4),
    ("nuclei, 4 rows", "nuclei", "valid", 4),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What came out for one object: its side in pixels, and IoUs with its true mask.

    Attributes:
        side: The square root of its area.
        teacher: Of the teacher's mask.
        views: Of the refined mask, by view.
    """

    side: float
    teacher: float
    views: dict[str, float]


def rough(piece: Piece, number: int, seed: int) -> TeacherInstance | None:
    """A rough teacher's prediction of an object; None where nothing is left of it."""
    draw = rng(seed, "rough", number)
    side = float(np.sqrt(piece.mask.sum()))
    soft = np.pad(piece.mask.astype(np.float32), MARGIN)
    field = gaussian_filter(draw.normal(size=(2, *soft.shape)), (0, side / 4, side / 4))
    field *= BEND * side / max(float(field.std()), 1e-6)
    at = np.mgrid[: soft.shape[0], : soft.shape[1]] + field
    soft = gaussian_filter(map_coordinates(soft, at, order=1), BLUR * side)
    whole = np.zeros((HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN), np.float32)
    whole[piece.y : piece.y + len(soft), piece.x : piece.x + soft.shape[1]] = soft
    pixels = whole[MARGIN:-MARGIN, MARGIN:-MARGIN]
    cells = pixels.reshape(HEIGHT // STRIDE, STRIDE, WIDTH // STRIDE, STRIDE).mean((1, 3))
    data, box = encode_soft_mask(cells)
    if not data:
        return None
    crop = decode_soft_mask(data, box)
    rle = encode_crop(
        soft_mask_to_pixels(crop, box, STRIDE, HEIGHT, WIDTH) > 0.5, 0, 0, HEIGHT, WIDTH
    )
    bbox, area = bbox_area(rle, HEIGHT, WIDTH)
    if not area:
        return None
    logits = np.log(np.clip(cells, 1e-4, 1 - 1e-4) / (1 - np.clip(cells, 1e-4, 1 - 1e-4)))
    points = draw_prompt_points(logits, 3, STRIDE, HEIGHT, WIDTH, draw)
    return TeacherInstance(
        number, piece.category_id, 0.9, bbox, area, points, crop, box, STRIDE, rle
    )


def measured(
    segmenter: Segmenter,
    picture: np.ndarray,
    pieces: Sequence[Piece],
    seed: int,
    policy: RefinePolicy,
) -> tuple[list[Found], dict[str, int]]:
    """IoUs of a mosaic's objects, and the encoder passes of each view."""
    made = [rough(piece, number, seed) for number, piece in enumerate(pieces)]
    kept = [(p, one) for p, one in zip(pieces, made, strict=True) if one is not None]
    truth = [piece.rle() for piece, _ in kept]
    instances = [one for _, one in kept]
    masks, passes = {}, {}
    for view in VIEWS:
        plan = plan_batch(segmenter, [instances], [(HEIGHT, WIDTH)], replace(policy, view=view))
        encoded = encode_views(segmenter, [picture], plan.places(), 1)
        passes[view] = len(encoded.places)
        (masks[view],) = ask(segmenter, encoded, [instances], plan).masks()
    found = []
    for n, (rle, one) in enumerate(zip(truth, instances, strict=True)):
        ours = {view: iou(masks[view][n].mask_rle, rle, HEIGHT, WIDTH) for view in VIEWS}
        area = bbox_area(rle, HEIGHT, WIDTH)[1]
        found.append(Found(area**0.5, iou(one.mask_rle, rle, HEIGHT, WIDTH), ours))
    return found, passes


def table(name: str, found: Sequence[Found], passes: dict[str, float]) -> None:
    """Print the mean IoUs by size, the last row for all objects."""
    print(
        f"\n{name}: {len(found)} objects, median side {np.median([f.side for f in found]):.0f} px"
    )
    print("| side in px | objects | teacher | " + " | ".join(VIEWS) + " |")
    print("| --- " * (3 + len(VIEWS)) + "|")
    edges = [*pairwise(SIZES), (0, SIZES[-1])]
    for low, high in edges:
        some = [f for f in found if low <= f.side < high]
        if some:
            values = [np.mean([f.teacher for f in some])]
            values += [np.mean([f.views[view] for f in some]) for view in VIEWS]
            size = "all" if (low, high) == edges[-1] else f"{low} to {high}"
            print(f"| {size} | {len(some)} | " + " | ".join(f"{v:.3f}" for v in values) + " |")
    counts = " | ".join(f"{passes[view]:.1f}" for view in VIEWS)
    print(f"| encoder passes a picture | | | {counts} |", flush=True)


def main() -> None:
    """Measure all sets."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--mobilesam", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", type=int, default=len(SETS), help="only the first so many")
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--context", type=float, default=1.5)
    parser.add_argument("--passes", type=int, default=6)
    args = parser.parse_args()
    segmenter = build_segmenter("mobilesam", str(args.mobilesam), None, "cpu")
    limits = {"view_cells": args.cells, "view_context": args.context, "view_passes": args.passes}
    policy = RefinePolicy("points", 3, "fuse", 0.3, **limits)
    gains = []
    for name, data, split, rows in SETS[: args.sets]:
        images = photographs(args.data / data, split)
        found: list[Found] = []
        passes = dict.fromkeys(VIEWS, 0.0)
        for number, records in enumerate(drawn(images, args.pictures, rows, args.seed)):
            made = mosaic(images, records, rows)
            some, taken = measured(segmenter, *made, args.seed + number, policy)
            found += some
            passes = {view: passes[view] + taken[view] / args.pictures for view in VIEWS}
        table(name, found, passes)
        whole = np.mean([f.views["image"] for f in found])
        gains.append(min(np.mean([f.views[v] for f in found]) - whole for v in VIEWS[1:]))
    report("views", float(gains[0] / GOAL), 1, "prompts and fusion are the same in every view")


if __name__ == "__main__":
    main()
