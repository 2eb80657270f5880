"""Masks drawn over an image: translucent fills, crisp contours and short labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import rlemasklib
from PIL import Image, ImageDraw, ImageFont

from s4m_pipeline.errors import UsageError
from s4m_pipeline.review.palette import Colour, pick_colour

FILL_ALPHA = 0.4
RIM_ALPHA = 0.85
SMALL_SIDE = 384  # pictures are enlarged by a whole factor while this many pixels hold them
LABEL_LENGTH = 18
_OVERSAMPLING = 2  # contours are made at twice the picture's size and averaged down
_RIM = 2  # white rim outside the mask, in oversampled pixels
_MARGIN = 2 * (_RIM + 2)

Rectangle = tuple[int, int, int, int]


def draw_masks(
    image: np.ndarray,
    rles: Sequence[bytes],
    labels: Sequence[str | int],
    scores: Sequence[float] | None = None,
    scale: int | float | None = None,
    colours: Mapping[str, Colour] | None = None,
) -> Image.Image:
    """Draw instance masks over an image.

    Large masks are drawn first, so that small ones stay visible. Only pixels in a mask, within
    two picture pixels of its edge, or under a label differ from the (resized) image.

    Args:
        image: uint8 (H, W, 3), RGB.
        rles: one COCO compressed RLE (the ``counts`` bytes) per instance, of the image's size.
        labels: class name or number per instance; an empty text draws no label.
        scores: shown after the label where given.
        scale: picture pixels per image pixel, above 0; None enlarges small images by a whole
            factor (128 px becomes 384 px) and leaves larger ones as they are.
        colours: label (as text) to (red, green, blue); labels not in it have a fixed colour of
            their own.

    Returns:
        An RGB picture of about (W * scale, H * scale) pixels.

    Raises:
        UsageError: the image's shape or type is another, lengths differ, or an RLE is not of
            the image's size.
    """
    _check(image, rles, labels, scores)
    height, width = image.shape[:2]
    factor = float(default_scale(height, width) if scale is None else scale)
    if not factor > 0:
        raise UsageError(f"scale must be above 0, not {scale}")
    picture = resize(image, factor)
    masks = [_decode(rle, height, width) for rle in rles]
    canvas = np.asarray(picture, dtype=np.float32).copy()
    order = sorted(range(len(masks)), key=lambda i: -int(masks[i].sum()))
    for i in order:
        _paint(canvas, masks[i], pick_colour(labels[i], colours))
    drawn = Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8))
    texts = [
        label_text(label, scores[i] if scores is not None else None)
        for i, label in enumerate(labels)
    ]
    boxes = [_scaled_box(mask, picture.size) for mask in masks]
    _draw_labels(drawn, texts, boxes, [pick_colour(label, colours) for label in labels])
    return drawn


def default_scale(height: int, width: int) -> int:
    """Whole factor that brings a small image near 384 px on its longer side, at least 1."""
    return max(1, min(8, SMALL_SIDE // max(height, width, 1)))


def fit_scale(height: int, width: int, longest: int) -> float:
    """Scale for a page: the default one, or below 1 where a side would be above ``longest`` px."""
    return min(float(default_scale(height, width)), longest / max(height, width, 1))


def line_width(height: int, width: int) -> int:
    """Contour width in pixels of a picture: 2, and more where a page will show it smaller."""
    return max(2, round(max(height, width) / 150))


def resize(image: np.ndarray, scale: float) -> Image.Image:
    """Resize a uint8 (H, W, 3) image by a factor, with a smooth filter; at least 1 px a side."""
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(np.ascontiguousarray(image))
    if size == picture.size:
        return picture
    return picture.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)


def label_text(label: str | int, score: float | None) -> str:
    """Short text of a label, cut at 18 characters, with the score to two digits where given."""
    text = str(label)
    if not text:
        return ""
    if len(text) > LABEL_LENGTH:
        text = text[: LABEL_LENGTH - 1] + "…"
    return text if score is None else f"{text} {score:.2f}"


def _check(
    image: np.ndarray,
    rles: Sequence[bytes],
    labels: Sequence[str | int],
    scores: Sequence[float] | None,
) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UsageError(
            f"an image to draw on must be uint8 (H, W, 3), not {image.dtype} {image.shape}"
        )
    if len(labels) != len(rles) or (scores is not None and len(scores) != len(rles)):
        raise UsageError(f"{len(rles)} masks need as many labels and scores to be drawn")


def _decode(rle: bytes, height: int, width: int) -> np.ndarray:
    """Decode a compressed RLE to bool (H, W), checking that its runs fill the image exactly."""
    try:
        mask = rlemasklib.decode({"size": [height, width], "counts": rle})
    except ValueError as error:
        raise UsageError(f"a mask is not of the image's size {width} x {height}") from error
    return np.asarray(mask, dtype=bool)


def _paint(canvas: np.ndarray, mask: np.ndarray, colour: Colour) -> None:
    """Blend one mask (bool (H, W), image pixels) into the float32 canvas (H', W', 3), in place."""
    if not mask.any():
        return
    window = _window(mask, canvas.shape[0], canvas.shape[1])
    left, top, right, bottom = window
    inside = _enlarge(mask, window, canvas.shape[0], canvas.shape[1])
    core = _shrink(inside, _OVERSAMPLING * line_width(canvas.shape[0], canvas.shape[1]))
    rim = ~_shrink(~inside, _RIM) & ~inside
    area = canvas[top:bottom, left:right]
    ink = np.asarray(colour, dtype=np.float32)
    for where, alpha, paint in (
        (rim, RIM_ALPHA, np.full(3, 255, dtype=np.float32)),
        (core, FILL_ALPHA, ink),
        (inside & ~core, 1.0, ink),
    ):
        share = (_average(where) * alpha)[:, :, None]
        area += share * (paint - area)


def _window(mask: np.ndarray, height: int, width: int) -> Rectangle:
    """Part of the canvas that a mask can touch: left, top, right, bottom in canvas pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    tall, wide = height / mask.shape[0], width / mask.shape[1]
    margin = max(_MARGIN, int(np.ceil(2 * max(tall, wide))))
    return (
        max(0, int(columns[0] * wide) - margin),
        max(0, int(rows[0] * tall) - margin),
        min(width, int(np.ceil((columns[-1] + 1) * wide)) + margin),
        min(height, int(np.ceil((rows[-1] + 1) * tall)) + margin),
    )


def _enlarge(mask: np.ndarray, window: Rectangle, height: int, width: int) -> np.ndarray:
    """Mask inside a canvas window at twice the canvas's resolution, edges smoothed: bool."""
    left, top, right, bottom = window
    tall, wide = mask.shape[0] / height, mask.shape[1] / width
    size = ((right - left) * _OVERSAMPLING, (bottom - top) * _OVERSAMPLING)
    source = Image.fromarray(mask.astype(np.uint8) * 255)
    box = (
        left * wide,
        top * tall,
        min(right * wide, mask.shape[1]),
        min(bottom * tall, mask.shape[0]),
    )
    return np.asarray(source.resize(size, Image.Resampling.BILINEAR, box=box)) >= 128


def _shrink(mask: np.ndarray, steps: int) -> np.ndarray:
    """Take an octagon's width of ``steps`` pixels off a bool mask; the border counts as inside."""
    for step in range(steps):
        padded = np.pad(mask, 1, mode="edge")
        shrunk = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        if step % 2:  # every second step takes the corners too
            shrunk &= padded[:-2, :-2] & padded[:-2, 2:] & padded[2:, :-2] & padded[2:, 2:]
        mask = shrunk
    return mask


def _average(mask: np.ndarray) -> np.ndarray:
    """Share of each canvas pixel that an oversampled bool mask covers: float32."""
    tall, wide = mask.shape[0] // _OVERSAMPLING, mask.shape[1] // _OVERSAMPLING
    cells = mask.reshape(tall, _OVERSAMPLING, wide, _OVERSAMPLING)
    return cells.mean(axis=(1, 3), dtype=np.float32)


def _scaled_box(mask: np.ndarray, size: tuple[int, int]) -> Rectangle | None:
    """Bounding box of a mask in picture pixels: left, top, right, bottom; None when empty."""
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    wide, tall = size[0] / mask.shape[1], size[1] / mask.shape[0]
    return (
        int(columns[0] * wide),
        int(rows[0] * tall),
        int((columns[-1] + 1) * wide),
        int((rows[-1] + 1) * tall),
    )


def _draw_labels(
    picture: Image.Image,
    texts: Sequence[str],
    boxes: Sequence[Rectangle | None],
    colours: Sequence[Colour],
) -> None:
    """Write the labels at their boxes, each where it covers the labels before it least."""
    size = max(11, round(6 + max(picture.size) / 40))
    font = ImageFont.load_default(size)
    pen = ImageDraw.Draw(picture)
    placed: list[Rectangle] = []
    for text, box, colour in zip(texts, boxes, colours, strict=True):
        if not text or box is None:
            continue
        extent = pen.textbbox((0, 0), text, font=font)
        wide = int(extent[2]) + size // 2 + size // 3
        tall = size + size // 3
        spot = _free_spot(box, (wide, tall), picture.size, placed)
        placed.append(spot)
        dark = tuple(int(0.35 * part) for part in colour)
        pen.rectangle((spot[0], spot[1], spot[2] - 1, spot[3] - 1), fill=dark)
        pen.rectangle((spot[0], spot[1], spot[0] + max(2, size // 5), spot[3] - 1), fill=colour)
        middle = (spot[0] + size // 2, (spot[1] + spot[3]) // 2)
        pen.text(middle, text, fill=(255, 255, 255), font=font, anchor="lm")


def _free_spot(
    box: Rectangle,
    extent: tuple[int, int],
    size: tuple[int, int],
    placed: Sequence[Rectangle],
) -> Rectangle:
    """Choose where a label goes: above its box, in it at the top, below, or at the right."""
    wide, tall = extent
    left, top, right, bottom = box
    spots = []
    for x, y in (
        (left, top - tall),
        (left, top),
        (left, bottom),
        (left, bottom - tall),
        (right - wide, top - tall),
        (right - wide, bottom),
        (left, (top + bottom - tall) // 2),
    ):
        x = max(0, min(x, size[0] - wide))
        y = max(0, min(y, size[1] - tall))
        spots.append((x, y, x + wide, y + tall))
    return min(spots, key=lambda spot: sum(_overlap(spot, other) for other in placed))


def _overlap(a: Rectangle, b: Rectangle) -> int:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    return max(0, wide) * max(0, tall)
