"""A forecast of an inference stage's time and disk, measured on a few of its images."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s4m_pipeline.artifacts.shards import Shard, read_marker, write_shard
from s4m_pipeline.devices.placement import Place, side_by_side
from s4m_pipeline.engine.perform import freshness
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage, warn_of_idle_gpus
from s4m_pipeline.engine.stage import Stage

PROBED = 10
"""Images that are measured."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a stage will take, measured on a few of its images.

    Attributes:
        device: Where the images were processed.
        probed: Images measured.
        left: Images that the stage still has to process.
        start_seconds: Time to load models, choose kernels and compile.
        image_seconds: Time for each image after that, in one worker with its share of the
            processor.
        seconds: Time for all images that are left, with the run's workers.
        disk_bytes: Size of the whole artifact.
        passes: The segmenter's encoder passes an image; None for a stage that counts none.
    """

    device: str
    probed: int
    left: int
    start_seconds: float
    image_seconds: float
    seconds: float
    disk_bytes: int
    passes: float | None = None


def obstacle(run: Run, stage: Stage, force: bool = False) -> str:
    """Why an inference stage that has work to do cannot be measured; empty where it can."""
    if not _has_work(run, stage, force):
        return ""
    if stage.plan(run).steps:
        return f"{stage.title} trains its teachers first"
    for upstream in stage.upstream(run.config).values():
        state = freshness(run, upstream).state
        if state != "fresh":
            return f"{upstream.title} is {state}"
    return ""


def _has_work(run: Run, stage: Stage, force: bool) -> bool:
    if not isinstance(stage, ShardedStage):
        return False
    return force or freshness(run, stage).state != "fresh"


def forecast(run: Run, stage: Stage, force: bool = False) -> Forecast | None:
    """Process a few images of a stage, and throw the result away.

    Args:
        run: The run.
        stage: Any stage.
        force: Forecast a new version, from the first image to the last.

    Returns:
        The forecast; None for a stage that is no inference stage, trains first, is fresh, or lacks
        an input (see `obstacle`).
    """
    if not isinstance(stage, ShardedStage) or not _has_work(run, stage, force):
        return None
    if obstacle(run, stage, force):
        return None
    shards, folder = stage.shards(run), run.folder(stage)
    images = [i for shard in shards for i in shard.image_ids]
    done = [shard for shard in shards if not force and read_marker(folder, shard) is not None]
    left = len(images) - sum(len(shard.image_ids) for shard in done)
    places = np.linspace(0, len(images) - 1, min(PROBED, len(images))).astype(int)
    ids = [images[place] for place in places]
    device = stage.device(run)
    warn_of_idle_gpus(run, device)
    workers = max(1, min(run.config.execution.workers, len(shards) - len(done)))
    start, image, size, passes = _measure(run, stage, ids, Place(0, workers))
    return Forecast(
        device=device,
        probed=len(ids),
        left=left,
        start_seconds=start,
        image_seconds=image,
        seconds=start + image * left / side_by_side(device, workers),
        disk_bytes=int(size * len(images)),
        passes=passes,
    )


def _measure(
    run: Run, stage: ShardedStage, ids: list[int], place: Place
) -> tuple[float, float, float, float | None]:
    """Seconds to start, then seconds, bytes and encoder passes an image, of a worker in its place.

    The images are processed twice. The first time includes the start. The second has batches of
    the same sizes, so that it compiles nothing.
    """
    import torch

    threads = torch.get_num_threads()
    try:
        return _timed(run, stage, ids, place)
    finally:
        torch.set_num_threads(threads)  # the worker took its share of them


def _timed(
    run: Run, stage: ShardedStage, ids: list[int], place: Place
) -> tuple[float, float, float, float | None]:
    def ignore(count: int) -> None:
        del count

    shard = Shard(0, tuple(ids))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        job = stage.job(run, Path(folder))
        worker = job.make_worker(place)
        worker.process(shard, ignore)
        second_start = time.perf_counter()
        marker = write_shard(job.folder, shard, worker.process(shard, ignore), job.categories)
        seconds = time.perf_counter() - second_start
    size = sum(file.bytes for file in marker.files)
    passes = marker.counts.get("encoder_passes")
    begun = max(0.0, second_start - start - seconds)
    each = None if passes is None else passes / len(ids)
    return begun, seconds / len(ids), size / len(ids), each
