"""How long a student's training waits for its data: under 5 % of a step.

    python benchmarks/data_time.py --shared ../shared

Photographs of `animals7`, ten per cent labelled, the others with their true masks written as a
refine artifact's; the ablation's model and batches of four with dynamic pasting, through the
package's own training. What counts is its log's `data_seconds` over `seconds`, with two data
workers; without workers all of an item's making is waited for, and its share is printed, too. Then
one item of Cityscapes' size is timed (1024 x 2048, 30 instances, crop 512 x 1024), which says how
many cores feed a GPU. On a machine whose cores are all busy, waiting includes waiting for a core.

A line of its own, `data_time_masks`, is about large batches that are ready (`ready_batches.py`):
how long it takes to have one, a tenth of what MMDetection's bitmaps take.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from harness import can_run_on, report, seconds, skip
from made_instances import street_scene
from made_training import (
    Label,
    labels_of,
    refined_config,
    write_images,
    write_refined,
)
from ready_batches import ready_batches

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.registry import DATASETS  # noqa: E402

from s4m_pipeline.data.formats import coco  # noqa: E402
from s4m_pipeline.data.image_set import ImageRecord, ImageSet  # noqa: E402
from s4m_pipeline.models.hooks import LOG_INTERVAL, read_log  # noqa: E402
from s4m_pipeline.models.model_config import read_model_config  # noqa: E402
from s4m_pipeline.models.pipelines import train_pipeline  # noqa: E402
from s4m_pipeline.models.training import TrainingSpec, train  # noqa: E402
from s4m_pipeline.training_data import datasets as datasets  # noqa: E402  # registers them

NAME = "data_time"
SHARE = 0.05
"""Of a step, the most that may be waited."""
PERCENT = 10
BATCH = 4
CLASSES = [{"id": number, "name": f"class {number}"} for number in range(1, 9)]


def spec_of(folder: Path, found: ImageSet, args: argparse.Namespace, workers: int) -> TrainingSpec:
    """The student's training on an image set, a part of it labelled."""
    categories = [{"id": one.id, "name": one.name} for one in found.categories]
    unlabelled = _unlabelled(found)
    labelled = {
        "type": "CocoInstances",
        "annotations": str(args.photographs / "_annotations.coco.json"),
        "images": str(args.photographs),
        "categories": categories,
        "branch": "labelled",
        "exclude": [image.id for image in unlabelled],
    }
    return TrainingSpec(
        folder=folder / f"{workers} workers",
        model=Path(__file__).resolve().parent / "ablation_model.py",
        categories=categories,
        labelled=labelled,
        unlabelled=refined_config(folder, unlabelled, categories),
        log_file=folder / f"{workers}.jsonl",
        iterations=(args.intervals + 1) * LOG_INTERVAL,
        labelled_batch=BATCH - BATCH // 2,
        unlabelled_batch=BATCH // 2,
        device=args.device,
        workers=workers,
        paste="dynamic",
        ema=0.9996,
    )


def _unlabelled(found: ImageSet) -> list[ImageRecord]:
    return found.images[len(found.images) * PERCENT // 100 :]


def shares(spec: TrainingSpec) -> tuple[float, float, float]:
    """Train; mean seconds of a step, of waiting in it, and its loss, the first lines left out."""
    train(spec)
    lines = read_log(spec.log_file)[1:]
    step, waited, loss = (
        mean(x[key] for x in lines) for key in ("seconds", "data_seconds", "loss")
    )
    print(
        f"workers: {spec.workers}: {step:.3f} s a step of {BATCH} images, {1e3 * waited:.1f} ms "
        f"({100 * waited / step:.1f} %) of it waiting for data"
    )
    return step, waited, loss


def prepared_set(args: argparse.Namespace, folder: Path) -> ImageSet:
    """The photographs, with the true masks of all but the labelled ones written as refined."""
    found = coco.load(args.photographs / "_annotations.coco.json", args.photographs)
    categories = [{"id": one.id, "name": one.name} for one in found.categories]
    labels = {
        key: [Label(one.category_id, one.rle) for one in instances]
        for key, instances in found.instances.items()
    }
    write_refined(folder, _unlabelled(found), labels, categories)
    return found


def animals(args: argparse.Namespace, folder: Path) -> None:
    """Train with and without workers, and report the share of waiting."""
    found = prepared_set(args, folder)
    losses = []
    for workers in (0, 2):
        step, waited, loss = shares(spec_of(folder, found, args, workers))
        losses.append(loss)
    if abs(losses[0] - losses[1]) > 1e-3 * abs(losses[0]):
        raise SystemExit(f"{NAME}: other losses with workers ({losses[1]}) than without")
    equal = f"mean losses with and without workers {losses[1]:.6g} and {losses[0]:.6g}"
    report(NAME, SHARE * step / max(waited, 1e-9), 1, equal, step=step, waited=waited)


def street_item(folder: Path) -> None:
    """Time an item of Cityscapes' size on one core."""
    scene = street_scene()
    records = write_images(folder / "street", [scene])
    write_refined(folder / "street", records, {1: labels_of(scene, CLASSES)}, CLASSES)
    config = read_model_config("mask2former_r50_cityscapes", len(CLASSES))
    settings: dict[str, Any] = refined_config(folder / "street", records, CLASSES)
    settings["cache"] = str(folder / "street.arrow")
    dataset = DATASETS.build({**settings, "pipeline": train_pipeline(config, strong=True)})
    torch.set_num_threads(1)
    dataset[(0, 0)]
    times = [seconds(lambda draw=draw: dataset[(0, draw)]) for draw in range(1, 25)]  # type: ignore[misc]
    item = median(times)
    print(
        f"an item of 1024 x 2048 with 30 instances, crop 512 x 1024: {1e3 * item:.0f} ms on a core "
        f"({1e3 * min(times):.0f} to {1e3 * max(times):.0f}); steps of 16 images that take X s "
        f"need {16 * item:.1f} / X cores"
    )


def main() -> None:
    """Measure, or say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--intervals", type=int, default=2, help="of the log, ten steps each")
    args = parser.parse_args()
    if not can_run_on(args.device, NAME):
        return
    args.photographs = args.shared.resolve() / "data" / "animals7" / "train"
    ready_batches(args.device)
    with tempfile.TemporaryDirectory() as name:
        street_item(Path(name))
        if not args.photographs.is_dir():
            skip(NAME, "no data/animals7/train in the folder of --shared")
            return
        animals(args, Path(name))


if __name__ == "__main__":
    main()
