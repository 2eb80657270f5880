"""SAM's prompt encoder and mask decoder in batches over images and prompts.

SAM 2 and MobileSAM share it: both decode with the `sam2` package's modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from torch import Tensor

from s4m_pipeline.devices.memory import attempt
from s4m_pipeline.devices.transfers import to_device
from s4m_pipeline.segmenter.base import Candidates, Embeddings, Frame, Prompts, Segmenter
from s4m_pipeline.segmenter.mask_head import added_levels, answer
from s4m_pipeline.segmenter.two_way import image_side

BOX_LABELS = (2, 3)  # SAM's point labels of a box's first and second corner
MOST_PROMPTS = 128
CPU_PIXELS = 2 * 1024**2
PROMPT_BYTES = 40  # of memory, for each prompt of a pass and pixel of the segmenter's input


def prompts_in_a_pass(device: torch.device, image_size: int) -> int:
    """The most prompts that one pass of the decoder takes unless told otherwise.

    A GPU takes as many as fit in a quarter of its memory, a power of two, at most 128. How much of
    it is free at the moment does not count, since the number may change the masks' last bits. On a
    CPU a few are faster, since what they make stays in its cache: 2 at 1024 pixels, 8 at 512
    (`benchmarks/prompt_batches.py`).

    Args:
        device: Where the decoder runs.
        image_size: Side of the segmenter's input in pixels.
    """
    if device.type == "cpu":
        return max(1, CPU_PIXELS // image_size**2)
    if device.type != "cuda":
        return MOST_PROMPTS
    memory = torch.cuda.get_device_properties(device).total_memory
    held = max(1, memory // 4 // (PROMPT_BYTES * image_size**2))
    return min(MOST_PROMPTS, 1 << (held.bit_length() - 1))


@dataclass(slots=True)
class _Rows:
    """Prompts of one kind, from any images, in model pixels on the device."""

    images: list[int]  # image of each row, ascending, counted from the group's first
    coords: Tensor  # (R, P, 2), a box's two corners first
    labels: Tensor  # (R, P)
    masks: Tensor | None  # (R, 1, 4h, 4w)
    boxed: bool  # whether the rows have a box

    def slice(self, start: int, stop: int) -> _Rows:
        masks = None if self.masks is None else self.masks[start:stop]
        return _Rows(
            self.images[start:stop],
            self.coords[start:stop],
            self.labels[start:stop],
            masks,
            self.boxed,
        )


class PromptDecoder:
    """Prompts to mask logits, with one pass of the decoder for a chunk of prompts.

    Args:
        prompt_encoder: The `sam2` package's; its sizes must follow the segmenter's image size.
        mask_decoder: The `sam2` package's.
        max_prompts: Most prompts in one pass; bounds the memory. It is halved for good where a
            pass runs out of the device's memory.
        mix_images: Whether one pass may hold prompts of several images. This fills a GPU; on a
            CPU it gains nothing and only makes the last bits depend on the batch.
        pad_boxes: Whether a "not a point" token follows a box too, as in SAM 2's predictor, or
            only points without a box, as in SAM's.
    """

    def __init__(
        self,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        max_prompts: int,
        mix_images: bool,
        pad_boxes: bool,
    ) -> None:
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.max_prompts = max_prompts
        self.mix_images = mix_images
        self.pad_boxes = pad_boxes
        self.device = next(mask_decoder.parameters()).device
        self._known_position: Tensor | None = None

    @torch.inference_mode()
    def decode(
        self, embeddings: Embeddings, prompts: Sequence[Prompts], multimask: bool
    ) -> list[Candidates]:
        """See `Segmenter.decode`."""
        answers: list[Candidates | None] = [None] * len(prompts)
        for group in self._groups(prompts):
            rows = self._rows(group, prompts, embeddings.frames)
            images = slice(group[0], group[-1] + 1)
            high_res = tuple(level[images] for level in embeddings.high_res)
            added = added_levels(self.mask_decoder, high_res)
            parts, ious = self._passes(embeddings.image[images], added, rows, multimask)
            start = 0
            for image in group:
                stop = start + len(prompts[image])
                answers[image] = Candidates(_rows_between(parts, start, stop), ious[start:stop])
                start = stop
        return [c or self._nothing(embeddings, multimask) for c in answers]

    @torch.inference_mode()
    def structure_features(self, embeddings: Embeddings, index: int, points: np.ndarray) -> Tensor:
        """See `Segmenter.structure_features`."""
        coords = embeddings.frames[index].to_model(points)[:, None]
        sparse, dense = self.prompt_encoder(
            points=(
                to_device(torch.from_numpy(coords), self.device),
                torch.ones(len(coords), 1, dtype=torch.int32, device=self.device),
            ),
            boxes=None,
            masks=None,
        )
        image = embeddings.image[index : index + 1] + dense[:1]
        return image_side(self.mask_decoder, image, self._position(), sparse)

    def _position(self) -> Tensor:
        """(1, C, h, w), positional encoding of the cells; it never changes."""
        if self._known_position is None:
            self._known_position = self.prompt_encoder.get_dense_pe()
        return self._known_position

    def _nothing(self, embeddings: Embeddings, multimask: bool) -> Candidates:
        h, w = embeddings.image.shape[-2:]
        count = self.mask_decoder.num_multimask_outputs if multimask else 1
        return Candidates(
            (torch.zeros(0, count, 4 * h, 4 * w, device=self.device),),
            torch.zeros(0, count, device=self.device),
        )

    def _groups(self, prompts: Sequence[Prompts]) -> list[list[int]]:
        """Images whose prompts have the same shape and so fit one batch."""
        groups: dict[tuple, list[int]] = {}
        for image, prompt in enumerate(prompts):
            if len(prompt):
                kind = (prompt.points.shape[1], prompt.boxes is None, prompt.masks is None)
                key = kind if self.mix_images else (*kind, image)
                groups.setdefault(key, []).append(image)
        return list(groups.values())

    def _rows(
        self, group: Sequence[int], prompts: Sequence[Prompts], frames: Sequence[Frame]
    ) -> _Rows:
        coords, labels = [], []
        for image in group:
            here, kinds = _sparse(prompts[image], frames[image])
            coords.append(here)
            labels.append(kinds)
        masks = [some for image in group if (some := prompts[image].masks) is not None]
        return _Rows(
            [image - group[0] for image in group for _ in range(len(prompts[image]))],
            to_device(torch.from_numpy(np.concatenate(coords)), self.device),
            to_device(torch.from_numpy(np.concatenate(labels)), self.device),
            to_device(torch.cat(masks), self.device) if masks else None,
            prompts[group[0]].boxes is not None,
        )

    def _embed(self, rows: _Rows) -> tuple[Tensor, Tensor]:
        """(R, T, C) tokens and (R, C, h, w) dense embeddings of the prompts."""
        coords, labels, boxes = rows.coords, rows.labels, None
        if rows.boxed and not self.pad_boxes:
            boxes = coords[:, :2].flatten(1)
            coords, labels = coords[:, 2:], labels[:, 2:]
        points = (coords, labels) if coords.shape[1] else None
        sparse, dense = self.prompt_encoder(points=points, boxes=boxes, masks=rows.masks)
        count = len(rows.images)  # without any prompt the encoder answers with one row
        return sparse.expand(count, -1, -1), dense.expand(count, -1, -1, -1)

    def _passes(
        self, image: Tensor, added: tuple[Tensor, Tensor], rows: _Rows, multimask: bool
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """All rows in passes of at most `max_prompts`, fewer where memory runs out.

        Returns:
            The logits of each pass, and the predicted IoUs of all.
        """
        sparse: Tensor | None = None
        if rows.masks is None:  # tokens are small, and the cells' part is the same for every prompt
            sparse, dense = self._embed(rows)
            image = image + dense[:1]
        parts: list[tuple[Tensor, Tensor]] = []
        start = 0
        while start < len(rows.images):
            some = rows.slice(start, start + self.max_prompts)
            count = len(some.images)
            tokens = None if sparse is None else sparse[start : start + count]
            part = attempt(partial(self._pass, image, added, some, tokens, multimask), count)
            if part is None:
                self.max_prompts = count // 2
                continue
            parts.append(part)
            start += count
        logits, ious = zip(*parts, strict=True)
        return logits, torch.cat(ious)

    def _pass(
        self,
        image: Tensor,
        added: tuple[Tensor, Tensor],
        rows: _Rows,
        sparse: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """Answers to some rows; ``sparse`` is None where their masks are still to be embedded."""
        pick: slice | Tensor = slice(rows.images[0], rows.images[0] + 1)
        if rows.images[0] != rows.images[-1]:
            pick = to_device(torch.tensor(rows.images), self.device)
        image = image[pick]
        if sparse is None:
            sparse, dense = self._embed(rows)
            image = image + dense
        masks, ious = answer(
            self.mask_decoder,
            image,
            self._position(),
            sparse,
            (_rows_of(added[0], pick), _rows_of(added[1], pick)),
            multimask,
        )
        return masks.float(), ious.float()


class DecodingSegmenter(Segmenter):
    """What the segmenters that decode with a `PromptDecoder` have in common.

    Attributes:
        decoder: The prompt encoder and mask decoder, with their batching.
    """

    decoder: PromptDecoder

    def decode(
        self, embeddings: Embeddings, prompts: Sequence[Prompts], multimask: bool
    ) -> list[Candidates]:
        """See `Segmenter.decode`."""
        most = self.decoder.max_prompts
        answers = self.decoder.decode(embeddings, prompts, multimask)
        if self.decoder.max_prompts < most:
            self.warn(f"memory ran out: {self.decoder.max_prompts} prompts a pass")
        return answers

    def structure_features(self, embeddings: Embeddings, index: int, points: np.ndarray) -> Tensor:
        """See `Segmenter.structure_features`."""
        return self.decoder.structure_features(embeddings, index, points)


def _rows_of(level: Tensor, pick: slice | Tensor) -> Tensor:
    """The images' rows of a level; one row stands for all."""
    return level if len(level) == 1 else level[pick]


def _rows_between(parts: Sequence[Tensor], start: int, stop: int) -> tuple[Tensor, ...]:
    """The rows from start to stop of parts that follow one another."""
    pieces = []
    for part in parts:
        if start < len(part) and stop > 0:
            pieces.append(part[max(0, start) : stop])
        start, stop = start - len(part), stop - len(part)
    return tuple(pieces)


def _sparse(prompts: Prompts, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Box corners before points, as SAM 2's predictor puts them: (N, P, 2), (N, P)."""
    points = frame.to_model(prompts.points)
    labels = np.asarray(prompts.labels, np.int32)
    if prompts.boxes is not None:
        corners = frame.to_model(prompts.boxes.reshape(-1, 2, 2))
        points = np.concatenate([corners, points], axis=1)
        kinds = np.tile(np.array(BOX_LABELS, np.int32), (len(corners), 1))
        labels = np.concatenate([kinds, labels], axis=1)
    return np.ascontiguousarray(points, np.float32), np.ascontiguousarray(labels)
