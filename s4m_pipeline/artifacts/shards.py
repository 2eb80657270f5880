"""Shards: a stage's images in fixed portions, each finished by a marker written last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.fingerprint import digest_of
from s4m_pipeline.artifacts.manifest import file_entry, file_fault, size_fault
from s4m_pipeline.artifacts.markers import ShardMarker as ShardMarker
from s4m_pipeline.artifacts.markers import marker_at
from s4m_pipeline.artifacts.plain_files import read_plain
from s4m_pipeline.artifacts.sealed import write_json, write_sealed
from s4m_pipeline.artifacts.tables import write_table
from s4m_pipeline.strict_json import read_json
from s4m_pipeline.wording import counted

PORTION = 16
"""A shard's images are a multiple of this, which is what a GPU takes at a time."""
LARGEST = 1024
"""Images in a shard at most."""
ALL = "all.json"
"""Beside the markers: how many shards there are to be."""
SHARDS = 128
"""A set is cut into about this many shards."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A portion of an image set: its number and the images' ids in order."""

    number: int
    image_ids: tuple[int, ...]

    def without(self, image_ids: Iterable[int]) -> Shard:
        """The shard with some images left out; its number stays."""
        left_out = set(image_ids)
        return Shard(self.number, tuple(i for i in self.image_ids if i not in left_out))

    @property
    def name(self) -> str:
        """The stem of the shard's files."""
        return f"{self.number:05d}"


@dataclass(slots=True)
class ShardResult:
    """What a worker made of one shard.

    Attributes:
        rows: Rows by table.
        counts: Numbers to add up over shards (images, instances ...).
        seconds: Wall time by part of the work.
        warnings: What the user should know about how the shard was made.
    """

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def shard_size(images: int) -> int:
    """Images in a shard. It depends on the set's size alone, so a resumed run cuts the same."""
    return min(LARGEST, max(1, -(-images // (SHARDS * PORTION))) * PORTION)


def make_shards(image_ids: Sequence[int], size: int | None = None) -> list[Shard]:
    """Cut sorted image ids into shards of ``size`` (by default ``shard_size``)."""
    ids = sorted(image_ids)
    size = size or shard_size(len(ids))
    return [
        Shard(number, tuple(ids[start : start + size]))
        for number, start in enumerate(range(0, len(ids), size))
    ]


def _marker_path(folder: Path, shard: Shard) -> Path:
    return folder / "shards" / f"{shard.name}.json"


def write_shard_count(folder: Path, count: int) -> None:
    """Write down how many shards there will be, for whoever asks in the meantime."""
    write_json(folder / "shards" / ALL, {"shards": count})


def remove_shard_count(folder: Path) -> None:
    """Remove what `write_shard_count` wrote, once all shards are done."""
    (folder / "shards" / ALL).unlink(missing_ok=True)


def shards_done(folder: Path) -> str:
    """How many shards of an unfinished artifact have a marker, as ``3 of 12 shards done``."""
    done = sum(path.stem.isdigit() for path in folder.glob("shards/*.json"))
    try:
        count = read_json(read_plain(folder / "shards" / ALL))["shards"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{counted(done, 'shard', 'shards')} done"
    return f"{done} of {counted(count, 'shard', 'shards')} done"


def remove_shards(folder: Path, first: int) -> None:
    """Remove the tables and markers of shards from a number on: leftovers of another cut."""
    for path in [*folder.glob("*/*.parquet*"), *folder.glob("shards/*.json")]:
        number = path.name.partition(".")[0]
        if number.isdigit() and int(number) >= first:
            path.unlink()


def write_shard(
    folder: Path,
    shard: Shard,
    result: ShardResult,
    categories: Sequence[Mapping[str, Any]],
) -> ShardMarker:
    """Write a shard's tables, then its marker."""
    files = []
    for table, rows in result.rows.items():
        path = folder / table / f"{shard.name}.parquet"
        if table == "quarantine" and not rows:
            path.unlink(missing_ok=True)
            continue
        count = write_table(path, table, rows, categories)
        files.append(file_entry(folder, path, count))
    images = digest_of(list(shard.image_ids))
    warnings = list(result.warnings)
    marker = ShardMarker(images, files, dict(result.counts), dict(result.seconds), warnings)
    write_sealed(_marker_path(folder, shard), asdict(marker))
    return marker


def read_marker(folder: Path, shard: Shard, thorough: bool = True) -> ShardMarker | None:
    """The marker of a finished shard of the same images; None when it has to be made.

    Args:
        folder: The artifact's folder.
        shard: The shard.
        thorough: Compare its tables with the digests that the marker has; else sizes alone, which
            is quick and enough for a plan.
    """
    try:
        marker = marker_at(_marker_path(folder, shard))
    except (OSError, ValueError):
        return None
    if marker.images != digest_of(list(shard.image_ids)):
        return None
    fault = file_fault if thorough else size_fault
    return None if any(fault(folder, entry) for entry in marker.files) else marker
