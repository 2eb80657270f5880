"""The marker of a finished shard: which images it is of, and which files belong to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath

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


def marker_faults(folder: Path, files: Iterable[FileEntry]) -> list[str]:
    """One line for each marker of a finished artifact that is missing or cannot be relied on.

    Once there is a manifest nothing is read by its markers, but a repair keeps the shards that
    have one.

    Args:
        folder: The artifact's folder.
        files: What its manifest lists.
    """
    shards: dict[str, list[FileEntry]] = {path.stem: [] for path in marker_files(folder)}
    sharded = False
    for entry in files:
        path = PurePosixPath(entry.path)
        if len(path.parts) == 2 and path.suffix == ".parquet" and path.stem.isdigit():
            shards.setdefault(path.stem, []).append(entry)
            sharded |= path.parts[0] != "quarantine"  # a training has that table, and no shards
    named = {name: _fault_of(folder, name, own) for name, own in shards.items() if sharded}
    return [f"{_marker(name)}: {fault}" for name, fault in sorted(named.items()) if fault]


def _fault_of(folder: Path, name: str, files: list[FileEntry]) -> str:
    """What is wrong with the marker of a shard that has these files; an empty text for nothing."""
    try:
        found = marker_at(folder / _marker(name)).files
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError) as error:
        return f"damaged ({error})"
    same = {*map(astuple, found)} == {*map(astuple, files)}
    return "" if same else "it is of other files than the manifest lists"


def _marker(name: str) -> str:
    """A marker's path inside an artifact."""
    return f"shards/{name}.json"
