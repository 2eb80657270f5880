"""Augmentation with refined pseudo-labels: images trade instances.

See docs/method.md, "Augmentation with refined pseudo-labels". Which images trade is drawn by batch
(:mod:`s4m_pipeline.training_data.mixed_dataset`). The transform pastes one image's instances into
another, after the geometric transforms and before the changes of colour.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
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
    """One instance's rectangle, which lies inside an image.

    Attributes:
        x: Left edge in pixels.
        y: Upper edge in pixels.
        pixels: uint8 (h, w, 3).
        mask: uint8 (h, w), 0 or 1: what of the pixels is pasted.
    """

    x: int
    y: int
    pixels: np.ndarray
    mask: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the image that it covers."""
        height, width = self.mask.shape
        return np.s_[self.y : self.y + height, self.x : self.x + width]


@TRANSFORMS.register_module()
class PasteInstances(BaseTransform):
    """Paste another image's instances into this one.

    The other image is the results dict in ``mix_results[0]``, MMDetection's key for mixing
    transforms, which ``MultiImageMixDataset`` fills. It is not changed; without it nothing is done.
    Ignored instances and small ones do not move. A pasted instance occludes what is under it: older
    masks, ignored ones included, are cut, those of which nothing is left are dropped, and all boxes
    are computed anew from the masks. Labels, flags, class distributions and quality come along.
    ``pasted``, bool (H, W), marks the changed pixels, where structural targets do not hold.

    ``static`` pastes at the same pixels, all instances at once, cut at the image's border.
    ``dynamic`` rescales each by a factor from 0.8 to 1.2 and puts it anywhere that it fits, one
    after the other, so that a later one occludes an earlier one.

    Args:
        mode: "static" or "dynamic".
        min_area: Least area of a mask that moves, as a share of the canvas.
        canvas: Pixels of the training's crop, which smaller images are padded to; None for
            the pixels of the image that the mask is in.
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
        image, masks = partner["img"], partner["gt_masks"].masks
        make = _in_place if self.mode == "static" else _scattered
        patches = [make(image, _as_bytes(masks[row]), size) for row in rows]
        shown = _put(results, patches, occluding=self.mode == "dynamic")
        return _join(results, partner, patches, shown, rows)

    def _moving(self, partner: dict[str, Any]) -> np.ndarray:
        """Places of the instances that are large enough and no ignored ones: int64 (K,)."""
        masks = partner["gt_masks"].masks
        areas = np.array([cv2.countNonZero(_as_bytes(mask)) for mask in masks], np.int64)
        canvas = self.canvas or partner["img"][..., 0].size
        large = (areas > 0) & (areas >= self.min_area * canvas)
        return np.flatnonzero(large & (partner["gt_ignore_flags"] == 0))

    def __repr__(self) -> str:
        return f"PasteInstances(mode={self.mode!r}, min_area={self.min_area}, canvas={self.canvas})"


def _as_bytes(mask: np.ndarray) -> np.ndarray:
    """The mask as OpenCV takes it: uint8 (H, W), what is not 0 is in it."""
    return mask.astype(np.uint8, copy=False)


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the least rectangle around a mask, uint8 (H, W)."""
    x, y, width, height = cv2.boundingRect(mask)
    return np.s_[y : y + height, x : x + width]


def _in_place(image: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> Patch:
    """An instance at the pixels where it is; cut to an image of ``size``, maybe to nothing."""
    mask = mask[: size[0], : size[1]]
    window = _box(mask)
    return Patch(window[1].start, window[0].start, image[window], _ones(mask[window]))


def _scattered(image: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> Patch:
    """An instance rescaled and anywhere in an image of ``size``."""
    window = _box(mask)
    factor = np.random.uniform(*SCALES)
    height, width = (max(1, round(side * factor)) for side in mask[window].shape)
    scaled = cv2.resize(mask[window], (width, height), interpolation=cv2.INTER_NEAREST)
    pixels = cv2.resize(image[window], (width, height), interpolation=cv2.INTER_LINEAR)
    x, y = _anywhere(size[1] - width), _anywhere(size[0] - height)
    inside = np.s_[max(0, -y) : size[0] - y, max(0, -x) : size[1] - x]
    return Patch(max(0, x), max(0, y), pixels[inside], _ones(scaled[inside]))


def _ones(mask: np.ndarray) -> np.ndarray:
    """The mask with 1 for whatever is not 0."""
    return (mask > 0).view(np.uint8)


def _anywhere(room: int) -> int:
    """A place along one side: inside the image, or all over it where there is too little room."""
    return int(np.random.randint(min(0, room), max(0, room) + 1))


def _put(results: dict[str, Any], patches: Sequence[Patch], occluding: bool) -> list[np.ndarray]:
    """Put patches into an image one after the other, and add ``pasted``.

    From the last to the first, with the union of what came after: each pixel is written once.

    Args:
        results: Of the image, whose contiguous pixels are changed in place.
        patches: In the order in which they are pasted.
        occluding: Whether a patch hides those before it; otherwise they share pixels.

    Returns:
        What is to be seen of each patch's mask: uint8 (h, w).
    """
    pasted = np.zeros(results["img"].shape[:2], np.uint8)
    shown = []
    for patch in reversed(patches):
        covered = pasted[patch.window]
        fresh: np.ndarray = patch.mask & ~covered
        if fresh.size:
            cv2.copyTo(patch.pixels, fresh, results["img"][patch.window])
        covered |= fresh
        shown.append(fresh if occluding else patch.mask)
    results["pasted"] = pasted.view(bool)
    return shown[::-1]


def _join(
    results: dict[str, Any],
    partner: dict[str, Any],
    patches: Sequence[Patch],
    shown: Sequence[np.ndarray],
    rows: np.ndarray,
) -> dict[str, Any]:
    """Add a partner's instances ``rows`` behind an image's own; empty masks are dropped."""
    masks, kept = _visible(results["gt_masks"].masks, ~results["pasted"], patches, shown)
    results["gt_masks"] = BitmapMasks(masks[:0], *masks.shape[1:])
    results["gt_masks"].masks = masks  # not through the constructor, which would copy all
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


def _visible(
    own: np.ndarray, free: np.ndarray, patches: Sequence[Patch], shown: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The masks that are left of an image's own and of the patches, each plane written once.

    Args:
        own: (N, H, W), what is not 0 is in a mask.
        free: bool (H, W), where nothing was pasted.
        patches: K of them.
        shown: What is to be seen of each.

    Returns:
        uint8 (M, H, W), and which of all N + K masks they are: bool (N + K,).
    """
    masks = np.zeros((len(own) + len(patches), *free.shape), np.uint8)
    kept = np.zeros(len(masks), bool)
    count = 0  # an empty mask's plane stays 0, for the next one to be written there
    for place, mask in enumerate(own):
        np.greater(mask, 0, out=masks[count].view(bool))
        masks[count] &= free.view(np.uint8)
        kept[place] = cv2.hasNonZero(masks[count])
        count += int(kept[place])
    for place, (patch, mask) in enumerate(zip(patches, shown, strict=True), len(own)):
        if mask.any():
            masks[count][patch.window] = mask
            kept[place] = True
            count += 1
    return masks[:count], kept
