"""Refine on a GPU: JPEG files in, Parquet out; and against the released loop (rows 11, 12).

SAM 2.1 large at 1024 px, its encoder in bfloat16, 20 instances an image of COCO's size and 30 of
Cityscapes'. Where the proof gives the faster way up, the script ends with an error, since what
it timed is float32. ``--checkpoint`` takes real weights. Random ones give speckled masks, which are
the slowest to encode and move more with the precision, so that the proof and the agreement with the
released loop are set lower for them; the IoU is a line of its own. ``--compile`` compiles the
encoder, in lines of other names. The released loop is timed in float32, which the ratios are held
against, and in bfloat16 by autocast beside it. Needs CUDA; to try the script itself on a CPU:

    python benchmarks/gpu_refine.py --device cpu --name sam2.1_hiera_tiny --images 4 --size 256
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from harness import can_run_on, in_turn, report, report_times, seconds
from made_instances import STRIDE, Scene, coco_scene, street_scene
from naive_refine import predictor_of, refine_image
from PIL import Image
from refine_work import DEFAULT, S4M, draw

from s4m_pipeline.artifacts.shards import Shard, write_shard
from s4m_pipeline.artifacts.tables import write_table
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.execution.ahead import one_ahead
from s4m_pipeline.refinement.ask import Asked, ask_whole, refine_images
from s4m_pipeline.refinement.policies import ConflictRules, RefinePolicy
from s4m_pipeline.refinement.rle import iou
from s4m_pipeline.refinement.soft_masks import encode_soft_mask
from s4m_pipeline.segmenter import sam2
from s4m_pipeline.segmenter.build import build_segmenter
from s4m_pipeline.segmenter.sam2 import Sam2Segmenter
from s4m_pipeline.stages.refine.refine_task import RefineTask
from s4m_pipeline.stages.refine.worker import RefineWorker
from s4m_pipeline.stages.segmenter_settings import SegmenterSettings

CATEGORIES = [{"id": 1, "name": "thing"}]
PER_SECOND = 70
"""Row 11's goal on an H100."""
LEAST_IOU = 0.995
RANDOM_LEAST_IOU = 0.95
"""What the proof asks of random weights."""
BATCHES = 3
"""Of row 12, in a run."""
RANDOM_LEAST_AGREEMENT = 0.9
"""With the released loop, of random weights, whose candidates score so alike that bfloat16 may take
another; real ones are held to ``LEAST_IOU``."""


def task_of(
    folder: Path, scene: Scene, images: int, settings: SegmenterSettings, policy: RefinePolicy
) -> RefineTask:
    """Write a scene as ``images`` JPEG files with its predictions, and say how to refine them."""
    height, width = scene.image.shape[:2]
    records = {}
    for number in range(images):
        path = folder / f"{number}.jpg"
        Image.fromarray(scene.image).save(path, quality=90)
        records[number] = ImageRecord(number, path.name, path, height, width)
    rows = [_row(record, instance) for record in records.values() for instance in scene.instances]
    write_table(folder / "predictions" / "00000.parquet", "predictions", rows, CATEGORIES)
    rules = ConflictRules()
    return RefineTask(folder, records, settings, policy, rules, {1: 0.5}, 0.3, 1.0, None)


def _row(record: ImageRecord, instance: Any) -> dict[str, Any]:
    data, box = encode_soft_mask(_whole(instance, record.height, record.width))
    return {
        "image_id": record.id,
        "file_name": record.file_name,
        "height": record.height,
        "width": record.width,
        "instance_id": instance.instance_id,
        "category_id": 1,
        "score": instance.score,
        "class_probs": [instance.score],
        "bbox": instance.bbox,
        "area": instance.area,
        "mask_rle": instance.mask_rle,
        "prompt_points": instance.points.reshape(-1),
        "soft_mask": data,
        "soft_mask_box": box,
        "soft_mask_stride": STRIDE,
    }


def _whole(instance: Any, height: int, width: int) -> np.ndarray:
    """An instance's soft mask over all cells, float32."""
    cells = np.zeros((height // STRIDE, width // STRIDE), np.float32)
    x, y, w, h = instance.soft_mask_box
    cells[y : y + h, x : x + w] = instance.soft_mask / np.float32(255)
    return cells


def throughput(args: argparse.Namespace) -> None:
    """Row 11: images a second through refine's own worker, and the IoU with float32."""
    scene = coco_scene()
    draw(scene)
    settings = SegmenterSettings(
        args.name, args.checkpoint, args.size, args.batch, args.device, "auto", args.compile
    )
    with tempfile.TemporaryDirectory() as folder:
        task = task_of(Path(folder), scene, args.images, settings, DEFAULT)
        worker = RefineWorker("refine", task, Place())
        warm = worker.process(Shard(0, tuple(range(args.batch))), lambda count: None)
        whole = Shard(0, tuple(range(args.images)))

        def work() -> None:
            result = worker.process(whole, lambda count: None)
            write_shard(Path(folder), whole, result, CATEGORIES)

        rates = sorted(args.images / seconds(work) for _ in range(3))
    _refuse_given_up(warm.warnings)
    found = _mean_iou(args, scene)
    print(f"{rates[1]:.1f} images/s ({rates[0]:.1f} to {rates[2]:.1f}), {args.images} images")
    equal = f"mean IoU with float32 {found:.4f}"
    details = {"gpu": _gpu(args.device), "images a second": rates[1]}
    report(_named("throughput", args), rates[1] / PER_SECOND, 1, equal, **details)
    report(_named("iou", args), found, LEAST_IOU, equal, **details)


def _named(row: str, args: argparse.Namespace) -> str:
    """A line's name, which says whether the encoder was compiled."""
    return f"gpu_refine_{row}" + ("_compiled" if args.compile else "")


def _refuse_given_up(warnings: Sequence[str]) -> None:
    """End where float32 was taken in place of what was to be timed."""
    for warning in warnings:
        print(f"warning: {warning}")
    if any("given up" in warning for warning in warnings):
        raise SystemExit("the faster way was given up: the figures would be float32's")


def _mean_iou(args: argparse.Namespace, scene: Scene) -> float:
    """Mean IoU of the masks of the precision that is taken with those of float32."""
    made = []
    for precision in ("float32", "auto"):
        compiled = args.compile and precision == "auto"
        segmenter = build_segmenter(
            args.name, args.checkpoint, args.size, args.device, precision, compiled
        )
        (masks,) = refine_images(
            segmenter, segmenter.encode([scene.image]), [scene.instances], DEFAULT
        )
        made.append([mask.mask_rle for mask in masks])
    return _agreement(*made, scene)


def _agreement(first: list[bytes], second: list[bytes], scene: Scene) -> float:
    """Mean IoU of masks in pairs; two empty ones agree."""
    size = scene.image.shape[:2]
    pairs = zip(first, second, strict=True)
    return float(np.mean([1.0 if a == b else iou(a, b, *size) for a, b in pairs]))


def against_naive(args: argparse.Namespace, row: str, goal: float, scene: Scene) -> None:
    """Row 12: the released loop in float32 against ours, both from pixels to RLEs.

    Ours has a batch under way while the last one's masks are made, as the stage does. The loop in
    bfloat16 is printed beside it.
    """
    draw(scene)
    points = np.stack([instance.points for instance in scene.instances])
    segmenter = build_segmenter(
        args.name, args.checkpoint, args.size, args.device, "auto", args.compile
    )
    plain = build_segmenter(args.name, args.checkpoint, args.size, args.device)
    if not isinstance(plain, Sam2Segmenter):
        raise TypeError(f"{plain.name} is no SAM 2")
    predictor = predictor_of(plain.model)
    images, instances = [scene.image] * args.batch, [scene.instances] * args.batch

    def naive() -> list[bytes]:
        found = [refine_image(predictor, image, points) for image in images * BATCHES]
        return found[0]

    def begin(_: int) -> Asked:
        return ask_whole(segmenter, segmenter.encode(images), instances, S4M)

    def ours() -> list[bytes]:
        found = [asked.masks() for asked in one_ahead(begin, range(BATCHES))]
        return [mask.mask_rle for mask in found[0][0]]

    before, after, slow, fast = in_turn(naive, ours, repeats=3)
    _refuse_given_up(segmenter.warnings)
    found, name = _agreement(before, after, scene), _named(row, args)
    if found < _least_agreement(args):
        raise SystemExit(f"{name}: mean IoU with the naive way is {found:.4f}")
    half = _in_bfloat16(naive, args.device)
    print(f"{name}: naive in bfloat16 {half:.4g} s, {half / median(fast):.3g} times ours")
    equal, details = f"mean IoU {found:.4f}", {"gpu": _gpu(args.device), "naive bfloat16": half}
    report_times(name, goal, slow, fast, equal, **details)


def _least_agreement(args: argparse.Namespace) -> float:
    """The least mean IoU with the released loop in float32."""
    return RANDOM_LEAST_AGREEMENT if args.checkpoint == "random" else LEAST_IOU


def _in_bfloat16(naive: Callable[[], Any], device: str) -> float:
    """Median seconds of the released loop under autocast, after a run that is not timed."""
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        naive()
        return median(seconds(naive) for _ in range(3))


def _gpu(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else "none"


def main() -> None:
    """Measure, or say that there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--name", default="sam2.1_hiera_large")
    parser.add_argument("--checkpoint", default="random", help="SAM 2's, for real figures")
    parser.add_argument("--size", type=int, default=1024, help="the segmenter's input")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    if not can_run_on(args.device, "gpu_refine"):
        return
    args.batch = min(args.batch, args.images)
    if args.checkpoint == "random":
        sam2.LEAST_IOU = RANDOM_LEAST_IOU
        print(f"random weights: the proof asks for a mean IoU of {RANDOM_LEAST_IOU}")
    rows: list[tuple[str, float, Callable[[], Scene]]] = [
        ("coco", 8, coco_scene),
        ("cityscapes", 25, street_scene),
    ]
    throughput(args)
    for row, goal, scene in rows:
        against_naive(args, row, goal, scene())


if __name__ == "__main__":
    main()
