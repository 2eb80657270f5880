"""What of a teacher's instances is shown to the segmenter; the table is `config_prompts`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from s4m_pipeline.config_prompts import PROMPTS, PromptParts
from s4m_pipeline.errors import UsageError
from s4m_pipeline.refinement.instances import TeacherInstance
from s4m_pipeline.refinement.negatives import PADDING
from s4m_pipeline.refinement.resampling import Window
from s4m_pipeline.refinement.soft_masks import LEVELS, grid_shape, sample_soft_mask
from s4m_pipeline.segmenter.base import Frame, Prompts


def parts_of(prompts: str) -> PromptParts:
    """What a name in the table of prompts shows the segmenter (UsageError for one that is not)."""
    if prompts not in PROMPTS:
        raise UsageError(f"unknown refine.policy {prompts!r}; there are {', '.join(PROMPTS)}")
    return PROMPTS[prompts]


def build_prompts(
    instances: Sequence[TeacherInstance],
    prompts: str,
    points: int,
    teacher_logits: Tensor | None = None,
    negatives: tuple[np.ndarray, np.ndarray] | None = None,
    view: Window | None = None,
) -> Prompts:
    """The prompts of one image's instances.

    Points are drawn anywhere in the image, likely ones on the instance. One that a closer view does
    not show is no point there: to the segmenter it would lie beyond its input. An instance that
    has no other is prompted where the teacher is surest of it.

    Args:
        instances: N instances.
        prompts: A name in `config_prompts.PROMPTS`.
        points: How many of an instance's stored points are used, in the order drawn.
        teacher_logits: float32 (N, 1, 4h, 4w) from `teacher_frame_logits`; the mask prompt, where
            there is one.
        negatives: float32 (N, M, 2) and int32 (N, M) from `negatives.negative_points`, put after
            the positive points without the columns that no instance fills.
        view: What the segmenter sees; the whole image by default.

    Returns:
        Prompts in original pixels.

    Raises:
        UsageError: An unknown name, or fewer points are stored than wanted.
        ValueError: The mask is prompted, and there are no logits for it.
    """
    parts = parts_of(prompts)
    if parts.mask and teacher_logits is None:
        raise ValueError(f"{prompts} needs the teacher's logits")
    count = points if parts.points else 0
    coords, labels = _points(instances, count), np.ones((len(instances), count), np.int32)
    if view is not None:
        _leave_out(coords, labels, ~view.holds(coords), instances)
    if negatives is not None:
        used = (negatives[1] != PADDING).any(0)
        coords = np.concatenate([coords, negatives[0][:, used]], axis=1)
        labels = np.concatenate([labels, negatives[1][:, used]], axis=1)
    return Prompts(
        points=coords,
        labels=labels,
        boxes=_boxes(instances) if parts.box else None,
        masks=teacher_logits if parts.mask else None,
    )


def _points(instances: Sequence[TeacherInstance], count: int) -> np.ndarray:
    out = np.zeros((len(instances), count, 2), np.float32)
    for row, instance in zip(out, instances, strict=True):
        stored = np.asarray(instance.points, np.float32).reshape(-1, 2)
        if len(stored) < count:
            raise UsageError(
                f"refine.points is {count}, but the pseudo-labels store {len(stored)} for an "
                "instance; make them again with that refine.points"
            )
        row[:] = stored[:count]
    return out


def _leave_out(
    coords: np.ndarray, labels: np.ndarray, unseen: np.ndarray, instances: Sequence[TeacherInstance]
) -> None:
    """Take points out; an instance that would have none left gets its surest one, once."""
    coords[unseen], labels[unseen] = 0, PADDING
    for n in np.flatnonzero(unseen.all(1)) if unseen.shape[1] else ():
        one = instances[int(n)]
        row, column = np.unravel_index(one.soft_mask.argmax(), one.soft_mask.shape)
        cell = np.add(one.soft_mask_box[:2], (column + 0.5, row + 0.5))
        x, y, width, height = one.bbox  # the mask of a cell may end within it
        coords[n, 0] = np.clip(cell * one.stride, (x, y), (x + width - 0.5, y + height - 0.5))
        labels[n, 0] = 1


def _boxes(instances: Sequence[TeacherInstance]) -> np.ndarray:
    boxes = np.array([i.bbox for i in instances], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def teacher_frame_logits(
    instances: Sequence[TeacherInstance], frame: Frame, image_size: int, size: int
) -> Tensor:
    """The teacher's soft masks as mask logits in the model's frame.

    Probabilities are sampled bilinearly at the centres of the model's mask cells and kept half
    a stored level away from 0 and 1, so that the logits lie within 6.3 of 0. Cells of the
    padding count as outside.

    Args:
        instances: N instances.
        frame: How the image lies in the model's input.
        image_size: Side of the model's input in pixels.
        size: Side of the model's mask logits in cells (4h).

    Returns:
        float32 (N, 1, size, size) on the CPU; above 0 where the teacher's probability is above
        one half.
    """
    centres = (np.arange(size, dtype=np.float32) + 0.5) * (image_size / size)
    ys = centres[centres < frame.valid_height] * (frame.view_height / frame.valid_height)
    xs = centres[centres < frame.valid_width] * (frame.view_width / frame.valid_width)
    ys, xs = ys + np.float32(frame.y), xs + np.float32(frame.x)
    prob = np.zeros((len(instances), 1, size, size), np.float32)
    for out, instance in zip(prob, instances, strict=True):
        grid = grid_shape(instance.stride, frame.height, frame.width)
        out[0, : len(ys), : len(xs)] = sample_soft_mask(
            instance.soft_mask,
            instance.soft_mask_box,
            grid,
            ys / instance.stride,
            xs / instance.stride,
        )
    return torch.logit(torch.from_numpy(prob), eps=0.5 / LEVELS)
