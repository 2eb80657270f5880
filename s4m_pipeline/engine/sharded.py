"""A stage that works image by image: shards go to an engine, and their markers are added up."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.artifacts.shards import (
    PORTION,
    Shard,
    ShardMarker,
    make_shards,
    read_marker,
    remove_shard_count,
    remove_shards,
    shard_size,
    shards_done,
    write_shard_count,
)
from s4m_pipeline.config import MEGABYTE
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.devices.placement import gpus_of
from s4m_pipeline.engine.image_sources import ImageSource
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Plan, Stage, label_categories
from s4m_pipeline.errors import S4MError
from s4m_pipeline.execution.base import ShardJob
from s4m_pipeline.execution.engines import check_engine, engine_named
from s4m_pipeline.wording import counted

SHARD_BYTES = 64_000_000
"""About how much the rows of a shard may take: they are in memory until it is written."""


@dataclass(frozen=True)
class ShardedStage(Stage):
    """A stage that works image by image.

    It has an image source and a worker. The worker is made in the process where an engine runs it.
    """

    repaired_by_shard = True
    images: ClassVar[ImageSource]
    """The images that it works over."""

    @property
    @abstractmethod
    def worker(self) -> str:
        """Its worker: a `WorkerFactory` as ``package.module:thing``."""

    @abstractmethod
    def task(self, run: Run) -> Any:
        """What its worker needs to know; picklable."""

    @abstractmethod
    def bytes_per_image(self, run: Run) -> int:
        """Forecast of the artifact's bytes an image."""

    def row_bytes(self, run: Run) -> int:
        """Forecast of the bytes that an image's rows take in memory, where they are large."""
        del run
        return 1

    def sources(self, run: Run) -> dict[str, str]:
        """Its images."""
        return {self.images.name: self.images.digest(run)}

    def check(self, run: Run) -> None:
        """Refuse an unknown engine, and images that cannot be used."""
        check_engine(run.config.execution.engine)
        self.images.check(run)

    def records(self, run: Run) -> list[ImageRecord]:
        """The images it works over."""
        return self.images.records(run)

    def categories(self, run: Run) -> Sequence[Mapping[str, Any]]:
        """Categories to write into the tables: the labelled set's."""
        return label_categories(run.images.labelled.categories)

    def job(self, run: Run, folder: Path) -> ShardJob:
        """What its workers do, and the folder that they write to."""
        task, categories = self.task(run), self.categories(run)
        decoded = run.config.execution.decoded_mb * MEGABYTE
        return ShardJob(self.name, self.worker, task, folder, categories, decoded)

    def shards(self, run: Run) -> list[Shard]:
        """The images in portions, which depend on the set and the settings alone."""
        ids = [record.id for record in self.records(run)]
        portions = max(1, SHARD_BYTES // (PORTION * self.row_bytes(run)))
        return make_shards(ids, min(portions * PORTION, shard_size(len(ids))))

    def plan(self, run: Run) -> Plan:
        """Images, shards and disk of the whole stage."""
        shards = self.shards(run)
        images = sum(len(shard.image_ids) for shard in shards)
        folder = run.folder(self)
        done = sum(read_marker(folder, shard, thorough=False) is not None for shard in shards)
        return Plan(images, len(shards), done, images * self.bytes_per_image(run))

    def progress(self, run: Run) -> str:
        """Shards done of all."""
        return shards_done(run.folder(self))

    def make(self, run: Run, folder: Path) -> Outcome:
        """Process the shards that have no marker yet, then add up all markers."""
        shards = self.shards(run)
        remove_shards(folder, len(shards))
        write_shard_count(folder, len(shards))
        markers = self.whole_shards(run, folder)
        todo = [shard for shard in shards if shard.number not in markers]
        if todo:
            markers |= self._process(run, folder, shards, todo)
        remove_shard_count(folder)
        return self._outcome(run, [markers[shard.number] for shard in shards])

    def whole_shards(self, run: Run, folder: Path) -> dict[int, ShardMarker]:
        """The markers of the shards that need not be made, by number; their tables are whole."""
        found = {shard.number: read_marker(folder, shard) for shard in self.shards(run)}
        return {number: marker for number, marker in found.items() if marker is not None}

    def _process(
        self, run: Run, folder: Path, shards: Sequence[Shard], todo: Sequence[Shard]
    ) -> dict[int, ShardMarker]:
        """Have an engine process the shards that are to do; gives their markers by number."""
        total = sum(len(shard.image_ids) for shard in shards)
        done = total - sum(len(shard.image_ids) for shard in todo)
        job, section = self.job(run, folder), run.config.execution
        run_shards = engine_named(section.engine)
        warn_of_idle_gpus(run, self.device(run))
        markers: dict[int, ShardMarker] = {}
        warned: set[str] = set()
        with run.reporter.progress(self.name, total, done) as advance:
            for shard, marker in run_shards(todo, job, section.workers, _counting(advance)):
                markers[shard.number] = marker
                for warning in marker.warnings:
                    if warning not in warned:
                        warned.add(warning)
                        run.reporter.warn(f"{self.name}: {warning}")
        return markers

    def _outcome(self, run: Run, markers: Sequence[ShardMarker]) -> Outcome:
        counts: Counter[str] = Counter({"images": 0, "instances": 0, "quarantined": 0})
        seconds: Counter[str] = Counter()
        for marker in markers:
            counts.update(marker.counts)
            seconds.update(marker.seconds)
        if counts["images"] == 0:
            raise S4MError(
                f"{self.name}: {_all_of(counts['quarantined'])} set aside; the quarantine table "
                "of the unfinished artifact says why."
            )
        if counts["quarantined"]:
            run.reporter.warn(
                f"{self.name}: {counted(counts['quarantined'], 'image was', 'images were')} "
                f"set aside, see {run.folder(self) / 'quarantine'}"
            )
        files = [entry for marker in markers for entry in marker.files]
        metrics: dict[str, Any] = {
            "seconds": {part: round(value, 3) for part, value in seconds.items()}
        }
        warnings = sorted({text for marker in markers for text in marker.warnings})
        if warnings:
            metrics["warnings"] = warnings
        return Outcome(files, dict(counts), metrics)


def _all_of(images: int) -> str:
    return "the only image was" if images == 1 else f"all {images:,} images were"


def warn_of_idle_gpus(run: Run, device: str) -> None:
    """Warn, once a run, of GPUs that the run's workers leave idle."""
    gpus, workers = gpus_of(device), run.config.execution.workers
    if workers < gpus:
        run.reporter.warn_once(
            f"execution.workers is {workers}, so the inference stages leave {gpus - workers} of "
            f"{gpus} GPUs idle; set it to {gpus}, or device to one of them (cuda:0)"
        )


def _counting(advance: Callable[[int, str], None]) -> Callable[[int], None]:
    return lambda count: advance(count, "")
