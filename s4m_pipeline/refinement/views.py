"""Views: what of an image the segmenter looks at when it draws an instance's mask.

The segmenter's masks have a fixed number of cells. On a large image a small object has few of them,
and a closer view gives it more, at the price of an encoder pass. An image's views depend on its own
instances and on nothing else, so that batches and workers change no mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from s4m_pipeline.refinement.instances import TeacherInstance
from s4m_pipeline.refinement.policies import RefinePolicy
from s4m_pipeline.refinement.resampling import Window
from s4m_pipeline.refinement.shared_boxes import ROUNDING, shared_boxes
from s4m_pipeline.segmenter.base import Segmenter

MOST_MAGNIFIED = 2.0
"""Pixels of the segmenter's input for a pixel of the image, at most, in a closer view."""
WORTH_IT = 1.5
"""How much closer than the whole image a view must be: below that it is not worth a pass."""
OVERLAP = 0.25
"""Share of a tile's side that the next tile covers again, at least."""
WIDER = 1.15
"""By how much windows or tiles grow where there are more than the policy allows."""
HALVINGS = 5
"""How often the last of these steps is halved to find the narrowest that are few enough."""


@dataclass(frozen=True, slots=True)
class View:
    """A part of an image that the segmenter looks at.

    Attributes:
        window: Its pixels.
        members: Places of the instances that are drawn in it, ascending.
    """

    window: Window
    members: tuple[int, ...]


def plan_views(
    segmenter: Segmenter,
    instances: Sequence[TeacherInstance],
    members: Sequence[int],
    policy: RefinePolicy,
    height: int,
    width: int,
) -> list[View]:
    """Which views an image's instances are drawn in.

    Windows are laid for those members that others' negative points may be taken from (scores from
    ``refine.min_score`` up). The others take a window that holds them, or the whole image, so that
    a threshold that is lowered moves nobody's view; the whole image may then be a pass more than
    ``refine.view_passes``.

    Args:
        segmenter: The segmenter, for the size of its mask cells.
        instances: All instances of the image.
        members: Places of those that share the policy.
        policy: Says which kind of view, and its limits.
        height: The image's height in pixels.
        width: The image's width in pixels.

    Returns:
        Views with at least one member each, the whole image first; every member is in one.
    """
    whole = Window(0, 0, width, height)
    plan = _Plan(segmenter, policy, whole)
    far = [n for n in members if plan.is_far(instances[n])]
    if policy.view == "image" or not far or not plan.has_closer:
        return [View(whole, tuple(members))] if members else []
    leading = [n for n in far if instances[n].is_neighbour]
    regions = {n: plan.region(instances[n]) for n in far}
    lay = _tiles if policy.view == "tiles" else _windows
    near = any(instances[n].is_neighbour for n in set(members).difference(far))
    windows = plan.within_limit(lay, {n: regions[n] for n in leading}, near)
    return _assigned(windows, regions, members, whole)


@dataclass(frozen=True, slots=True)
class _Region:
    """Where an instance lies with its context, and the widest window that is close enough."""

    left: float
    top: float
    right: float
    bottom: float
    side: float


class _Plan:
    """What is the same for all instances of an image."""

    def __init__(self, segmenter: Segmenter, policy: RefinePolicy, whole: Window) -> None:
        self.policy, self.whole = policy, whole
        frame = segmenter.frame(whole.height, whole.width)
        cells = segmenter.mask_cells / segmenter.image_size
        self.rate = cells * math.sqrt(
            frame.valid_height / whole.height * frame.valid_width / whole.width
        )
        self.cells = segmenter.mask_cells
        self.longest = max(whole.width, whole.height)
        self.least_side = segmenter.image_size / MOST_MAGNIFIED
        self.has_closer = self.least_side * WORTH_IT <= self.longest

    def is_far(self, instance: TeacherInstance) -> bool:
        """Whether an instance needs a closer view than the whole image."""
        if self.policy.view != "auto":
            return self.policy.view != "image"
        return math.sqrt(instance.area) * self.rate < self.policy.view_cells

    def region(self, instance: TeacherInstance) -> _Region:
        """An instance's box with its context, inside the image."""
        x, y, width, height = instance.bbox
        more = (self.policy.view_context - 1) / 2 * max(width, height)
        left, right = max(0.0, x - more), min(float(self.whole.width), x + width + more)
        top, bottom = max(0.0, y - more), min(float(self.whole.height), y + height + more)
        close = math.sqrt(max(instance.area, 1)) * self.cells / self.policy.view_cells
        side = max(self.least_side, close, right - left + ROUNDING, bottom - top + ROUNDING)
        return _Region(left, top, right, bottom, side)

    def within_limit(
        self,
        lay: Callable[[dict[int, _Region], float, Window], list[Window]],
        regions: dict[int, _Region],
        with_whole: bool,
    ) -> list[Window]:
        """Windows for regions, wider ones where there would be more than the policy allows.

        They grow in steps until they are few enough, and then shrink again as far as they may.
        """

        def laid(wider: float) -> list[Window] | None:
            windows = lay(regions, wider, self.whole)
            windows = [w for w in windows if max(w.width, w.height) * WORTH_IT <= self.longest]
            covered = all(any(_holds(w, region) for w in windows) for region in regions.values())
            few = len(windows) + (with_whole or not covered) <= self.policy.view_passes
            return windows if few else None

        narrow, wide, found = 1.0, 1.0, laid(1.0)
        while found is None:
            narrow, wide = wide, wide * WIDER
            found = laid(wide)
        for _ in range(HALVINGS if wide > narrow else 0):
            middle = (narrow + wide) / 2
            closer = laid(middle)
            narrow, wide = (middle, wide) if closer is None else (narrow, middle)
            found = found if closer is None else closer
        return found


def _windows(regions: dict[int, _Region], wider: float, whole: Window) -> list[Window]:
    """Windows about instances; neighbours that fit share one."""
    if not regions:
        return []
    boxes = np.array([[r.left, r.top, r.right, r.bottom] for r in regions.values()])
    sides = np.array([region.side for region in regions.values()])
    return [_centred(box, side, whole) for box, side in shared_boxes(boxes, sides, wider)]


def _tiles(regions: dict[int, _Region], wider: float, whole: Window) -> list[Window]:
    """Overlapping tiles of one size, without those that no instance lies in."""
    side = min((region.side for region in regions.values()), default=math.inf) * wider
    if not math.isfinite(side):
        return []
    tiles = [
        Window(x, y, width, height)
        for y, height in _steps(side, whole.height)
        for x, width in _steps(side, whole.width)
    ]
    taken = [_closest(tiles, region) for region in regions.values()]
    return [tile for n, tile in enumerate(tiles) if n in taken]


def _steps(side: float, length: int) -> list[tuple[int, int]]:
    """Starts and lengths of the tiles along one side of an image, evenly spread."""
    size = min(length, math.ceil(side))
    count = 1 if size == length else math.ceil((length - size) / (size * (1 - OVERLAP))) + 1
    return [(round((length - size) * n / max(count - 1, 1)), size) for n in range(count)]


def _assigned(
    windows: Sequence[Window],
    regions: dict[int, _Region],
    members: Sequence[int],
    whole: Window,
) -> list[View]:
    """Every member with the closest window that holds it, or else with the whole image."""
    places: dict[int | None, list[int]] = {}
    for n in members:
        place = _closest(windows, regions[n]) if n in regions else None
        places.setdefault(place, []).append(n)
    views = [View(whole, tuple(places[None]))] if None in places else []
    return views + [
        View(window, tuple(places[number]))
        for number, window in enumerate(windows)
        if number in places
    ]


def _closest(windows: Sequence[Window], region: _Region) -> int | None:
    """The smallest window that holds a region, of equals the one with the widest margin."""
    held = [n for n, window in enumerate(windows) if _holds(window, region)]
    if not held:
        return None
    sizes = [window.width * window.height for window in windows]
    return min(held, key=lambda n: (sizes[n], -_margin(windows[n], region)))


def _margin(window: Window, region: _Region) -> float:
    return min(
        region.left - window.x,
        region.top - window.y,
        window.x + window.width - region.right,
        window.y + window.height - region.bottom,
    )


def _holds(window: Window, region: _Region) -> bool:
    return _margin(window, region) >= 0


def _centred(box: np.ndarray, side: float, whole: Window) -> Window:
    """A square about a box (x0, y0, x1, y1), moved and cut so that it lies inside the image."""
    width, height = (min(math.ceil(side), length) for length in (whole.width, whole.height))
    x = round(float(box[0] + box[2]) / 2 - width / 2)
    y = round(float(box[1] + box[3]) / 2 - height / 2)
    x = min(max(x, 0), whole.width - width)
    y = min(max(y, 0), whole.height - height)
    return Window(x, y, width, height)
