"""Outlines of the generated scenes' objects.

Each style has its own families of shapes, and no family is in two styles, so that a segmenter
trained on one style has never seen the shapes of the other. An outline is a list of
``(add, polygon)`` pairs in unit coordinates (inside the circle of radius 1, y down): the polygons
are painted in order, ``add=True`` sets pixels and ``add=False`` clears them.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Outline = list[tuple[bool, np.ndarray]]
"""Polygons (V, 2) float64 x, y in unit coordinates, each added or cut away."""

_SUBPIXEL_BITS = 4


def _ellipse(
    x: float, y: float, radius_x: float, radius_y: float, vertices: int = 48
) -> np.ndarray:
    """Polygon (V, 2) of an ellipse around (x, y)."""
    angle = np.linspace(0.0, 2.0 * np.pi, vertices, endpoint=False)
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1)


def _bar(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Polygon (4, 2) of an axis-parallel bar."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def _disc(rng: np.random.Generator) -> Outline:
    return [(True, _ellipse(0, 0, 1.0, rng.uniform(0.72, 1.0)))]


def _star(rng: np.random.Generator) -> Outline:
    tips = int(rng.integers(5, 7))
    angle = np.arange(2 * tips) * np.pi / tips
    radius = np.where(np.arange(2 * tips) % 2 == 0, 1.0, rng.uniform(0.42, 0.55))
    return [(True, np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))]


def _cross(rng: np.random.Generator) -> Outline:
    half = rng.uniform(0.24, 0.36)
    reach = float(np.sqrt(1.0 - half**2))
    return [
        (True, _bar(-reach, -half, reach, half)),
        (True, _bar(-half, -reach, half, reach)),
    ]


def _crescent(rng: np.random.Generator) -> Outline:
    bite = rng.uniform(0.66, 0.8)
    return [
        (True, _ellipse(0, 0, 1.0, 1.0)),
        (False, _ellipse(rng.uniform(0.42, 0.55), 0, bite, bite)),
    ]


def _blob(rng: np.random.Generator) -> Outline:
    angle = np.linspace(0.0, 2.0 * np.pi, 64, endpoint=False)
    radius = np.ones_like(angle)
    for harmonic in range(2, 6):
        radius += rng.normal(0.0, 0.34 / harmonic) * np.cos(
            harmonic * angle + rng.uniform(0, 2 * np.pi)
        )
    radius = np.clip(radius, 0.25, None) / radius.max()
    return [(True, np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))]


def _rounded(rng: np.random.Generator) -> Outline:
    angle = np.linspace(0.0, 2.0 * np.pi, 64, endpoint=False)
    power = 2.0 / rng.uniform(5.0, 10.0)
    x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power * rng.uniform(0.4, 0.95)
    points = np.stack([x, y], axis=1)
    return [(True, points / np.linalg.norm(points, axis=1).max())]


def _triangle(rng: np.random.Generator) -> Outline:
    angle = np.array([0.0, 2.0, 4.0]) * np.pi / 3.0 + rng.uniform(-0.4, 0.4, 3)
    return [(True, np.stack([np.cos(angle), np.sin(angle)], axis=1))]


def _letter(rng: np.random.Generator) -> Outline:
    """Unions of bars like the letters L, U, T, H, E and Z."""
    t = rng.uniform(0.32, 0.46)
    left, right = _bar(-0.7, -0.7, -0.7 + t, 0.7), _bar(0.7 - t, -0.7, 0.7, 0.7)
    top, bottom = _bar(-0.7, -0.7, 0.7, -0.7 + t), _bar(-0.7, 0.7 - t, 0.7, 0.7)
    middle = _bar(-0.7, -t / 2, 0.7, t / 2)
    stem = _bar(-t / 2, -0.7, t / 2, 0.7)
    slash = np.array([[0.7 - t, -0.7], [0.7, -0.7], [-0.7 + t, 0.7], [-0.7, 0.7]])
    letters = [
        [left, bottom],
        [left, bottom, right],
        [top, stem],
        [left, middle, right],
        [left, top, middle, bottom],
        [top, slash, bottom],
    ]
    return [(True, part) for part in letters[int(rng.integers(len(letters)))]]


def _leaf(rng: np.random.Generator) -> Outline:
    along = np.linspace(-1.0, 1.0, 24)
    across = rng.uniform(0.35, 0.6) * (1.0 - along**2)
    upper = np.stack([along, across], axis=1)
    lower = np.stack([along[::-1], -across[::-1] * rng.uniform(0.5, 1.0)], axis=1)
    return [(True, np.concatenate([upper, lower]))]


def _arrow(rng: np.random.Generator) -> Outline:
    neck, half = rng.uniform(-0.2, 0.25), rng.uniform(0.18, 0.32)
    head = np.array([[1.0, 0.0], [neck, -0.8], [neck, 0.8]])
    return [(True, head), (True, _bar(-0.95, -half, neck + 0.05, half))]


def _worm(rng: np.random.Generator) -> Outline:
    """A thick curve: a chain of discs along a quadratic Bezier curve."""
    half = rng.uniform(0.2, 0.32)
    ends = 1.0 - half
    control = np.array([rng.uniform(-0.4, 0.4), rng.uniform(-1.6, 1.6)])
    outline: Outline = []
    for t in np.linspace(0.0, 1.0, 14):
        x = (1 - t) ** 2 * -ends + 2 * t * (1 - t) * control[0] + t**2 * ends
        y = 2 * t * (1 - t) * control[1]
        outline.append((True, _ellipse(x, y, half, half, vertices=20)))
    return outline


SHAPES: dict[str, dict[str, Callable[[np.random.Generator], Outline]]] = {
    "demo": {"disc": _disc, "star": _star, "cross": _cross, "crescent": _crescent},
    "pretrain": {
        "blob": _blob,
        "rounded": _rounded,
        "triangle": _triangle,
        "letter": _letter,
        "leaf": _leaf,
        "arrow": _arrow,
        "worm": _worm,
    },
}
"""Style -> name of the shape family -> function that draws one random outline of it."""


def draw_shape(
    rng: np.random.Generator, style: str, family: str, radius: float, size: int
) -> np.ndarray:
    """Draw one object of a family, turned at random, around a random centre in a square image.

    Args:
        rng: Random generator.
        style: A key of ``SHAPES``.
        family: A key of ``SHAPES[style]``.
        radius: Radius of the circle around the object, in pixels.
        size: Side of the image in pixels.

    Returns:
        bool (size, size): the whole object, clipped by the image only.
    """
    angle = rng.uniform(0.0, 2.0 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    margin = 0.6 * radius
    centre = rng.uniform(margin, size - margin, 2)
    canvas = np.zeros((size, size), np.uint8)
    for add, polygon in SHAPES[style][family](rng):
        points = (polygon @ turn) * radius + centre
        fixed = np.round(points * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(canvas, [fixed], 1 if add else 0, shift=_SUBPIXEL_BITS)
    return canvas.astype(bool)
