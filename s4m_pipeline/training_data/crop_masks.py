"""Masks that stay run-lengths through flips, resizes and crops, and are decoded where used.

A whole mask of a large image costs more to decode and resize than the image itself, and a crop
throws most of it away. MMDetection flips, resizes (to the nearest pixel) and crops bitmaps along
rows and columns apart, so each step only changes which source row and which source column an
output pixel is taken from. Those two lists are kept, and the pixels are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks
from rlemasklib import RLEMask

from s4m_pipeline.training_data.packed_masks import LazyMasks


class RleMasks(LazyMasks):
    """``BitmapMasks`` that are decoded when their pixels are first asked for.

    Once they are decoded, or for what no list of rows and columns can express, they behave as
    ``BitmapMasks`` and give such.

    Args:
        rles: The source masks, all of one size.
        rows: int64 (height,), source row of each output row, rising or falling throughout.
        columns: int64 (width,), source column of each output column, likewise.
        boxes: int64 (N, 4), x, y, width, height of the source masks; computed where it is None.
    """

    def __init__(
        self,
        rles: Sequence[RLEMask],
        rows: np.ndarray,
        columns: np.ndarray,
        boxes: np.ndarray | None = None,
    ) -> None:
        super().__init__(len(rows), len(columns))
        if boxes is None:
            boxes = np.array([rle.bbox() for rle in rles], np.int64).reshape(-1, 4)
        self._rles, self._rows, self._columns, self._boxes = list(rles), rows, columns, boxes

    @classmethod
    def of_image(cls, masks: Sequence[dict[str, Any]], height: int, width: int) -> RleMasks:
        """Take the COCO RLE dicts of an image as they are."""
        rles = [RLEMask.from_dict(mask) for mask in masks]
        return cls(rles, np.arange(height), np.arange(width))

    def __deepcopy__(self, memo: dict[int, Any]) -> RleMasks:
        """Copy the pixels, if there are any; run-lengths are never changed."""
        copy = self._taken(self._rows, self._columns)
        if self.decoded:
            copy.masks = self.masks.copy()
        return copy

    def __len__(self) -> int:
        """Number of masks."""
        return len(self.masks) if self.decoded else len(self._rles)

    def __getitem__(self, index: Any) -> BitmapMasks:
        """Take some masks."""
        if self.decoded:
            return super().__getitem__(index)
        chosen = np.atleast_1d(np.arange(len(self))[index])
        rles = [self._rles[number] for number in chosen]
        return RleMasks(rles, self._rows, self._columns, self._boxes[chosen])

    def rescale(self, scale: Any, interpolation: str = "nearest") -> BitmapMasks:
        """See ``BitmapMasks.rescale``."""
        if self.decoded or interpolation != "nearest":
            return super().rescale(scale, interpolation)
        width, height = mmcv.rescale_size((self.width, self.height), scale)
        return self._resized(height, width)

    def resize(self, out_shape: tuple[int, int], interpolation: str = "nearest") -> BitmapMasks:
        """See ``BitmapMasks.resize``."""
        if self.decoded or interpolation != "nearest":
            return super().resize(out_shape, interpolation)
        return self._resized(*out_shape)

    def flip(self, flip_direction: str = "horizontal") -> BitmapMasks:
        """See ``BitmapMasks.flip``."""
        if self.decoded:
            return super().flip(flip_direction)
        down = -1 if flip_direction in ("vertical", "diagonal") else 1
        across = -1 if flip_direction in ("horizontal", "diagonal") else 1
        return self._taken(self._rows[::down], self._columns[::across])

    def crop(self, bbox: np.ndarray) -> BitmapMasks:
        """See ``BitmapMasks.crop``."""
        x1, y1, x2, y2 = np.clip(bbox, 0, [self.width, self.height] * 2).tolist()
        if self.decoded or x2 <= x1 or y2 <= y1:
            return super().crop(bbox)
        return self._taken(self._rows[y1:y2], self._columns[x1:x2])

    def _taken(self, rows: np.ndarray, columns: np.ndarray) -> RleMasks:
        return RleMasks(self._rles, rows, columns, self._boxes)

    def _resized(self, height: int, width: int) -> RleMasks:
        return self._taken(_nearest(self._rows, height), _nearest(self._columns, width))

    def _decode(self) -> np.ndarray:
        """Decode what each mask has inside its box and the output."""
        pixels = np.zeros((len(self), self.height, self.width), np.uint8)
        starts, sizes = self._boxes[:, :2], self._boxes[:, 2:]
        tops, bottoms = _span(self._rows, starts[:, 1], starts[:, 1] + sizes[:, 1])
        lefts, rights = _span(self._columns, starts[:, 0], starts[:, 0] + sizes[:, 0])
        spans = zip(tops, bottoms, lefts, rights, strict=True)
        for plane, rle, (top, bottom, left, right) in zip(pixels, self._rles, spans, strict=True):
            if top < bottom and left < right:
                rows, columns = self._rows[top:bottom], self._columns[left:right]
                plane[top:bottom, left:right] = _gather(rle, rows, columns)
        return pixels


@TRANSFORMS.register_module()
class LoadInstances(LoadAnnotations):
    """``LoadAnnotations`` whose masks are decoded only where a crop leaves them."""

    def _load_masks(self, results: dict[str, Any]) -> None:
        """Add ``gt_masks``."""
        height, width = results["ori_shape"]
        masks = self._process_masks(results)
        if all(_is_compressed(mask, height, width) for mask in masks):
            results["gt_masks"] = RleMasks.of_image(masks, height, width)
        else:
            super()._load_masks(results)


def _is_compressed(mask: Any, height: int, width: int) -> bool:
    """Whether it is COCO's compressed RLE of an image of this size."""
    return (
        isinstance(mask, dict)
        and isinstance(mask["counts"], (str, bytes))
        and list(mask["size"]) == [height, width]
    )


def _nearest(places: np.ndarray, size: int) -> np.ndarray:
    """Resize a list of source rows or columns as MMDetection resizes a mask along one side."""
    line = np.arange(len(places), dtype=np.float32)[None]
    sources = mmcv.imresize(line, (size, 1), interpolation="nearest", backend="cv2")
    return places[sources[0].astype(np.int64)]


def _span(places: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[list[int], list[int]]:
    """First output place whose source is from ``low`` up to ``high``, and the place after the last.

    Args:
        places: int64 (size,), source place of each output place, rising or falling.
        low: int64 (N,).
        high: int64 (N,).
    """
    falling = places[0] > places[-1]
    rising = places[::-1] if falling else places
    first, after = np.searchsorted(rising, low), np.searchsorted(rising, high)
    if falling:
        first, after = len(places) - after, len(places) - first
    return first.tolist(), after.tolist()


def _gather(rle: RLEMask, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """uint8 (R, C): the pixels of a mask at some of its rows and columns."""
    top, bottom = sorted((int(rows[0]), int(rows[-1])))
    left, right = sorted((int(columns[0]), int(columns[-1])))
    pixels = rle.crop([left, top, right - left + 1, bottom - top + 1]).to_array()
    return pixels.take(rows - top, axis=0).take(columns - left, axis=1)
