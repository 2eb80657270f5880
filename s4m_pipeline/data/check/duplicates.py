"""Pictures that two image sets share by content, or that one set has twice. No torch.

The same file and the same pixels are found by digest; resized and recompressed pictures by their
perceptual codes, every pair of which is compared, and then by their pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s4m_pipeline.data.check.picture_prints import BITS, Print, alike, code_signs
from s4m_pipeline.data.reading import Reading
from s4m_pipeline.execution.parallel import Progress, silent, work_through

MOST_DISTANCE = 8
"""Pictures are compared by their pixels when at most this many bits of their codes differ."""
MOST_CANDIDATES = 5
"""A picture's pixels are compared with those of at most this many others, nearest codes first."""
ROWS = 512

NearJob = tuple[Path, list[Path], Reading | None]
"""A picture, those that may be alike, and how all of them are read."""


@dataclass(frozen=True, slots=True)
class Match:
    """Two files that show the same picture.

    Attributes:
        kind: ``same-file``, ``same-pixels`` or ``near-duplicate``.
        picture: The one.
        other: The other.
    """

    kind: str
    picture: Print
    other: Print


def find_shared(
    pictures: Sequence[Print],
    others: Sequence[Print],
    processes: int = 1,
    progress: Progress = silent,
) -> list[Match]:
    """Find the pictures of one set that are in another, each with one place where it is.

    Args:
        pictures: The one set.
        others: The other.
        processes: How many processes compare pixels.
        progress: Shows how far the comparison is.

    Returns:
        Matches in the order of ``pictures``, each of the closest kind.
    """
    files = {other.file: other for other in reversed(others) if other.file}
    pixels = {other.pixels: other for other in reversed(others) if other.pixels}
    matches: dict[int, Match] = {}
    for place, picture in enumerate(pictures):
        if picture.file in files:
            matches[place] = Match("same-file", picture, files[picture.file])
        elif picture.pixels in pixels:
            matches[place] = Match("same-pixels", picture, pixels[picture.pixels])
    rest = [place for place in range(len(pictures)) if place not in matches]
    candidates = _candidates([pictures[place] for place in rest], others, within=False)
    near = {rest[row]: columns for row, columns in candidates.items()}
    matches.update(_near(pictures, others, near, processes, progress))
    return [matches[place] for place in sorted(matches)]


def find_repeated(
    pictures: Sequence[Print], processes: int = 1, progress: Progress = silent
) -> list[Match]:
    """Find the pictures that a set has more than once.

    Args:
        pictures: The set.
        processes: How many processes compare pixels.
        progress: Shows how far the comparison is.

    Returns:
        Matches in the order of ``pictures``, each with an earlier picture as ``other``.
    """
    files: dict[bytes, Print] = {}
    pixels: dict[bytes, Print] = {}
    matches: dict[int, Match] = {}
    for place, picture in enumerate(pictures):
        if picture.file in files:
            matches[place] = Match("same-file", picture, files[picture.file])
        elif picture.pixels in pixels:
            matches[place] = Match("same-pixels", picture, pixels[picture.pixels])
        if picture.file:
            files.setdefault(picture.file, picture)
        if picture.pixels:
            pixels.setdefault(picture.pixels, picture)
    rest = [place for place in range(len(pictures)) if place not in matches]
    unlike = [pictures[place] for place in rest]
    near = _near(unlike, unlike, _candidates(unlike, unlike, within=True), processes, progress)
    matches.update({rest[row]: match for row, match in near.items()})
    return [matches[place] for place in sorted(matches)]


def _candidates(
    pictures: Sequence[Print], others: Sequence[Print], within: bool
) -> dict[int, list[int]]:
    """Pair pictures with the few whose codes are nearest; ``within``: only with earlier ones."""
    rows = [place for place, picture in enumerate(pictures) if picture.code]
    columns = np.array([place for place, other in enumerate(others) if other.code], np.int64)
    if not rows or not len(columns):
        return {}
    signs = code_signs([pictures[row].code for row in rows])
    other_signs = code_signs([others[column].code for column in columns])
    columns_of: dict[int, list[int]] = {}
    for first in range(0, len(rows), ROWS):
        distances = (BITS - signs[first : first + ROWS] @ other_signs.T) / 2
        for row in np.flatnonzero(distances.min(1) <= MOST_DISTANCE):
            place = rows[first + int(row)]
            near = np.flatnonzero(distances[row] <= MOST_DISTANCE)
            if within:
                near = near[columns[near] < place]
            order = np.argsort(distances[row, near], kind="stable")[:MOST_CANDIDATES]
            if len(order):
                columns_of[place] = columns[near[order]].tolist()
    return columns_of


def _near(
    pictures: Sequence[Print],
    others: Sequence[Print],
    candidates: dict[int, list[int]],
    processes: int,
    progress: Progress,
) -> dict[int, Match]:
    """Compare the candidates' pixels; by place, the first that is alike."""
    if not candidates:
        return {}
    matches = {}
    with progress("compare pictures", len(candidates)) as advance:
        results = work_through(_first_alike, _jobs(pictures, others, candidates), processes)
        for (place, columns), hit in zip(candidates.items(), results, strict=True):
            if hit is not None:
                matches[place] = Match("near-duplicate", pictures[place], others[columns[hit]])
            advance(1, "")
    return matches


def _jobs(
    pictures: Sequence[Print], others: Sequence[Print], candidates: dict[int, list[int]]
) -> Iterator[NearJob]:
    for place, columns in candidates.items():
        picture = pictures[place]
        yield picture.path, [others[column].path for column in columns], picture.reading


def _first_alike(job: NearJob) -> int | None:
    path, others, reading = job
    hits = (number for number, other in enumerate(others) if alike(path, other, reading))
    return next(hits, None)
