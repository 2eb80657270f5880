"""What a run of the paper's template costs on a GPU: ten student steps, and refine with views.

The steps are those of ``cityscapes-paper``: its network and its augmentations, 16 labelled and 16
unlabelled pictures of Cityscapes' size, pasting included. Printed are seconds a step and the most
memory that torch has allocated; the line's ratio is 80 GiB over that memory. Then refine's own
worker draws the instances of large pictures in each view, SAM 2.1 large in bfloat16; the ratio is
the seconds of an encoder pass of whole pictures over those of a pass of tiles. Pictures and
instances are made, and weights are random without ``--checkpoint``. It ends within eight minutes
on an H100. Needs CUDA; to try the script itself on a CPU:

    python benchmarks/gpu_paper.py --device cpu --name sam2.1_hiera_tiny --image-size 256 \\
        --pictures 1 --labelled 1 --unlabelled 2 --steps 2 --side 512
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from gpu_refine import task_of
from harness import can_run_on, report, seconds
from made_instances import Scene, made_scene
from made_training import (
    labelled_config,
    labels_of,
    refined_config,
    write_coco,
    write_images,
    write_refined,
)
from refine_work import DEFAULT, draw
from student_sides import INSTANCES, Student
from student_step import CLASSES

from s4m_pipeline.artifacts.shards import Shard
from s4m_pipeline.config_file import load_config
from s4m_pipeline.configs import write_run_template
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.models.training_spec import TrainingSpec
from s4m_pipeline.refinement.policies import VIEWS
from s4m_pipeline.stages.refine.worker import RefineWorker
from s4m_pipeline.stages.segmenter_settings import SegmenterSettings

MEMORY = 80
"""GiB of the GPU that the paper's batch should fit."""
PASS_COST = 0.8
"""A pass of tiles may take a quarter longer than one of whole pictures: its masks are put back."""


def main() -> None:
    """Measure both, or say that there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--labelled", type=int, default=16, help="labelled pictures a step")
    parser.add_argument("--unlabelled", type=int, default=16, help="unlabelled pictures a step")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--pictures", type=int, default=50, help="large pictures to refine")
    parser.add_argument("--side", type=int, default=1024, help="height of pictures; half the width")
    parser.add_argument("--name", default="sam2.1_hiera_large")
    parser.add_argument("--checkpoint", default="random", help="SAM 2's, for real masks")
    parser.add_argument("--image-size", type=int, default=1024, help="the segmenter's input")
    args = parser.parse_args()
    if not can_run_on(args.device, "gpu_paper"):
        return
    with tempfile.TemporaryDirectory() as folder:
        measure_steps(Path(folder), args)
    with tempfile.TemporaryDirectory() as folder:
        measure_views(Path(folder), args)


def measure_steps(folder: Path, args: argparse.Namespace) -> None:
    """Print seconds and memory of the template's student steps."""
    student = Student(paper_spec(folder, args))
    times, losses = [], []

    def step() -> None:
        losses.append(student.step(next(student.batches)).losses["loss"])

    for _ in range(args.steps):
        times.append(seconds(step))
    if not all(torch.isfinite(torch.tensor(losses))):
        raise SystemExit(f"gpu_paper: a loss is not finite: {losses}")
    on_gpu = args.device.startswith("cuda")
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else float("nan")
    middle = median(times[1:] or times)
    print(
        f"{args.labelled} + {args.unlabelled} pictures of {args.side} x {2 * args.side}: "
        f"{middle:.3f} s a step with its loading, the first {times[0]:.2f} s; "
        f"{peak:.1f} GiB at most"
    )
    ratio = MEMORY / peak if on_gpu else 0.0
    equal = f"{len(losses)} losses are finite, {losses[0]:.1f} to {losses[-1]:.1f}"
    report("gpu_paper_step", ratio, 1, equal, seconds=middle, gib=peak)


def paper_spec(folder: Path, args: argparse.Namespace) -> TrainingSpec:
    """The training of ``cityscapes-paper``'s student, on made pictures with made labels."""
    write_run_template("cityscapes-paper", folder / "run.yaml")
    section = load_config(folder / "run.yaml").student
    scenes = scenes_of(args.labelled + args.unlabelled, args.side)
    labelled = write_images(folder / "labelled", scenes[: args.labelled])
    write_coco(folder / "labelled.json", labelled, labels(labelled, scenes), CLASSES)
    others = scenes[args.labelled :]
    unlabelled = write_images(folder / "unlabelled", others)
    write_refined(folder / "refined", unlabelled, labels(unlabelled, others), CLASSES)
    return TrainingSpec(
        folder=folder / "training",
        model=section.model,
        categories=CLASSES,
        labelled=labelled_config(folder, CLASSES),
        unlabelled=refined_config(folder / "refined", unlabelled, CLASSES),
        log_file=folder / "log.jsonl",
        iterations=section.iterations,
        labelled_batch=args.labelled,
        unlabelled_batch=args.unlabelled,
        device=args.device,
        precision="auto",
        workers=section.workers if args.device != "cpu" else 0,
        paste=section.paste,
        paste_min_area=section.paste_min_area,
        ema=section.ema,
    )


def scenes_of(count: int, side: int) -> list[Scene]:
    """Made pictures of Cityscapes' proportions."""
    return [made_scene(side, 2 * side, INSTANCES, 0.005, 1.4, seed) for seed in range(count)]


def labels(records: Sequence[ImageRecord], scenes: Sequence[Scene]) -> dict[int, list]:
    """The instances of written scenes, by image id."""
    pairs = zip(records, scenes, strict=False)
    return {record.id: labels_of(scene, CLASSES) for record, scene in pairs}


def measure_views(folder: Path, args: argparse.Namespace) -> None:
    """Print images a second and encoder passes of refine, view by view."""
    scene = made_scene(args.side, 2 * args.side, INSTANCES, 0.001, 1.4, 0)
    draw(scene)
    settings = SegmenterSettings(
        args.name, args.checkpoint, args.image_size, 16, args.device, "auto", False
    )
    whole = Shard(0, tuple(range(args.pictures)))
    cost = {}
    for view in VIEWS:
        place = folder / view
        place.mkdir()
        task = task_of(place, scene, args.pictures, settings, replace(DEFAULT, view=view))
        worker = RefineWorker("refine", task, Place())
        worker.process(Shard(0, (0,)), lambda count: None)
        counts: dict[str, int] = {}

        def work(worker: RefineWorker = worker, counts: dict[str, int] = counts) -> None:
            counts |= worker.process(whole, lambda count: None).counts

        taken = seconds(work)
        passes = counts["encoder_passes"]
        cost[view] = taken / passes
        print(
            f"{view}: {args.pictures / taken:.2f} images/s, "
            f"{passes / args.pictures:.1f} encoder passes an image, {1000 * cost[view]:.0f} ms each"
        )
    equal = f"{INSTANCES} instances of each of {args.pictures} pictures in every view"
    report("gpu_paper_views", cost["image"] / cost["tiles"], PASS_COST, equal, **cost)


if __name__ == "__main__":
    main()
