"""A forecast of an inference stage's time and disk, measured on a few of its images."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s4m_pipeline.artifacts.shards import Shard, read_marker, write_shard
from s4m_pipeline.execution.local import Place
from s4m_pipeline.stages.base import Run, Stage
from s4m_pipeline.stages.perform import freshness
from s4m_pipeline.stages.sharded import ShardedStage

PROBED = 10
"""Images that are measured."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a probe found.

    Attributes:
        probed: Images measured.
        left: Images that the stage has still to do.
        start_seconds: Of loading models, choosing kernels and compiling.
        image_seconds: Of each image after that, in one worker.
        seconds: Of all that is left, with the run's workers.
        disk_bytes: Of the whole artifact.
    """

    probed: int
    left: int
    start_seconds: float
    image_seconds: float
    seconds: float
    disk_bytes: int


def forecast(run: Run, stage: Stage) -> Forecast | None:
    """Do a few images of a stage and throw the result away.

    Args:
        run: The run.
        stage: Any stage.

    Returns:
        None where there is nothing to measure: no inference stage, a fresh artifact, or inputs
        that are yet to be made.
    """
    if not isinstance(stage, ShardedStage) or freshness(run, stage).state == "fresh":
        return None
    for above in stage.upstream(run.config).values():
        if freshness(run, above).state != "fresh":
            return None
    shards, folder = stage.shards(run), run.folder(stage)
    images = [i for shard in shards for i in shard.image_ids]
    done = [shard for shard in shards if read_marker(folder, shard) is not None]
    left = len(images) - sum(len(shard.image_ids) for shard in done)
    places = np.linspace(0, len(images) - 1, min(PROBED, len(images))).astype(int)
    ids = [images[place] for place in places]
    start, image, size = _measure(run, stage, ids)
    workers = run.config.execution.workers
    return Forecast(
        probed=len(ids),
        left=left,
        start_seconds=start,
        image_seconds=image,
        seconds=start + image * left / max(1, min(workers, len(shards) - len(done))),
        disk_bytes=int(size * len(images)),
    )


def _measure(run: Run, stage: ShardedStage, ids: list[int]) -> tuple[float, float, float]:
    """Seconds to start, seconds an image, bytes an image, the images done twice.

    The first time has the start in it. The second has batches of the same sizes, so that nothing
    is compiled in it.
    """

    def ignore(count: int) -> None:
        del count

    shard = Shard(0, tuple(ids))
    began = time.perf_counter()
    worker = stage.factory()(stage.argument(run), Place())
    worker.process(shard, ignore)
    warm = time.perf_counter()
    result = worker.process(shard, ignore)
    with tempfile.TemporaryDirectory() as folder:
        made = write_shard(Path(folder), shard, result, stage.categories(run))
    seconds = time.perf_counter() - warm
    size = sum(file.bytes for file in made.files)
    return max(0.0, warm - began - seconds), seconds / len(ids), size / len(ids)
