"""From a network's output on an image to rows of the ``predictions`` table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.models.predictor import InstancePredictions
from s4m_pipeline.refinement.rle import bbox_area, encode_crop
from s4m_pipeline.refinement.soft_masks import (
    decode_soft_mask,
    draw_prompt_points,
    encode_soft_logits,
    soft_mask_to_pixels,
    soft_mask_window,
)
from s4m_pipeline.stages.prediction_settings import PredictionSettings


def prediction_rows(
    record: ImageRecord,
    size: tuple[int, int],
    predictions: InstancePredictions,
    category_ids: Sequence[int],
    settings: PredictionSettings,
) -> list[dict[str, Any]]:
    """Turn one image's network output into rows of the ``predictions`` table.

    Args:
        record: The image.
        size: Its height and width in pixels.
        predictions: Class probabilities (N, K) and mask logits (N, h, w) of its queries.
        category_ids: COCO category id of each class.
        settings: The least score, the number of points and the seed.

    Returns:
        Rows by falling score; queries below the least score or with an empty mask have none.
    """
    if len(predictions.class_probs) == 0:
        return []
    views_seen = predictions.views_seen
    labels = predictions.class_probs.argmax(axis=1)
    scores = predictions.class_probs.max(axis=1)
    rows: list[dict[str, Any]] = []
    for query in np.argsort(-scores, kind="stable"):
        if scores[query] < settings.min_score:
            break
        row = _mask_columns(predictions.mask_logits[query], predictions.stride, size)
        if row is None:
            continue
        generator = rng(settings.seed, "pseudo-label", record.id, len(rows))
        row |= {
            "image_id": record.id,
            "file_name": record.file_name,
            "height": size[0],
            "width": size[1],
            "instance_id": len(rows),
            "category_id": category_ids[int(labels[query])],
            "score": float(scores[query]),
            "class_probs": predictions.class_probs[query],
            "views_seen": 1 if views_seen is None else int(views_seen[query]),
            "prompt_points": _points(predictions, int(query), size, settings.points, generator),
        }
        rows.append(row)
    return rows


def count_reaching(predictions: InstancePredictions, min_score: float) -> int:
    """How many of an image's queries reach a score, whether or not their masks have a pixel."""
    scores = predictions.class_probs
    return int((scores.max(axis=1) >= min_score).sum()) if len(scores) else 0


def _points(
    predictions: InstancePredictions,
    query: int,
    size: tuple[int, int],
    count: int,
    generator: np.random.Generator,
) -> np.ndarray:
    logits = predictions.mask_logits[query]
    count = min(count, logits.size)
    return draw_prompt_points(logits, count, predictions.stride, *size, generator).reshape(-1)


def _mask_columns(
    logits: np.ndarray, stride: float, size: tuple[int, int]
) -> dict[str, Any] | None:
    """The columns of a mask, as run-lengths and as a soft mask; None where it has no pixel."""
    data, box = encode_soft_logits(logits)
    if box[2] == 0:
        return None
    crop = decode_soft_mask(data, box)
    window = soft_mask_window(crop > 127, box, stride, *size)
    pixels = soft_mask_to_pixels(crop, box, stride, *size, window=window) > 0.5
    rle = encode_crop(pixels, window.x, window.y, *size)
    bbox, area = bbox_area(rle, *size)
    if area == 0:
        return None
    return {
        "bbox": bbox,
        "area": area,
        "mask_rle": rle,
        "soft_mask": data,
        "soft_mask_box": box,
        "soft_mask_stride": stride,
    }
