"""One image's labels at random from the training cache, in images a second over 10000 (row 7).

The cache is made of a refined table of 14336 made labels on 2048 images of 480 x 640, with class
distributions over 80 classes; a label has its class, RLE mask, box, class distribution and
quality. Images are read in a random order, by one process and then by two that share the file.
Every label is compared with the Parquet table's rows. What `RefinedInstances` makes of it, the
dicts that a training's pipeline starts from, is timed, too, and how much memory a process needs
for itself, with the whole cache read.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import report
from made_labels import CATEGORIES, SIZE, made_rows, write_rows

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.data.image_set import Category
from s4m_pipeline.training_data.label_cache import LabelCache, open_labels

IMAGES = 2048
GOAL = 1
WANTED = 10_000
"""Images a second."""
ROUNDS = 7
CLASSES = [Category(int(str(c["id"])), str(c["name"])) for c in CATEGORIES]


def main() -> None:
    """Make the cache, check it, and read it."""
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "labels.arrow"
        write_rows(folder, made_rows(IMAGES, full=True))
        start = time.perf_counter()
        cache = open_labels(folder, CLASSES, path=path)
        made = time.perf_counter() - start
        labels = _check(cache, folder)
        alone = median(_speeds(cache, ROUNDS))
        shared = _in_two(path)
        items = _item_speed(folder, path)
        megabytes = path.stat().st_size / 2**20
    print(f"{labels} labels of {len(cache)} images, {megabytes:.1f} MiB, made in {made:.2f} s")
    print(f"one process {alone:.0f} images/s; as MMDetection's dicts {items:.0f} images/s")
    for speed, private in shared:
        print(f"one of two processes {speed:.0f} images/s, {private:.1f} MiB of its own")
    speeds = [speed for speed, _ in shared]
    report(
        "label_cache",
        alone / WANTED,
        GOAL,
        f"all {labels} labels as in the Parquet table",
        images_a_second=alone,
        two_processes=speeds,
        dicts_a_second=items,
        private_mebibytes=[private for _, private in shared],
    )


def _order(count: int, number: int) -> list[int]:
    order: list[int] = rng(0, "label cache", number).permutation(count).tolist()
    return order


def _speeds(cache: LabelCache, rounds: int) -> list[float]:
    """Images a second, a round over all images each."""
    found = []
    for number in range(rounds):
        order = _order(len(cache), number)
        start = time.perf_counter()
        for place in order:
            cache.read(place)
        found.append(len(order) / (time.perf_counter() - start))
    return found


def _in_two(path: Path) -> list[tuple[float, float]]:
    """Speed and private memory in MiB of each of two processes that read at once."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_reader, args=(path, barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return found


def _reader(path: Path, barrier: Any, results: Any) -> None:
    before = _private()
    cache = LabelCache(path)
    barrier.wait()
    speed = median(_speeds(cache, ROUNDS))
    results.put((speed, (_private() - before) / 2**20))


def _private() -> int:
    """Bytes of memory that this process shares with no other; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty"))


def _item_speed(folder: Path, path: Path) -> float:
    """Images a second of a dataset's ``get_data_info``, which pipelines start from."""
    from s4m_pipeline.models.openmmlab import prepare

    prepare()
    from s4m_pipeline.training_data.datasets import RefinedInstances

    images = [(key, f"{key:012d}.jpg", "unused", *SIZE) for key in range(1, IMAGES + 1)]
    dataset = RefinedInstances(folder, images, CATEGORIES, cache=path)
    order = _order(IMAGES, 0)
    start = time.perf_counter()
    for place in order:
        dataset.get_data_info(place)
    return len(order) / (time.perf_counter() - start)


def _check(cache: LabelCache, folder: Path) -> int:
    """End with a message where cache and table differ; give the number of labels."""
    columns = ["image_id", "category_id", "class_probs", "bbox", "mask_rle", "score", "agreement"]
    expected: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in read_table(folder, "refined", [*columns, "decision"]).to_pylist():
        if row["decision"] != "dropped":
            expected[row["image_id"]].append(row)
    images = dict(cache.images())
    if set(images) != set(expected):
        raise SystemExit("the cache has other images than the table")
    for place, image in enumerate(images):
        found, rows = cache.read(place), expected[image]
        same = (
            [CLASSES[label].id for label in found.labels] == [r["category_id"] for r in rows]
            and found.rles == [r["mask_rle"] for r in rows]
            and found.boxes.tolist() == [r["bbox"] for r in rows]
            and found.quality.tolist() == [r["score"] * r["agreement"] for r in rows]
            and np.array_equal(
                found.class_probs, np.array([r["class_probs"] for r in rows], np.float32)
            )
        )
        if not same:
            raise SystemExit(f"the labels of image {image} differ from the table's rows")
    return sum(map(len, expected.values()))


if __name__ == "__main__":
    main()
