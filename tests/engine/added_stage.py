"""A stage that only the tests have: how large each labelled image is, one row an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.artifacts.table_definitions import Column, Table
from s4m_pipeline.config import RunConfig
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.engine.image_sources import LABELLED
from s4m_pipeline.engine.registry import StageRow
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.execution.base import Advance, ShardWorker

ROW = StageRow(
    "measure",
    f"{__name__}:Measure",
    "Measure the labelled images.",
    page=f"{__name__}:write_page",
)
TABLE = Table("sizes", (Column("image_id", pa.int64()), Column("pixels", pa.int32())))


@dataclass(frozen=True)
class Measure(ShardedStage):
    """Sizes of the labelled images."""

    name: ClassVar[str] = "measure"
    images = LABELLED
    worker = f"{__name__}:MeasureWorker"

    def settings(self, config: RunConfig) -> dict[str, Any]:
        return {}

    def task(self, run: Run) -> dict[int, int]:
        return {record.id: record.height * record.width for record in self.records(run)}

    def bytes_per_image(self, run: Run) -> int:
        return 12

    def row_bytes(self, run: Run) -> int:
        return 2_000_000  # so that a few images already make two shards


def write_page(run: Run, folder: Path, out: Path, limit: int) -> None:
    """The page about it."""
    out.write_text(f"{folder.name} {limit}")


class MeasureWorker(ShardWorker):
    """Counts the shards that all workers did; stops where it is told to."""

    done: ClassVar[list[int]] = []
    stops_at: ClassVar[int | None] = None

    def __init__(self, stage: str, task: dict[int, int], place: Place) -> None:
        self.stage, self.pixels = stage, task

    def process(self, shard: Shard, advance: Advance) -> ShardResult:
        if shard.number == self.stops_at:
            raise KeyboardInterrupt
        self.done.append(shard.number)
        rows = [{"image_id": key, "pixels": self.pixels[key]} for key in shard.image_ids]
        advance(len(rows))
        tables = {"sizes": rows, "quarantine": []}
        return ShardResult(tables, {"images": len(rows)}, {self.stage: 0.0})
