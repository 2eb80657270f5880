"""Draw docs/rooms.svg: the package's rooms from the top, and which room uses which.

    python tools/house_picture.py [--out docs/rooms.svg]

Needs grimp, which reads the imports. An arrow that follows from others is left out (where a room
uses another one only through a third, or besides), and so are the arrows to the ground, which all
rooms use. An import that runs up is drawn in red.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path

import grimp
from house_rooms import PACKAGE, REPOSITORY, ROOMS, room_of

GROUND = list(ROOMS)[-1]
OUT = REPOSITORY / "docs" / "rooms.svg"

CAPTIONS = {
    "cli, commands": "parse, call, print",
    "workflow": "stages put together",
    "stages": "what each stage is and does",
    "labels": "which predictions are labels",
    "models": "all that MMDetection needs",
    "engine": "how a stage is carried out",
    "training_data": "datasets and transforms",
    "refinement": "chooses the final mask",
    "metrics": "AP and label quality",
    "data": "images, labels, formats",
    "segmenter": "SAM 2 and its like",
    "execution": "where shards run",
    "review": "pages, charts, tables",
    "configs": "model configs and run files",
    "devices": "placement and memory",
    "artifacts": "manifests, shards, tables",
    GROUND: "console, configuration, errors, late imports, wording",
}
"""What each room is for, in the second line of its box."""

BOX_WIDTH, BOX_HEIGHT = 180, 46
ROW_STEP, COLUMN_STEP, MARGIN = 92, 198, 16
PORT_STEP = 22
"""How far apart the arrows of one edge begin and end, at most."""
SWEEPS = 24
"""How often the rows are put in order by where their neighbours are."""

Arrow = tuple[str, str]
Node = str | tuple[Arrow, int]
"""A room, or the place where an arrow passes through a row."""
Point = tuple[float, float]
"""x and y in the picture."""

STYLE = """
rect.paper { fill: #ffffff; }
rect.room { fill: #eef3f9; stroke: #33557a; }
rect.ground { fill: #f1efe8; stroke: #77705c; }
text { font: 600 14px sans-serif; fill: #1b1f24; text-anchor: middle; }
text.caption { font: 11.5px sans-serif; fill: #4a5563; }
path.down { fill: none; stroke: #33557a; marker-end: url(#down); }
path.up { fill: none; stroke: #b42318; stroke-width: 2; marker-end: url(#up); }
"""


def imports_between_rooms() -> set[Arrow]:
    """Which room imports from which other one."""
    graph = grimp.build_graph(PACKAGE.name, cache_dir=None)
    arrows = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            names = [name.split(".")[1:2] for name in (module, imported)]
            if all(names):
                first, second = (room_of(name) for (name,) in names)
                arrows.add((first, second))
    return {(first, second) for first, second in arrows if first != second}


def split_by_direction(arrows: Iterable[Arrow]) -> tuple[set[Arrow], set[Arrow]]:
    """The arrows that run down the list of rooms, and those that run up it."""
    place = {room: number for number, room in enumerate(ROOMS)}
    given = set(arrows)
    down = {(a, b) for a, b in given if place[a] < place[b]}
    return down, given - down


def without_those_that_follow(arrows: set[Arrow]) -> set[Arrow]:
    """The arrows whose ends no longer way connects; there must be no circle."""
    below: dict[str, set[str]] = {}
    for room in reversed(ROOMS):
        direct = {b for a, b in arrows if a == room}
        below[room] = direct.union(*(below[b] for b in direct))
    return {
        (a, b) for a, b in arrows if not any(b in below[between] for x, between in arrows if x == a)
    }


def drawn_arrows() -> tuple[set[Arrow], set[Arrow]]:
    """The arrows of the picture: those that run down, and those that run up."""
    down, up = split_by_direction(imports_between_rooms())
    return without_those_that_follow({(a, b) for a, b in down if b != GROUND}), up


def rows_of(arrows: set[Arrow]) -> dict[str, int]:
    """The row of each room, from 0: below all rooms that use it, the ground last."""
    row: dict[str, int] = {}
    for room in ROOMS:
        row[room] = 1 + max((row[a] for a, b in arrows if b == room), default=-1)
    row[GROUND] = max(row.values()) + 1
    return row


def layout(arrows: set[Arrow]) -> tuple[list[list[Node]], dict[Arrow, list[Node]]]:
    """Put rooms and passing arrows in order, row by row, so that few lines cross.

    Args:
        arrows: Those that run down.

    Returns:
        The nodes of each row from left to right, and the nodes that each arrow goes through.
    """
    row = rows_of(arrows)
    rows: list[list[Node]] = [[] for _ in range(max(row.values()) + 1)]
    for room in ROOMS:
        rows[row[room]].append(room)
    ways: dict[Arrow, list[Node]] = {}
    for first, second in sorted(arrows):
        between: list[Node] = [((first, second), n) for n in range(row[first] + 1, row[second])]
        for number, node in enumerate(between, row[first] + 1):
            rows[number].append(node)
        ways[first, second] = [first, *between, second]
    for sweep in range(SWEEPS):
        _sweep(rows, ways, downwards=sweep % 2 == 0)
    return rows, ways


def _sweep(rows: list[list[Node]], ways: Mapping[Arrow, list[Node]], downwards: bool) -> None:
    """Order each row by the mean place of its nodes' neighbours in the row before it."""
    neighbours: dict[Node, list[Node]] = {}
    for way in ways.values():
        for upper, lower in pairwise(way):
            node, other = (lower, upper) if downwards else (upper, lower)
            neighbours.setdefault(node, []).append(other)
    places = {node: x for row in rows for node, x in zip(row, columns(row), strict=True)}
    for row in rows if downwards else reversed(rows):
        means = {
            node: sum(places[n] for n in near) / len(near)
            for node in row
            if (near := neighbours.get(node, []))
        }
        row.sort(key=lambda node: means.get(node, places[node]))
        places |= dict(zip(row, columns(row), strict=True))


def columns(row: Sequence[Node]) -> list[float]:
    """Where a row's nodes lie, in columns to the right of the picture's middle."""
    return [place - (len(row) - 1) / 2 for place in range(len(row))]


def draw() -> str:
    """The picture as SVG."""
    down, up = drawn_arrows()
    rows, ways = layout(down)
    width = int(2 * MARGIN + BOX_WIDTH + COLUMN_STEP * (max(map(len, rows)) - 1))
    height = 2 * MARGIN + BOX_HEIGHT + ROW_STEP * (len(rows) - 1)
    at = {
        node: (width / 2 + COLUMN_STEP * column, MARGIN + BOX_HEIGHT / 2 + ROW_STEP * number)
        for number, row in enumerate(rows)
        for node, column in zip(row, columns(row), strict=True)
    }
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="Rooms of s4m_pipeline">',
        f"<style>{STYLE}</style>",
        _arrow_heads(),
        f'<rect class="paper" width="{width}" height="{height}"/>',
        *_lines(ways, at),
        *(_line([at[arrow[0]], at[arrow[1]]], arrow, "up") for arrow in sorted(up)),
        *(_box(room, at[room], width) for room in ROOMS),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _arrow_heads() -> str:
    head = (
        '<marker id="{}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{}"/></marker>'
    )
    return "<defs>" + head.format("down", "#33557a") + head.format("up", "#b42318") + "</defs>"


def _lines(ways: Mapping[Arrow, list[Node]], at: Mapping[Node, Point]) -> list[str]:
    """The arrows that run down; those of one edge begin and end side by side."""
    shifts: dict[tuple[Arrow, bool], float] = {}
    for room in ROOMS:
        for is_end in (False, True):
            ends = {
                arrow: at[way[-2] if is_end else way[1]][0]
                for arrow, way in ways.items()
                if arrow[is_end] == room
            }
            for place, arrow in enumerate(sorted(ends, key=lambda arrow: (ends[arrow], arrow))):
                shifts[arrow, is_end] = PORT_STEP * (place - (len(ends) - 1) / 2)
    lines = []
    for arrow in sorted(ways):
        points = [at[node] for node in ways[arrow]]
        for place, is_end in ((0, False), (-1, True)):
            x, y = points[place]
            points[place] = (x + shifts[arrow, is_end], y)
        lines.append(_line(points, arrow, "down"))
    return lines


def _line(points: Sequence[Point], arrow: Arrow, kind: str) -> str:
    """A curve from the lower edge of a box through the rows between to the upper edge of another.

    A line that runs up starts at the upper edge and ends at the lower one.
    """
    half = BOX_HEIGHT / 2 if kind == "down" else -BOX_HEIGHT / 2
    x, y = points[0]
    path, begin = f"M{x:g},{y + half:g}", y + half
    for to_x, y in points[1:]:
        end = y - half
        middle = (begin + end) / 2
        path += f" C{x:g},{middle:g} {to_x:g},{middle:g} {to_x:g},{end:g}"
        if (to_x, y) != points[-1]:
            path += f" V{y + half:g}"  # straight past the boxes of the row
        x, begin = to_x, y + half
    ends = f'data-from="{escape(arrow[0])}" data-to="{escape(arrow[1])}"'
    return f'<path class="{kind}" {ends} d="{path}"/>'


def _box(room: str, centre: Point, width: float) -> str:
    """A room's box with its name and caption; the ground is as wide as the picture."""
    box_width = BOX_WIDTH if room != GROUND else width - 2 * MARGIN
    kind = "room" if room != GROUND else "ground"
    x, y = centre[0] - box_width / 2, centre[1] - BOX_HEIGHT / 2
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{box_width:g}" height="{BOX_HEIGHT}" '
        f'rx="5"/><text x="{centre[0]:g}" y="{centre[1] - 4:g}">{escape(room)}</text>'
        f'<text class="caption" x="{centre[0]:g}" y="{centre[1] + 14:g}">'
        f"{escape(CAPTIONS[room])}</text>"
    )


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description="Draw the package's rooms.")
    parser.add_argument("--out", type=Path, default=OUT, help="the SVG file (docs/rooms.svg)")
    path = parser.parse_args().out
    path.write_text(draw(), encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
