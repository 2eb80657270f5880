"""How long a training takes to have a batch that its data workers have made already.

Six crops of 1024 x 1024 with 20 masks each, two workers. Naive is a plain loader of MMDetection's
bitmaps, whose pixels are read from the workers' pipe; ours come as bits, by shared memory, and
become pixels where a batch's truth is put together. That is timed with both, too.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from harness import report_times
from made_instances import made_scene
from torch.utils.data import DataLoader, Dataset

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.registry import TRANSFORMS  # noqa: E402
from mmengine.dataset import pseudo_collate  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

from s4m_pipeline.models.mask2former.batch_truth import BatchTruth  # noqa: E402
from s4m_pipeline.training_data import datasets as datasets  # noqa: E402  # registers transforms
from s4m_pipeline.training_data import transforms as transforms  # noqa: E402  # registers transforms
from s4m_pipeline.training_data.instance_dataset import instance_info  # noqa: E402
from s4m_pipeline.training_data.packed_masks import collate  # noqa: E402
from s4m_pipeline.training_data.seeding import seeded  # noqa: E402
from s4m_pipeline.training_data.worker_tensors import send_small_tensors_by_value  # noqa: E402

NAME = "data_time_masks"
GOAL = 10
BATCH, WORKERS, SIDE, MASKS = 6, 2, 1024, 20
FIRST, REPEATS = 2, 4
"""Batches that are not timed, and those that are."""
SETTLING = 1.0
"""Seconds from the last batch's making to when it surely lies ready in the pipe."""
STEPS = (
    dict(type="LoadInstances", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="FilterInstances", min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True, keep_empty=False),
    dict(type="PackInstances"),
)
Collate = Callable[[Sequence[Any]], Any]


class Crops(Dataset[Any]):
    """As many items as are asked for, each a scene flipped by chance."""

    def __init__(self) -> None:
        self._scene = made_scene(SIDE, SIDE, MASKS, 0.005, 1.4, 0)
        with DefaultScope.overwrite_default_scope("mmdet"):
            self._steps = [TRANSFORMS.build(dict(step)) for step in STEPS]

    def __len__(self) -> int:
        return BATCH * (FIRST + REPEATS + 2 * WORKERS)

    def __getitem__(self, place: int) -> Any:
        size = (SIDE, SIDE)
        found = self._scene.instances
        results: Any = {
            "img": self._scene.image,
            "img_shape": size,
            "ori_shape": size,
            "instances": [instance_info(0, one.mask_rle, one.bbox, size) for one in found],
            "gt_instances_ids": np.arange(len(found)),
        }
        with seeded(0, place):
            for step in self._steps:
                results = step(results)
        return results


class Batches:
    """Batches of two workers, which say how many they have made.

    Args:
        crops: What they are made of.
        ours: As the package's training has them, else as MMEngine's.
        device: What they are for.
    """

    def __init__(self, crops: Crops, ours: bool, device: str) -> None:
        self._collate: Collate = collate if ours else pseudo_collate
        self._count, self._taken = multiprocessing.Value("i", 0), 0
        self._ours = ours
        loader = DataLoader(
            crops,
            BATCH,
            num_workers=WORKERS,
            prefetch_factor=1,
            collate_fn=self._counted,
            worker_init_fn=self._begin,
            pin_memory=ours and device.startswith("cuda"),
        )
        self._batches = iter(loader)

    def _begin(self, _worker: int) -> None:
        torch.set_num_threads(1)
        if self._ours:
            send_small_tensors_by_value()

    def _counted(self, items: Sequence[Any]) -> Any:
        batch = self._collate(items)
        with self._count.get_lock():
            self._count.value += 1
        return batch

    def take(self) -> tuple[Any, float]:
        """Take a batch once it is ready; it, and the seconds that taking it took."""
        while self._count.value < self._taken + WORKERS:
            time.sleep(0.01)
        time.sleep(SETTLING)
        start = time.perf_counter()
        batch = next(self._batches)
        self._taken += 1
        return batch, time.perf_counter() - start


def truth_of(batch: Any, device: str) -> tuple[BatchTruth, float]:
    """Put a batch's truth together; it, and the seconds that it took."""
    samples = [sample.to(device) for sample in batch["data_samples"]]
    start = time.perf_counter()
    truth = BatchTruth.of(samples)
    if device != "cpu":
        torch.cuda.synchronize()
    return truth, time.perf_counter() - start


def check(before: Any, after: Any, truths: Sequence[BatchTruth]) -> int:
    """Compare a batch of both ways; how many masks it has."""
    same = all(a.equal(b) for a, b in zip(before["inputs"], after["inputs"], strict=True))
    same &= truths[0].masks.equal(truths[1].masks) and truths[0].labels.equal(truths[1].labels)
    for one, other in zip(before["data_samples"], after["data_samples"], strict=True):
        theirs, ours = one.gt_instances.masks.masks, other.gt_instances.masks.masks
        same &= theirs.dtype == ours.dtype and np.array_equal(theirs, ours)
    if not same:
        raise SystemExit(f"{NAME}: a batch has other images, labels or masks")
    return len(truths[0].masks)


def ready_batches(device: str) -> None:
    """Time both ways in turn and report."""
    crops = Crops()
    ways = [Batches(crops, ours, device) for ours in (False, True)]
    taken: list[list[float]] = [[], []]
    made: list[list[float]] = [[], []]
    masks = 0
    for number in range(FIRST + REPEATS):
        batches, waits = zip(*(way.take() for way in ways), strict=True)
        if number < FIRST:
            continue
        truths, makings = zip(*(truth_of(batch, device) for batch in batches), strict=True)
        masks += check(batches[0], batches[1], truths)
        for place in range(2):
            taken[place].append(waits[place])
            made[place].append(makings[place])
    told = [f"{1e3 * median(times):.0f} ms" for times in made]
    print(f"{NAME}: the truth of a batch on {device}: naive {told[0]}, ours {told[1]}")
    equal = f"{masks} masks identical, as arrays and as truths, with their images and labels"
    report_times(NAME, GOAL, taken[0], taken[1], equal)
