"""A student's training step, labels read, against the online method's, labels made anew (row 13).

The paper's networks on Cityscapes: Mask2Former with ResNet-50 as student and teacher, SAM 2.1
large. A batch is half labelled and half unlabelled. Naive: the averaged teacher on the unlabelled
images, three points for each of the best queries, SAM 2 image by image, the best-scored of three
candidates at full size, then the student's step and the average. Ours: the same labels read from
the label cache, then the same step. Both start from the same weights and load the same images in
this process; the first step's label masks are compared to the bit and its losses to a tolerance.
Weights are random, so the teacher's queries are taken by rank, 20 an image.

    python benchmarks/student_step.py                          # half the side lengths, a CPU
    python benchmarks/student_step.py --full                   # crop 512 x 1024, SAM 2 at 1024
    python benchmarks/student_step.py --full --device cuda --batch 16 [--bfloat16]

At half the sides the parts have the same shares of the arithmetic. The operations are counted in
the steps that are not timed, and the ratio that would follow from them alone is printed. Images
have the crop's size and no augmentation is drawn, as SAM 2's answer would change with it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import can_run_on, in_turn, report_times
from made_instances import made_scene
from made_training import (
    Label,
    labelled_config,
    labels_of,
    refined_config,
    write_coco,
    write_images,
    write_refined,
)
from naive_refine import encode, predictor_of
from student_sides import INSTANCES, Labeller, Step, Student, counted, unlabelled_of

from s4m_pipeline.configs import MODELS
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.models.training_spec import TrainingSpec
from s4m_pipeline.segmenter.build import build_segmenter
from s4m_pipeline.segmenter.sam2 import Sam2Segmenter

NAME = "student_step"
GOAL = 2
CROP = (512, 1024)
"""Height and width of the paper's crop on Cityscapes; SAM 2 takes 1024 x 1024."""
POINTS = 12544
TOLERANCE = 1e-3
CLASSES = [{"id": number, "name": f"class {number}"} for number in range(1, 9)]


def write_model(folder: Path, size: tuple[int, int]) -> Path:
    """Write the paper's model config for images of ``size``, without augmentation."""
    path = folder / "model.py"
    points = POINTS * size[0] * size[1] // (CROP[0] * CROP[1])
    path.write_text(
        f"""
_base_ = ["{MODELS / "mask2former_r50_cityscapes.py"}"]
model = dict(train_cfg=dict(num_points={points}))
train_pipeline = [dict(type="Resize", scale=({size[1]}, {size[0]}), keep_ratio=True)]
weak_pipeline = []
strong_pipeline = []
"""
    )
    return path


def make_spec(
    folder: Path, name: str, model: Path, records: Sequence[ImageRecord], args: argparse.Namespace
) -> TrainingSpec:
    """The training on the images in ``folder``, with the labels of its refine artifact ``name``."""
    labelled = labelled_config(folder, CLASSES)
    return TrainingSpec(
        folder=folder / name / "training",
        model=model,
        categories=CLASSES,
        labelled=labelled,
        unlabelled=refined_config(folder / name, records, CLASSES),
        log_file=folder / name / "log.jsonl",
        iterations=1000,
        labelled_batch=args.batch - args.batch // 2,
        unlabelled_batch=args.batch // 2,
        device=args.device,
        ema=0.9996,
        precision="bfloat16" if args.bfloat16 else "float32",
    )


def write_sets(folder: Path, size: tuple[int, int], batch: int) -> list[ImageRecord]:
    """Write the labelled images with their labels and the unlabelled ones; give the latter."""
    count = batch // 2
    scenes = [made_scene(*size, INSTANCES, 0.005, 1.4, seed) for seed in range(batch)]
    records = write_images(folder / "labelled", scenes[count:])
    labels = {r.id: labels_of(s, CLASSES) for r, s in zip(records, scenes[count:], strict=True)}
    write_coco(folder / "labelled.json", records, labels, CLASSES)
    return write_images(folder / "unlabelled", scenes[:count])


def write_labels(folder: Path, records: Sequence[ImageRecord], batch: Any) -> None:
    """Write a batch's labels as a refine artifact."""
    labels = {}
    for sample in unlabelled_of(batch)[1]:
        pairs = zip(sample.gt_instances.labels.tolist(), sample.gt_instances.masks, strict=True)
        labels[sample.img_id] = [Label(int(CLASSES[c]["id"]), encode(mask)) for c, mask in pairs]
    write_refined(folder, records, labels, CLASSES)


def check(before: Step, after: Step) -> str:
    """Compare a step of both ways; end with a message where they differ."""
    masks = 0
    for theirs, ours in zip(before.labels, after.labels, strict=True):
        if not all(np.array_equal(a, b) for a, b in zip(theirs, ours, strict=True)):
            raise SystemExit(f"{NAME}: the cache's labels are not those that were made online")
        masks += len(ours[0])
    worst = max(
        abs(value - after.losses[name]) / max(abs(value), 1e-6)
        for name, value in before.losses.items()
    )
    if before.losses.keys() != after.losses.keys() or worst > TOLERANCE:
        raise SystemExit(f"{NAME}: losses differ by {worst:.2g} of their size")
    return (
        f"{masks} label masks identical, {len(after.losses)} losses of the first step within "
        f"{worst:.1g} of their size (loss {after.losses['loss']:.6g})"
    )


def bound(gflop: dict[str, float]) -> tuple[float, float]:
    """Print the parts' arithmetic; give the ratio that it allows and the share of making labels."""
    for part, count in gflop.items():
        print(f"{part}: {count:.0f} GFLOP")
    whole = sum(gflop.values())
    share = 1 - gflop["student's step"] / whole
    print(f"teacher and SAM 2 are {100 * share:.0f} % of {whole:.0f} GFLOP a step online")
    print(f"bound by arithmetic alone: {1 / (1 - share):.2f}")
    return 1 / (1 - share), share


def compare(folder: Path, args: argparse.Namespace) -> None:
    """Time both ways and report."""
    shrink = 1 if args.full else 2
    size = (CROP[0] // shrink, CROP[1] // shrink)
    segmenter = build_segmenter("sam2.1_hiera_large", "random", 1024 // shrink, args.device)
    if not isinstance(segmenter, Sam2Segmenter):
        raise TypeError(f"{segmenter.name} is no SAM 2")
    segmenter.model.requires_grad_(False)
    records, model = write_sets(folder, size, args.batch), write_model(folder, size)
    cast: dict[str, Any] = {"device_type": torch.device(args.device).type, "dtype": torch.bfloat16}
    cast["enabled"] = args.bfloat16
    online = Student(make_spec(folder, "none", model, records, args))
    start = {name: value.clone() for name, value in online.model.state_dict().items()}
    labeller = Labeller(predictor_of(segmenter.model), cast)
    students: list[Student] = []
    gflop: dict[str, float] = {}

    def naive() -> Step:
        batch = next(online.batches)
        labeller.label(online, batch)
        if not students:  # the run that is not timed
            write_labels(folder / "made", records, batch)
            students.append(Student(make_spec(folder, "made", model, records, args)))
            students[0].model.load_state_dict(start)
        return online.step(batch)

    def ours() -> Step:
        batch = next(students[0].batches)
        if gflop:
            return students[0].step(batch)
        step, gflop["student's step"] = counted(lambda: students[0].step(batch))
        return step

    before, after, slow, fast = in_turn(naive, ours, args.repeats)
    equal = check(before, after)
    gflop |= labeller.gflop
    most, share = bound(gflop)
    parts = {"gflop": gflop, "bound": most, "share of making labels": share}
    on_gpu = args.device.startswith("cuda")
    gpu = {"gpu": torch.cuda.get_device_name()} if on_gpu else {}
    precision = "bfloat16" if args.bfloat16 else "float32"
    print(f"crop {size[0]} x {size[1]}, batch {args.batch}, {args.device}, {precision}")
    name = NAME + ("_gpu" if on_gpu else "") + ("_bfloat16" if args.bfloat16 else "")
    report_times(name, GOAL, slow, fast, equal, batch=args.batch, **parts, **gpu)


def fits(args: argparse.Namespace) -> bool:
    """Compare; whether the GPU's memory was enough for the batch, or for the smallest."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), args)
    except torch.OutOfMemoryError:
        if args.batch < 4:
            raise
        return False
    return True


def main() -> None:
    """Measure, or say that there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true", help="the paper's sizes")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="autocast, in both ways")
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    if not can_run_on(args.device, NAME):
        return
    while not fits(args):
        args.batch //= 2
        print(f"out of memory; batch {args.batch}")


if __name__ == "__main__":
    main()
