"""The training cache holds the refined table's rows, and is made again when it must be."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as mask_api

from s4m_pipeline.artifacts.manifest import Manifest, write_manifest
from s4m_pipeline.artifacts.tables import write_table
from s4m_pipeline.data.image_set import Category
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.training_data.label_cache import LabelCache, open_labels
from tests.small_sets import CATEGORIES, rectangle, refined_row

CLASSES = [Category(int(c["id"]), str(c["name"])) for c in CATEGORIES]
TURNED = CLASSES[::-1]
REASONS = ("score 0.40 <= 0.7", "agreement 0.10 < 0.3", "area 3.0 <= 5 cells", "")
CODES = dict(zip(REASONS, ("score", "agreement", "area", ""), strict=True))
SHARDS = 3


def write_shard(folder: Path, shard: int, rows: list[dict[str, Any]]) -> None:
    write_table(folder / f"refined/{shard:05d}.parquet", "refined", rows, CATEGORIES)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """Three shards of random rows; a few have an empty mask, no distribution or no label at all."""
    generator = np.random.default_rng(4)
    folder = tmp_path / "refine"
    for shard in range(SHARDS):
        rows = []
        for image in range(10 * shard, 10 * shard + 7):
            size = (int(generator.integers(20, 40)), int(generator.integers(20, 40)))
            for place in range(int(generator.integers(0, 6))):
                pair = [
                    rectangle(*size, *generator.integers(0, 12, 2), *generator.integers(0, 9, 2))
                    for _ in range(2)
                ]
                decision = str(generator.choice(["refined", "kept", "dropped"]))
                score, agreement = float(generator.random()), float(generator.random())
                reason = str(generator.choice(REASONS)) if decision == "dropped" else ""
                other: dict[str, Any] = {
                    "score": score,
                    "agreement": agreement,
                    "reason_code": CODES[reason],
                    "reason": reason,
                    "instance_id": place,
                }
                probs = [] if generator.random() < 0.1 else [float(p) for p in generator.random(2)]
                name, label = f"{image}.png", int(generator.choice([1, 3]))
                rows.append(
                    refined_row(
                        image, name, size, label, probs, (pair[0], pair[1]), decision, **other
                    )
                )
        write_shard(folder, shard, rows)
    return folder


def expected_rows(
    folder: Path, classes: list[Category], ignore_score: float | None
) -> dict[int, list[dict[str, Any]]]:
    """The labels by image, row by row from the Parquet files."""
    by_image = defaultdict(list)
    for path in sorted((folder / "refined").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            doubt = (
                ignore_score is not None
                and row["decision"] == "dropped"
                and (
                    (row["reason_code"] == "score" and row["score"] >= ignore_score)
                    or row["reason_code"] == "agreement"
                )
            )
            if not doubt and row["decision"] == "dropped":
                continue
            size = [row["height"], row["width"]]
            mask = mask_api.decode({"size": size, "counts": row["mask_rle"]})
            if doubt:
                mask |= mask_api.decode({"size": size, "counts": row["teacher_mask_rle"]})
            if not mask.any():
                continue
            by_id = dict(zip([c["id"] for c in CATEGORIES], row["class_probs"], strict=False))
            by_image[row["image_id"]].append(
                {
                    "label": [c.id for c in classes].index(row["category_id"]),
                    "mask": mask,
                    "rle": None if doubt else row["mask_rle"],
                    "probs": [by_id[c.id] for c in classes] if by_id else None,
                    "quality": row["score"] * row["agreement"],
                    "ignored": doubt,
                }
            )
    return by_image


def check_equal(cache: LabelCache, folder: Path, classes: list[Category], ignore: Any) -> int:
    expected = expected_rows(folder, classes, ignore)
    images = dict(cache.images())
    assert sorted(images) == sorted(expected)
    assert len(cache) == len(images)
    assert all(name == f"{image}.png" for image, name in images.items())
    for place, image in enumerate(images):
        labels, rows = cache.read(place), expected[image]
        assert labels.labels.tolist() == [row["label"] for row in rows]
        assert labels.quality.tolist() == [row["quality"] for row in rows], "to the last bit"
        assert labels.ignored.tolist() == [row["ignored"] for row in rows]
        for rle, box, row in zip(labels.rles, labels.boxes.tolist(), rows, strict=True):
            assert row["rle"] in (None, rle)
            coded = {"size": list(row["mask"].shape), "counts": rle}
            assert np.array_equal(mask_api.decode(coded), row["mask"])
            assert box == mask_api.toBbox(coded).tolist()
        if any(row["probs"] is None for row in rows):
            assert labels.class_probs is None
        else:
            assert labels.class_probs is not None
            assert labels.class_probs.dtype == np.float32
            assert labels.class_probs.tolist() == [row["probs"] for row in rows]
    return sum(map(len, expected.values()))


@pytest.mark.parametrize("classes", [CLASSES, TURNED])
@pytest.mark.parametrize("ignore", [None, 0.5, 0.0])
@pytest.mark.parametrize("in_file", [True, False])
def test_it_holds_the_tables_rows(
    artifact: Path, tmp_path: Path, classes: list[Category], ignore: float | None, in_file: bool
) -> None:
    path = tmp_path / "work/labels.arrow" if in_file else None
    cache = open_labels(artifact, classes, ignore, path)
    assert check_equal(cache, artifact, classes, ignore) > 15
    again = open_labels(artifact, classes, ignore, path)
    check_equal(again, artifact, classes, ignore)
    for place in (0, len(cache) - 1):
        first = cache.read(place)
        first.quality[:] = -1
        first.boxes[:] = -1
        assert (cache.read(place).quality >= 0).all(), "what is read is the reader's own"


def test_it_is_made_again_when_missing_damaged_or_of_something_else(
    artifact: Path, tmp_path: Path
) -> None:
    path = tmp_path / "labels.arrow"

    def made() -> tuple[int, int]:
        open_labels(artifact, CLASSES, None, path)
        return path.stat().st_ino, path.stat().st_mtime_ns

    first = made()
    assert made() == first, "the same artifact's is taken as it is"
    for damage in (b"", b"ARROW1 and no more", path.read_bytes()[:-100]):
        path.write_bytes(damage)
        check_equal(open_labels(artifact, CLASSES, None, path), artifact, CLASSES, None)
    before = made()
    check_equal(open_labels(artifact, TURNED, None, path), artifact, TURNED, None)
    check_equal(open_labels(artifact, CLASSES, 0.5, path), artifact, CLASSES, 0.5)
    check_equal(open_labels(artifact, CLASSES, 0.6, path), artifact, CLASSES, 0.6)
    assert made() != before
    before = made()
    mask = rectangle(30, 30, 2, 2, 9, 9)
    row = refined_row(20, "20.png", (30, 30), 1, [0.5, 0.5], (mask, mask))
    write_shard(artifact, SHARDS - 1, [row])
    check_equal(open_labels(artifact, CLASSES, None, path), artifact, CLASSES, None)
    before = made()
    for content in ("a", "b"):
        write_manifest(artifact, Manifest("refine", content, {}, {}))
        assert made() != before, "another fingerprint"
        before = made()
    assert made() == before
    assert not list(tmp_path.glob(".labels*")), "nothing half-written is left"


def read_all(path: str, start: Any, results: Any) -> None:
    artifact = Path(path)
    start.wait()
    cache = open_labels(artifact, CLASSES, 0.5, artifact.parent / "labels.arrow")
    results.put([cache.read(place).quality.sum() for place in range(len(cache))])


def test_processes_that_make_it_at_once_see_the_same(artifact: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    workers = [
        context.Process(target=read_all, args=(str(artifact), start, results)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    start.set()
    seen = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    cache = open_labels(artifact, CLASSES, 0.5, artifact.parent / "labels.arrow")
    assert all(s == [cache.read(k).quality.sum() for k in range(len(cache))] for s in seen)
    assert not list(artifact.parent.glob(".labels*"))


@pytest.mark.parametrize("in_file", [True, False])
def test_a_copy_in_another_process_opens_the_file_there(
    artifact: Path, tmp_path: Path, in_file: bool
) -> None:
    path = tmp_path / "labels.arrow" if in_file else None
    cache = open_labels(artifact, CLASSES, None, path)
    sent = pickle.dumps(cache)
    assert not in_file or len(sent) < 1000, "the file's name, not its labels"
    check_equal(pickle.loads(sent), artifact, CLASSES, None)


def test_an_image_of_many_labels(tmp_path: Path) -> None:
    rows = []
    for place in range(600):
        mask = rectangle(40, 50, place % 45, place % 35, 4, 3)
        rows.append(refined_row(7, "7.png", (40, 50), 1, [0.5, 0.5], (mask, mask)))
    write_shard(tmp_path, 0, rows)
    assert check_equal(open_labels(tmp_path, CLASSES), tmp_path, CLASSES, None) == 600


def test_an_artifact_without_rows_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for folder in ("none", "empty"):
        if folder == "empty":
            write_shard(tmp_path / folder, 0, [])
        cache = open_labels(tmp_path / folder, CLASSES, 0.5, tmp_path / f"{folder}.arrow")
        assert (len(cache), list(cache.images())) == (0, [])


def test_what_cannot_be_used_is_refused(artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.arrow"
    with pytest.raises(UsageError, match="different categories"):
        open_labels(artifact, [Category(1, "cat")], None, path)
    mask = rectangle(30, 30, 2, 2, 9, 9)
    row = refined_row(80, "80.png", (30, 30), 1, [0.5, 0.5], (mask, mask))
    for rows, message in (
        ([{**row, "image_id": 90, "class_probs": [0.2]}], "not of 2 classes"),
        ([row], "another file has rows of the same images"),
    ):
        write_shard(artifact, 8, [row])
        write_shard(artifact, 9, rows)
        with pytest.raises(ArtifactError, match=message):
            open_labels(artifact, CLASSES, None, path)
    (artifact / "refined/00009.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(ArtifactError, match="00009"):
        open_labels(artifact, CLASSES, None, path)
    assert not list(tmp_path.glob("*.arrow")) + list(tmp_path.glob(".*partial"))
    (tmp_path / "other.arrow").write_text(json.dumps({}))
    with pytest.raises(ArtifactError, match="no label cache"):
        LabelCache(tmp_path / "other.arrow")
