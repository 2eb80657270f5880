"""Colours of classes: distinct for colour-blind readers and the same in every picture."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

Colour = tuple[int, int, int]

# Okabe and Ito's colours for colour-blind readers, then darker and lighter ones of Paul Tol's
# "muted" scheme. Black and grey are left out: they vanish on photographs.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (213, 94, 0),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (136, 34, 85),
    (68, 170, 153),
    (153, 153, 51),
    (51, 34, 136),
    (204, 102, 119),
    (17, 119, 51),
    (136, 204, 238),
)


def colour_of(label: str | int) -> Colour:
    """Colour of one label alone: a number picks its place, a text its checksum's place."""
    place = label if isinstance(label, int) else zlib.crc32(label.encode("utf-8"))
    return PALETTE[place % len(PALETTE)]


def class_colours(names: Sequence[str]) -> dict[str, Colour]:
    """Give each class name the colour of its place in the list, so that none is used twice early.

    Args:
        names: the class names in their fixed order, usually that of the categories.

    Returns:
        A mapping from name to (red, green, blue), each 0 to 255. Past the palette's length colours
        come round again.
    """
    return {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(names)}


def hex_colour(colour: Colour) -> str:
    """Write a colour as CSS does, for example ``#e69f00``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def pick_colour(label: str | int, colours: Mapping[str, Colour] | None) -> Colour:
    """Colour of a label: the given one where there is one, else the label's own."""
    if colours is not None and str(label) in colours:
        return colours[str(label)]
    return colour_of(label)
