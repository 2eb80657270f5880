"""Where the time of every stage goes, in a run of your own.

    python benchmarks/stage_times.py run.yaml --images 20

The inference stages work through some of the run's images again, ``evaluate`` through all of its
validation's, and the result is thrown away; the run needs its teacher and predictions. Of the
trainings their logs are read. On a GPU each part waits for the device, which is slower than without
the clock but shows where time is spent.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from arithmetic import counted, product_rate

from s4m_pipeline.artifacts.shards import Shard, write_shard
from s4m_pipeline.config_file import load_config
from s4m_pipeline.console.reporter import Reporter
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.engine import reading
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.metrics import scoring
from s4m_pipeline.models.hooks import read_log
from s4m_pipeline.models.predictor import Predictor
from s4m_pipeline.segmenter.mobilesam import MobileSam
from s4m_pipeline.segmenter.sam2 import Sam2Segmenter
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.structure import Structure
from s4m_pipeline.stages.train_student import TrainStudent
from s4m_pipeline.stages.train_teacher import TrainTeacher

AHEAD = "decode and scale images"
"""The part that threads do ahead of the rest."""
PARTS: tuple[tuple[Any, str, str], ...] = (
    (reading, "read_sized_image", AHEAD),
    (Predictor, "scaled", AHEAD),
    (Predictor, "predict", "teacher's network"),
    (Predictor, "detect", "network, masks and run-lengths"),
    (scoring, "score_detections", "score"),
    (MobileSam, "encode", "segmenter's encoder"),
    (MobileSam, "decode", "segmenter's decoder"),
    (Sam2Segmenter, "encode", "segmenter's encoder"),
    (Sam2Segmenter, "decode", "segmenter's decoder"),
    (Sam2Segmenter, "structure_features", "structural maps"),
    (MobileSam, "structure_features", "structural maps"),
)


def timed(spent: dict[str, float]) -> None:
    """Make every part add its seconds to ``spent``."""
    for owner, name, part in PARTS:
        setattr(owner, name, _clocked(getattr(owner, name), part, spent))


def _clocked(work: Callable[..., Any], part: str, spent: dict[str, float]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        found = work(*args, **kwargs)
        if part != AHEAD and torch.cuda.is_available():
            torch.cuda.synchronize()
        spent[part] += time.perf_counter() - start
        return found

    return run


def stage_parts(
    run: Run, stage: ShardedStage, images: int, spent: dict[str, float]
) -> dict[str, float]:
    """Milliseconds an image of each part of an inference stage, decoding ahead left out."""
    ids = sorted(record.id for record in stage.records(run))
    if len(ids) < 2:
        raise SystemExit(f"{stage.name}: one image to warm up and one to time are needed")
    some = [ids[place] for place in np.linspace(0, len(ids) - 1, images + 1).astype(int)]
    job = stage.job(run, Path())
    worker = job.make_worker(Place())
    worker.process(Shard(0, (some[0],)), lambda count: None)
    spent.clear()
    rest = Shard(0, tuple(sorted(set(some[1:]))))
    start = time.perf_counter()
    result = worker.process(rest, lambda count: None)
    worked = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write_shard(Path(folder), rest, result, job.categories)
    written = time.perf_counter()
    inside = {part: seconds for part, seconds in spent.items() if part != AHEAD}
    parts = {
        **inside,
        "all else (prompts, masks, run-lengths)": worked - start - sum(inside.values()),
        "write tables": written - worked,
    }
    count = len(rest.image_ids)
    print(f"{stage.name}: {1e3 * (written - start) / count:.1f} ms an image, {count} images")
    print(f"  in threads ahead, {AHEAD}: {1e3 * spent[AHEAD] / count:.2f} ms an image")
    if not torch.cuda.is_available():
        gflop = counted(lambda: worker.process(rest, lambda _: None)) / count
        print(
            f"  {gflop:.0f} GFLOP an image, {1e3 * gflop / product_rate():.0f} ms at the rate of a "
            "matrix product; what ONNX Runtime runs, MobileSAM's encoder, is not counted"
        )
    return {part: 1e3 * seconds / count for part, seconds in parts.items()}


def evaluation_parts(run: Run, spent: dict[str, float]) -> dict[str, float]:
    """Milliseconds an image of each part of the teacher's evaluation, decoding ahead left out."""
    stage = Evaluate("teacher", reuse=False)
    spent.clear()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        count = stage.make(run, Path(folder)).counts["images"]
        whole = time.perf_counter() - start
    print(f"{stage.name}: {1e3 * whole / count:.1f} ms an image, {count} images")
    print(f"  in threads ahead, {AHEAD}: {1e3 * spent.pop(AHEAD) / count:.2f} ms an image")
    parts = {**spent, "all else (load the model, write)": whole - sum(spent.values())}
    return {part: 1e3 * seconds / count for part, seconds in parts.items()}


def print_parts(parts: dict[str, float]) -> None:
    """Print milliseconds and shares, the largest first."""
    whole = sum(parts.values())
    for part, value in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"  {part}: {value:.1f} ms, {100 * value / whole:.0f} %")


def training_line(run: Run, stage: TrainTeacher | TrainStudent) -> str:
    """Seconds of a training's step, and the share in which it waits for its batch."""
    path = run.store.folder(stage.name, run.fingerprint(stage)) / "log.jsonl"
    steps = [line for line in read_log(path) if "data_seconds" in line][1:]
    if not steps:
        return f"{stage.name}: no log with times"
    step, data = (mean(line[key] for line in steps) for key in ("seconds", "data_seconds"))
    return f"{stage.name}: {step:.3f} s a step, {100 * data / step:.1f} % of it waiting for data"


def main() -> None:
    """Print the times of a run's stages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--images", type=int, default=20)
    args = parser.parse_args()
    run = Run(load_config(args.config, args.overrides), Reporter(quiet=True))
    spent: dict[str, float] = defaultdict(float)
    timed(spent)
    for stage in (Structure(), PseudoLabel(), Refine()):
        print_parts(stage_parts(run, stage, args.images, spent))
    if run.config.data.validation is None:
        print("evaluate: no data.validation to time it on")
    else:
        print_parts(evaluation_parts(run, spent))
    for training in (TrainTeacher(), TrainStudent()):
        print(training_line(run, training))


if __name__ == "__main__":
    main()
