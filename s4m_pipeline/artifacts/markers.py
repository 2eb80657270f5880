"""The marker of a finished shard: which images it is of, and which files belong to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from s4m_pipeline.artifacts.manifest import FileEntry
from s4m_pipeline.artifacts.sealed import read_sealed


@dataclass(slots=True)
class ShardMarker:
    """A finished shard: a digest of its image ids, its files, counts and warnings."""

    images: str
    files: list[FileEntry]
    counts: dict[str, int]
    seconds: dict[str, float]
    warnings: list[str]


def marker_at(path: Path) -> ShardMarker:
    """Read a marker.

    Raises:
        OSError: It cannot be read.
        ValueError: It is none, or a byte of it changed.
    """
    data, fault = read_sealed(path, ShardMarker.__slots__)
    if fault:
        raise ValueError(fault)
    try:
        files = [FileEntry.from_dict(entry) for entry in data["files"]]
        counts, seconds = dict(data["counts"]), dict(data["seconds"])
        marker = ShardMarker(data["images"], files, counts, seconds, data.get("warnings", []))
        numbers, warnings = [*counts.values(), *seconds.values()], marker.warnings
        if not all(type(number) in (int, float) for number in numbers):
            raise TypeError("a count is no number")
        if not isinstance(warnings, list) or not all(isinstance(one, str) for one in warnings):
            raise TypeError("its warnings are no texts")
    except (KeyError, TypeError) as error:
        raise ValueError(f"no marker of a shard ({error})") from error
    return marker


def marker_files(folder: Path) -> list[Path]:
    """The markers in an artifact's folder, in order."""
    return sorted(path for path in folder.glob("shards/*.json") if path.stem.isdigit())


def marker_faults(folder: Path) -> list[str]:
    """One line for each marker of an artifact that cannot be relied on."""
    faults = []
    for path in marker_files(folder):
        try:
            marker_at(path)
        except (OSError, ValueError) as error:
            faults.append(f"shards/{path.name}: damaged ({error})")
    return faults
