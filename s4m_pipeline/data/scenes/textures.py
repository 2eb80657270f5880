"""Surfaces and grounds of the generated scenes.

A surface is a map of mixing weights between an object's two colours. As with the shapes, the
styles' patterns and grounds differ. In the demo's style a class has a usual pattern and hue; in the
``pretrain`` style neither says anything of the shape.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Pattern = Callable[[np.random.Generator, int, int], np.ndarray]
"""Function (rng, height, width) -> float32 (height, width) mixing weights in 0..1."""


def _grid(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (x, y) in pixels, turned by a random angle and shifted at random."""
    angle = rng.uniform(0.0, np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    shift_x, shift_y = rng.uniform(0.0, 50.0, 2).astype(np.float32)
    return cos * x + sin * y + shift_x, cos * y - sin * x + shift_y


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Random values on a coarse lattice, interpolated: float32 (height, width) in 0..1."""
    rows, columns = int(np.ceil(height / cell)) + 2, int(np.ceil(width / cell)) + 2
    lattice = rng.random((rows, columns), dtype=np.float32)
    full = cv2.resize(
        lattice, (int(columns * cell), int(rows * cell)), interpolation=cv2.INTER_CUBIC
    )
    return np.clip(full[:height, :width], 0.0, 1.0)


def _stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    x, _ = _grid(rng, height, width)
    return (np.mod(x, rng.uniform(4.0, 9.0)) < rng.uniform(1.5, 4.0)).astype(np.float32)


def _checks(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    x, y = _grid(rng, height, width)
    cell = rng.uniform(3.0, 7.0)
    return np.mod(np.floor(x / cell) + np.floor(y / cell), 2.0).astype(np.float32)


def _dots(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    x, y = _grid(rng, height, width)
    period = rng.uniform(5.0, 10.0)
    distance = np.hypot(np.mod(x, period) - period / 2, np.mod(y, period) - period / 2)
    return (distance < period * rng.uniform(0.22, 0.4)).astype(np.float32)


def _noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return smooth_noise(rng, height, width, rng.uniform(1.5, 4.0))


def _waves(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    x, y = _grid(rng, height, width)
    bend = rng.uniform(1.0, 4.0) * np.sin(y / rng.uniform(3.0, 8.0))
    wave = np.sin((x + bend) * (2 * np.pi / rng.uniform(4.0, 14.0)))
    return np.clip(0.5 + wave * rng.uniform(0.4, 3.0), 0.0, 1.0).astype(np.float32)


def _bricks(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    x, y = _grid(rng, height, width)
    tall, wide = rng.uniform(4.0, 8.0), rng.uniform(6.0, 14.0)
    row = np.floor(y / tall)
    joint = (np.mod(y, tall) < 1.3) | (np.mod(x + 0.5 * wide * np.mod(row, 2), wide) < 1.3)
    return joint.astype(np.float32)


def _marble(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    x, _ = _grid(rng, height, width)
    warp = smooth_noise(rng, height, width, rng.uniform(5.0, 12.0))
    veins = np.sin(x / rng.uniform(2.0, 6.0) + 7.0 * warp)
    return np.abs(veins).astype(np.float32) ** np.float32(rng.uniform(0.5, 2.0))


def _cells(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    x, y = _grid(rng, height, width)
    cell = rng.uniform(4.0, 9.0)
    tile = (np.floor(x / cell).astype(np.int64) * 7919 + np.floor(y / cell).astype(np.int64)) % 61
    return rng.random(61, dtype=np.float32)[tile]


def _rings(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    distance = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height))
    period = rng.uniform(4.0, 10.0)
    return (np.mod(distance, period) < period * rng.uniform(0.3, 0.7)).astype(np.float32)


def _patches(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    noise = smooth_noise(rng, height, width, rng.uniform(3.0, 8.0))
    return (noise > rng.uniform(0.4, 0.6)).astype(np.float32)


def _fade(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    x, _ = _grid(rng, height, width)
    return ((x - x.min()) / max(float(np.ptp(x)), 1.0)).astype(np.float32)


PATTERNS: dict[str, dict[str, Pattern]] = {
    "demo": {"stripes": _stripes, "checks": _checks, "dots": _dots, "noise": _noise},
    "pretrain": {
        "waves": _waves,
        "bricks": _bricks,
        "marble": _marble,
        "cells": _cells,
        "rings": _rings,
        "patches": _patches,
        "fade": _fade,
    },
}
"""Style -> name of the pattern -> function that draws it."""


@dataclass(frozen=True, slots=True)
class Look:
    """How objects of a class tend to look.

    Attributes:
        pattern: The class's usual pattern.
        hue: Its usual hue, in degrees.
    """

    pattern: str
    hue: float


DEMO_LOOKS = {
    "disc": Look("dots", 0.0),
    "star": Look("stripes", 90.0),
    "cross": Look("checks", 180.0),
    "crescent": Look("noise", 270.0),
}
"""As with animals, look and shape go together, but neither alone tells the class for sure."""
USUAL = 0.95
"""How often an object has its class's pattern; its class's hue likewise."""
HUE_SPREAD = 25.0


def _pattern_and_colours(
    rng: np.random.Generator, style: str, look: Look | None, ground_colour: np.ndarray
) -> tuple[Pattern, np.ndarray]:
    """Draw an object's pattern and its two colours (2, 3), which avoid the ground's."""
    names = sorted(PATTERNS[style])
    name = names[int(rng.integers(len(names)))]
    usual_pattern, usual_hue = rng.random(2) < USUAL
    if look is not None and usual_pattern:
        name = look.pattern
    for _ in range(4):
        colours = rng.uniform(20, 235, (2, 3))
        if look is not None and usual_hue:
            hue = (look.hue + rng.uniform(-HUE_SPREAD, HUE_SPREAD)) % 360
            red, green, blue = colorsys.hsv_to_rgb(
                hue / 360, rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.95)
            )
            colours[0] = 255 * np.array([red, green, blue])
        if np.abs(colours.mean(axis=0) - ground_colour).sum() > 90:
            break
    colours[1] = colours[0] + (colours[1] - colours[0]) * rng.uniform(0.35, 1.0)
    return PATTERNS[style][name], colours


def _random_segment(rng: np.random.Generator, size: int, reach: float) -> list[tuple[int, int]]:
    """Two end points (x, y) in pixels of a segment at most ``reach`` long on each axis."""
    start = rng.uniform(0, size, 2)
    end = start + rng.uniform(-reach, reach, 2)
    return [(int(start[0]), int(start[1])), (int(end[0]), int(end[1]))]


def _demo_ground(rng: np.random.Generator, size: int) -> np.ndarray:
    """Mottled ground with twigs and pebbles on it."""
    low, high, third = rng.uniform(30, 225, (3, 3)).astype(np.float32)
    broad = smooth_noise(rng, size, size, size / rng.uniform(2.0, 5.0))[..., None]
    fine = smooth_noise(rng, size, size, size / rng.uniform(10.0, 24.0))[..., None]
    ground = low + (high - low) * (0.5 * broad) + (third - low) * (0.3 * fine)
    ground = np.ascontiguousarray(ground, dtype=np.float32)
    for _ in range(int(rng.integers(8, 20))):
        start, end = _random_segment(rng, size, size / 6)
        cv2.line(ground, start, end, rng.uniform(20, 235, 3).tolist(), int(rng.integers(1, 3)))
    for _ in range(int(rng.integers(8, 20))):
        centre = _random_segment(rng, size, 1.0)[0]
        colour = rng.uniform(20, 235, 3).tolist()
        cv2.circle(ground, centre, int(rng.integers(1, max(2, size // 40))), colour, -1)
    return ground


def _pretrain_ground(rng: np.random.Generator, size: int) -> np.ndarray:
    """Sheets with straight edges over a gradient, with curls, grain and specks."""
    first, second = rng.uniform(20, 235, (2, 3)).astype(np.float32)
    kind = rng.random()
    if kind < 0.4:
        mix = smooth_noise(rng, size, size, size / rng.uniform(2.0, 12.0))[..., None]
    elif kind < 0.7:
        mix = _fade(rng, size, size)[..., None]
    else:
        names = sorted(PATTERNS["pretrain"])
        mix = 0.4 * PATTERNS["pretrain"][names[int(rng.integers(len(names)))]](rng, size, size)
        mix = mix[..., None]
    ground = np.ascontiguousarray(first + (second - first) * mix, dtype=np.float32)
    if rng.random() < 0.6:
        grain = smooth_noise(rng, size, size, size / rng.uniform(10.0, 40.0))[..., None]
        ground += (grain - 0.5) * rng.uniform(20, 90, 3).astype(np.float32)
    for _ in range(int(rng.integers(0, 4))):
        a, b = _random_segment(rng, size, size)
        corners = np.array([a, b, _random_segment(rng, size, 1.0)[0]], np.int32)
        sheet = ground.copy()
        cv2.fillPoly(sheet, [corners], rng.uniform(20, 235, 3).tolist())
        ground = np.float32(0.6) * ground + np.float32(0.4) * sheet
    for _ in range(int(rng.integers(0, 16))):
        centre = _random_segment(rng, size, 1.0)[0]
        axes = (int(rng.integers(2, size // 8)), int(rng.integers(2, size // 8)))
        colour = rng.uniform(20, 235, 3).tolist()
        arc = float(rng.uniform(60, 200))
        turn = float(rng.uniform(0, 360))
        cv2.ellipse(ground, centre, axes, turn, 0, arc, colour, int(rng.integers(1, 3)))
    for _ in range(int(rng.integers(0, 16))):
        x, y = _random_segment(rng, size, 1.0)[0]
        corner = (x + int(rng.integers(1, 5)), y + int(rng.integers(1, 5)))
        cv2.rectangle(ground, (x, y), corner, rng.uniform(20, 235, 3).tolist(), -1)
    return ground


GROUNDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "demo": _demo_ground,
    "pretrain": _pretrain_ground,
}
"""Style -> function (rng, size) -> float32 (size, size, 3), values about 0..255."""


def paint_surface(
    rng: np.random.Generator,
    style: str,
    mask: np.ndarray,
    ground_colour: np.ndarray,
    look: Look | None = None,
) -> np.ndarray:
    """Paint an object's surface: a pattern of two colours, lit from one side, darker at the rim.

    Args:
        rng: Random generator.
        style: A key of ``PATTERNS``.
        mask: bool (H, W), the object.
        ground_colour: float (3,), the ground's mean colour, which the object's two colours avoid.
        look: How objects of its class tend to look; None where looks say nothing of the class.

    Returns:
        float32 (H, W, 3), values 0..255; zero outside the mask's bounding box.
    """
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = np.s_[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    height, width = int(ys[-1] - ys[0] + 1), int(xs[-1] - xs[0] + 1)
    pattern, colours = _pattern_and_colours(rng, style, look, ground_colour)
    mix = pattern(rng, height, width)[..., None]
    surface = colours[0] + (colours[1] - colours[0]) * mix
    x, _ = _grid(rng, height, width)
    light = (x - x.mean()) / max(float(np.ptp(x)), 1.0) * rng.uniform(0.1, 0.6)
    rim = cv2.distanceTransform(mask[window].astype(np.uint8), cv2.DIST_L2, 3)
    shade = (1.0 + light) * (1.0 - rng.uniform(0.0, 0.35) * np.exp(-rim / 2.0))
    painted = np.zeros((*mask.shape, 3), np.float32)
    painted[window] = np.clip(surface * shade[..., None], 0.0, 255.0)
    return painted
