"""Masks that a data worker hands over as bits, which become pixels where they are used.

What a worker makes is read from a pipe by the training, byte by byte; only tensors come by shared
memory, at a fixed cost each. So a batch's masks, by far the most of its bytes, go as one tensor of
bits, and stay bits until someone asks for pixels or the device has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.dataset import pseudo_collate
from torch import Tensor
from torch.utils.data import get_worker_info

from s4m_pipeline.devices.transfers import bytes_to_device
from s4m_pipeline.training_data.pinning import Samples


class LazyMasks(BitmapMasks):
    """``BitmapMasks`` whose pixels are made when they are first asked for.

    From then on the pixels are what counts, since they may be changed in place. Masks go to another
    process as bits.

    Args:
        height: In pixels.
        width: In pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._pixels: np.ndarray | None = None

    @property
    def decoded(self) -> bool:
        """Whether the pixels were asked for already."""
        return self._pixels is not None

    @property
    def masks(self) -> np.ndarray:
        """uint8 (N, height, width), made on the first call."""
        if self._pixels is None:
            self._pixels = self._decode()
        return self._pixels

    @masks.setter
    def masks(self, pixels: np.ndarray) -> None:
        self._pixels = pixels

    def _decode(self) -> np.ndarray:
        raise NotImplementedError

    @classmethod
    def cat(cls, masks: Sequence[BitmapMasks]) -> BitmapMasks:
        """See ``BitmapMasks.cat``; gives ``BitmapMasks``."""
        return BitmapMasks.cat(masks)

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process as bits."""
        (packed,) = pack([self])
        if isinstance(packed, PackedMasks):
            return packed.__reduce__()
        return BitmapMasks, (packed.masks, packed.height, packed.width)


class PackedMasks(LazyMasks):
    """Masks as rows of bits, a row filled up to whole bytes, the first pixel the highest bit.

    Args:
        store: uint8 (S,) on the host, which other masks of the batch share.
        first: Place of the first byte in it.
        shape: Number, height and width of the masks in it.
        height: Height in pixels, with empty rows added below.
        width: Width in pixels, with empty columns added on the right.
    """

    def __init__(
        self, store: Tensor, first: int, shape: tuple[int, int, int], height: int, width: int
    ) -> None:
        super().__init__(height, width)
        self._store, self._first, self._shape = store, first, shape

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process as the bits that are here, unless pixels were asked for."""
        if self.decoded:
            return super().__reduce__()
        return PackedMasks, (self._store, self._first, self._shape, self.height, self.width)

    def __len__(self) -> int:
        """Number of masks."""
        return len(self.masks) if self.decoded else self._shape[0]

    def bits(self) -> np.ndarray:
        """uint8 (N, height, bytes of a row); not to be changed, nor asked for once decoded."""
        count, height, width = self._shape
        row = _bytes_of(width)
        after = self._first + count * height * row
        stored = self._store.numpy()[self._first : after].reshape(count, height, row)
        if (height, width) == (self.height, self.width):
            return stored
        padded = np.zeros((count, self.height, _bytes_of(self.width)), np.uint8)
        padded[:, :height, :row] = stored
        return padded

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> BitmapMasks:
        """See ``BitmapMasks.pad``."""
        height, width = out_shape
        if self.decoded or pad_val or height < self.height or width < self.width:
            return super().pad(out_shape, pad_val)
        return PackedMasks(self._store, self._first, self._shape, height, width)

    def to_tensor(self, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        """See ``BitmapMasks.to_tensor``; they go to the device as bits."""
        if self.decoded:
            return super().to_tensor(dtype, device)
        return unpacked(bytes_to_device([self.bits()], torch.device(device)), self.width).to(dtype)

    def _decode(self) -> np.ndarray:
        return np.unpackbits(self.bits(), axis=-1, count=self.width)


def pack(masks: Sequence[BitmapMasks]) -> list[BitmapMasks]:
    """Pack masks as bits of one tensor; those with other pixels than 0 and 1 become bitmaps.

    Args:
        masks: They are not changed.

    Returns:
        As many, ``PackedMasks`` or ``BitmapMasks``.
    """
    packs = [np.packbits(one.masks, axis=-1) if _is_binary(one.masks) else None for one in masks]
    parts = [np.zeros(0, np.uint8) if rows is None else rows.ravel() for rows in packs]
    store = torch.from_numpy(np.concatenate([np.zeros(0, np.uint8), *parts]))
    firsts = accumulate((part.size for part in parts), initial=0)
    return [
        BitmapMasks(one.masks, one.height, one.width)
        if rows is None
        else PackedMasks(store, first, one.masks.shape, one.height, one.width)
        for one, rows, first in zip(masks, packs, firsts, strict=False)
    ]


def unpacked(bits: Tensor, width: int) -> Tensor:
    """The pixels of rows of bits, on their device.

    Args:
        bits: uint8 (..., R), R bytes a row.
        width: In pixels.

    Returns:
        uint8 (..., width), 0 or 1.
    """
    shifts = torch.arange(8, dtype=torch.uint8, device=bits.device).flip(0)
    pixels = bits.unsqueeze(-1).bitwise_right_shift(shifts).bitwise_and_(1)
    return pixels.flatten(-2)[..., :width]


def union(masks: BitmapMasks) -> np.ndarray:
    """Where any of the masks is, bool (H, W); of bits, only the union's become pixels."""
    if isinstance(masks, PackedMasks) and not masks.decoded:
        joined = np.bitwise_or.reduce(masks.bits(), axis=0)
        return np.unpackbits(joined, axis=-1, count=masks.width).view(bool)
    pixels: np.ndarray = masks.to_ndarray().any(0)
    return pixels


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put a batch together as MMEngine's ``pseudo_collate``; a data worker packs its masks first.

    The data samples are a list that a loader can pin.

    Args:
        items: ``inputs`` and ``data_samples`` of each image; a worker changes the latter.
    """
    if get_worker_info() is not None:
        holders = _holders(items)
        for holder, masks in zip(holders, pack([one.masks for one in holders]), strict=True):
            holder.masks = masks
    batch: dict[str, Any] = pseudo_collate(items)
    return {**batch, "data_samples": Samples(batch["data_samples"])}


def _holders(items: Sequence[dict[str, Any]]) -> list[Any]:
    """The parts of the images' data samples that have bitmaps."""
    samples = [item["data_samples"] for item in items]
    holders = [one.get(name) for one in samples for name in ("gt_instances", "ignored_instances")]
    return [one for one in holders if one is not None and isinstance(one.get("masks"), BitmapMasks)]


def _is_binary(pixels: np.ndarray) -> bool:
    return pixels.dtype == np.uint8 and bool(pixels.max(initial=0) <= 1)


def _bytes_of(width: int) -> int:
    return -(-width // 8)
