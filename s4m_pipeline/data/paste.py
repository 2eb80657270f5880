"""Augmentation with refined pseudo-labels: images trade instances (METHOD, section 3).

Which images trade is drawn by batch (:mod:`s4m_pipeline.data.mixed_dataset`). The transform here
pastes one image's instances into another, after geometry and before the changes of colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mmcv.transforms.base import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks

MODES = ("static", "dynamic")
SCALES = (0.8, 1.2)
"""Least and greatest factor by which the dynamic mode rescales an instance."""
TABLES = ("class_probs", "quality")
"""Arrays whose rows ``gt_instances_ids`` points to."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Masks and pixels of a rectangle that lies inside an image.

    Attributes:
        x: Left edge in pixels.
        y: Upper edge in pixels.
        pixels: uint8 (h, w, 3).
        masks: bool (K, h, w), what of the pixels is pasted: the union of the K masks.
        rows: int64 (K,), places of the masks' instances in the image they come from.
    """

    x: int
    y: int
    pixels: np.ndarray
    masks: np.ndarray
    rows: np.ndarray


@TRANSFORMS.register_module()
class PasteInstances(BaseTransform):
    """Paste another image's instances into this one.

    The other image is the results dict in ``mix_results[0]`` (MMDetection's key for mixing
    transforms, which ``MultiImageMixDataset`` fills), which is not changed; without it nothing
    happens. Ignored instances and small ones
    do not move. A pasted instance occludes what is under it: older masks, ignored ones included,
    are cut and dropped where nothing is left, and all boxes are taken from the masks anew. Labels,
    flags, class distributions and quality come along. ``pasted``, bool (H, W), marks the changed
    pixels: structural targets are not true there.

    ``static`` pastes at the same pixels, all instances at once, cut at the image's border.
    ``dynamic`` rescales each by a factor from 0.8 to 1.2 and puts it anywhere that it fits, one
    after the other, so that a later one occludes an earlier one.

    Args:
        mode: "static" or "dynamic".
        min_area: Least area of a mask that moves, as a share of the canvas.
        canvas: Pixels of the training's crop, which smaller images are padded to; None takes the
            image that the mask is in.
    """

    def __init__(self, mode: str, min_area: float = 0.00286, canvas: int | None = None) -> None:
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}, not one of {', '.join(MODES)}")
        self.mode, self.min_area, self.canvas = mode, min_area, canvas

    def get_indexes(self, dataset: Sized) -> list[int]:
        """The partner's place in a dataset; MMDetection's ``MultiImageMixDataset`` asks for it."""
        return [int(np.random.randint(len(dataset)))]

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img`` and the instances; takes ``mix_results`` away."""
        partner = (results.pop("mix_results", None) or [None])[0]
        if partner is None:
            return results
        results["img"] = results["img"].copy()  # the partner takes its instances from it, too
        rows = self._moving(partner)
        if not len(rows):
            return results
        size = results["img"].shape[:2]
        masks = partner["gt_masks"].masks
        if self.mode == "static":
            patches = iter([_in_place(partner["img"], masks[rows] > 0, rows, size)])
        else:
            patches = _scattered(partner["img"], masks, rows, size)
        return _paste(results, partner, patches)

    def _moving(self, partner: dict[str, Any]) -> np.ndarray:
        """Places of the instances that are large enough and no ignored ones: int64 (K,)."""
        masks = partner["gt_masks"].masks
        areas = masks.astype(bool).sum((1, 2))
        canvas = self.canvas or partner["img"][..., 0].size
        large = (areas > 0) & (areas >= self.min_area * canvas)
        return np.flatnonzero(large & (partner["gt_ignore_flags"] == 0))

    def __repr__(self) -> str:
        return f"PasteInstances(mode={self.mode!r}, min_area={self.min_area}, canvas={self.canvas})"


def _in_place(
    image: np.ndarray, masks: np.ndarray, rows: np.ndarray, size: tuple[int, int]
) -> Patch:
    """All masks together, at the pixels where they are; cut to an image of ``size``."""
    height, width = (min(a, b) for a, b in zip(size, image.shape[:2], strict=True))
    return Patch(0, 0, image[:height, :width], masks[:, :height, :width], rows)


def _scattered(
    image: np.ndarray, masks: np.ndarray, rows: np.ndarray, size: tuple[int, int]
) -> Iterator[Patch]:
    """Each mask alone, rescaled and anywhere in an image of ``size``."""
    for row in rows:
        ys, xs = np.nonzero(masks[row])
        window = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        factor = np.random.uniform(*SCALES)
        height, width = (max(1, round(side * factor)) for side in masks[row][window].shape)
        mask = cv2.resize(
            masks[row][window].astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
        )
        pixels = cv2.resize(image[window], (width, height), interpolation=cv2.INTER_LINEAR)
        x, y = _anywhere(size[1] - width), _anywhere(size[0] - height)
        inside = np.s_[max(0, -y) : size[0] - y, max(0, -x) : size[1] - x]
        yield Patch(max(0, x), max(0, y), pixels[inside], mask[inside][None] > 0, np.array([row]))


def _anywhere(room: int) -> int:
    """A place along one side: inside the image, or all over it where there is too little room."""
    return int(np.random.randint(min(0, room), max(0, room) + 1))


def _paste(
    results: dict[str, Any], partner: dict[str, Any], patches: Iterator[Patch]
) -> dict[str, Any]:
    """Put patches into an image one after the other and bring its instances up to date."""
    image = results["img"]
    canvas = [(results["gt_masks"].masks > 0).astype(np.uint8)]
    pasted = np.zeros(image.shape[:2], bool)
    rows = []
    for patch in patches:
        height, width = patch.pixels.shape[:2]
        window = np.s_[patch.y : patch.y + height, patch.x : patch.x + width]
        union = patch.masks.any(0)
        for masks in canvas:
            masks[(slice(None), *window)] &= ~union
        moved = np.zeros((len(patch.masks), *image.shape[:2]), np.uint8)
        moved[(slice(None), *window)] = patch.masks
        canvas.append(moved)
        image[window][union] = patch.pixels[union]
        pasted[window] |= union
        rows.append(patch.rows)
    results["pasted"] = pasted
    return _join(results, partner, np.concatenate(canvas), np.concatenate(rows))


def _join(
    results: dict[str, Any], partner: dict[str, Any], masks: np.ndarray, rows: np.ndarray
) -> dict[str, Any]:
    """Add a partner's instances ``rows`` behind an image's own; empty masks are dropped."""
    kept = masks.any((1, 2))
    results["gt_masks"] = BitmapMasks(masks[kept], *masks.shape[1:])
    results["gt_bboxes"] = results["gt_masks"].get_bboxes(type(results["gt_bboxes"]))
    for key in ("gt_bboxes_labels", "gt_ignore_flags"):
        results[key] = np.concatenate([results[key], partner[key][rows]])[kept]
    if "gt_instances_ids" not in results:  # MMDetection's own loading has none
        return results
    own = results["gt_instances_ids"]
    first = len(results["instances"])
    for table in TABLES:
        if table in results and table in partner:
            first = len(results[table])
            results[table] = np.concatenate([results[table], partner[table]])
        else:
            results.pop(table, None)
    ids = np.concatenate([own, first + partner["gt_instances_ids"][rows]])
    results["gt_instances_ids"] = ids[kept]
    return results
