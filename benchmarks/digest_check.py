"""What comparing digests costs, as a share of each stage's time for the same images.

    python benchmarks/digest_check.py --images 2048

An artifact of ``refine`` is made, with seven labels an image and structural maps of 256 points and
64 x 64 cells (smooth with noise, of 0.7 byte a cell when stored, as real ones are). Its files are
compared with their digests as a stage compares them. What a stage does beside that
is timed here for ``rethreshold`` (rows read and written again) and ``label-quality`` (columns
read). For the others it is the least that an H100 can take by its arithmetic
(docs/performance.md), so that their share is the most that it can be. A step counts as three
forward passes; the released recipe passes six times over COCO's unlabelled images.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from made_labels import made_rows
from scipy.ndimage import gaussian_filter

from s4m_pipeline.artifacts.manifest import FileEntry, SeenFiles
from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.artifacts.shards import Shard, ShardResult, make_shards, write_shard
from s4m_pipeline.artifacts.tables import read_rows, read_table

POINTS, GRID, NOISE = 256, 64, 10
REFINE_MS, PASS_MS, PASSES = 1000 / 405, 3 * 1000 / 129, 6
"""An H100's least milliseconds an image: SAM 2.1 large with 20 instances; a student's step."""
WORTH_A_WORD = 0.02
COLUMNS = ["image_id", "category_id", "score", "decision", "mask_rle", "teacher_mask_rle"]
"""What ``label-quality`` reads."""


def _structure_rows(shard: Shard) -> list[dict[str, Any]]:
    """Rows of the structure table: smooth maps, for each image moved aside."""
    draw = rng(0, "digest check", shard.number)
    noise = gaussian_filter(draw.normal(size=(POINTS, GRID, GRID)), (0, 3, 3))
    low, high = noise.min(), noise.max()
    smooth = (noise - low) / (high - low) * 255 + NOISE * draw.normal(size=noise.shape)
    maps = np.clip(smooth, 0, 255).astype(np.uint8)
    rows = []
    for image_id in shard.image_ids:
        own = np.roll(maps, int(draw.integers(GRID)), axis=2) ^ draw.integers(2, dtype=np.uint8)
        row = {"image_id": image_id, "file_name": f"{image_id}.jpg", "height": 480, "width": 640}
        row |= {"grid": GRID, "points": [1.0] * 2 * POINTS, "similarity": own.tobytes()}
        rows.append(row | {"scale": [0.01] * POINTS, "offset": [0.0] * POINTS})
    return rows


def _make(folder: Path, images: int) -> tuple[list[Shard], list[FileEntry]]:
    """Write an artifact's tables; gives its shards and files."""
    few = made_rows(64, full=True)
    shards, files = make_shards(range(1, images + 1), 64), []
    for shard in shards:
        rows = [
            row | {"image_id": shard.image_ids[row["image_id"] - 1]}
            for row in few
            if row["image_id"] <= len(shard.image_ids)
        ]
        tables = {"refined": rows, "predictions": rows, "structure": _structure_rows(shard)}
        files += write_shard(folder, shard, ShardResult(tables), []).files
    return shards, files


def _timed(work: Callable[[], object]) -> float:
    """Seconds of the processor, which other processes beside this one change little."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _compare(folder: Path, files: list[FileEntry]) -> None:
    seen = SeenFiles()
    if faults := [fault for entry in files if (fault := seen.fault(folder, entry))]:
        raise SystemExit(f"digest_check: {faults[0]}")


def _copy(folder: Path, target: Path, shards: list[Shard]) -> None:
    """What ``rethreshold`` does with the rows of an artifact, without its choices."""
    for shard in shards:
        tables = {
            name: read_rows(folder, name, shard.image_ids) for name in ("refined", "structure")
        }
        write_shard(target, shard, ShardResult(tables), [])


def _line(stage: str, what: str, compared: float, work: float, images: int) -> None:
    share = compared / (compared + work)
    word = f", over {WORTH_A_WORD:.0%}" if share > WORTH_A_WORD else ""
    each = [1e3 * seconds / images for seconds in (compared, work)]
    print(f"{stage}, {what}: {each[0]:.3f} of {sum(each):.3f} ms an image, {share:.2%}{word}")


def main() -> None:
    """Make the artifact, compare it, and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=2048)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "artifact"
        shards, files = _make(folder, images)
        of = {
            table: [entry for entry in files if entry.path.startswith(table)]
            for table in ("predictions", "refined", "structure")
        }
        size = {table: sum(entry.bytes for entry in entries) for table, entries in of.items()}
        took = {table: _timed(lambda: _compare(folder, of[table])) for table in of}  # noqa: B023
        copied = _timed(lambda: _copy(folder, Path(name) / "copy", shards))
        read = _timed(lambda: read_table(folder, "refined", COLUMNS))
    for table, count in size.items():
        print(f"{table}: {count / 1e9:.2f} GB, {count / images / 1e3:.0f} KB an image")
    whole = sum(took.values())
    print(f"compared at {1e9 * whole / sum(size.values()):.2f} s a GB")
    both = took["refined"] + took["structure"]
    refining, one_pass = (images * each / 1e3 for each in (REFINE_MS, PASS_MS))
    _line("refine", "at an H100's rate", took["predictions"], refining, images)
    _line("train-student", "one pass at an H100's rate", both, one_pass, images)
    _line("train-student", f"{PASSES} passes", both, PASSES * one_pass, images)
    _line("rethreshold", "with structural maps", both + took["predictions"], copied, images)
    _line("label-quality", "all files", both, read, images)
    _line("label-quality", "the table that it reads", took["refined"], read, images)


if __name__ == "__main__":
    main()
