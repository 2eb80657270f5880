"""Images read ahead: what waits decoded is bounded in bytes, and so are batches."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.engine import reading
from s4m_pipeline.engine.reading import in_batches, is_full, load_images
from s4m_pipeline.execution.ahead import WORKING
from s4m_pipeline.execution.base import ShardJob

SIDE = 100
BYTES = SIDE * SIDE * 3


@pytest.fixture
def records() -> list[ImageRecord]:
    return [ImageRecord(n, f"{n}.png", Path(f"{n}.png"), SIDE, SIDE) for n in range(30)]


@pytest.mark.parametrize("images", [1, 4, 8])
def test_what_waits_is_bounded_in_bytes(
    records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    lock, begun, most, taken = threading.Lock(), [0], [0], 0

    def read(path: Path, height: int, width: int, rule: object) -> np.ndarray:
        with lock:
            begun[0] += 1
            most[0] = max(most[0], begun[0] - taken)
        return np.zeros((height, width, 3), np.uint8)

    monkeypatch.setattr(reading, "read_sized_image", read)
    for _ in load_images(records, "refine", [], images * WORKING * BYTES):
        taken += 1
    assert taken == 30
    assert most[0] <= images * WORKING + 1  # one is taken, and not yet counted


def test_batches_of_large_images_are_smaller(records: list[ImageRecord]) -> None:
    images = [(record, np.zeros((SIDE, SIDE, 3), np.uint8)) for record in records]
    sizes = [len(batch) for batch in in_batches(iter(images), 16, 8 * BYTES)]
    assert sizes == [4] * 7 + [2]
    assert [len(batch) for batch in in_batches(iter(images), 16)] == [16, 14]
    scaled: list[tuple[ImageRecord, Any]] = [(record, SimpleNamespace()) for record in records]
    assert not is_full(scaled[:15], 16, 1)


def make_worker(stage: str, task: object, place: Place) -> Any:
    return SimpleNamespace(run=lambda shards, advance: iter(()))


def test_workers_share_the_budget(tmp_path: Path) -> None:
    job = ShardJob("refine", f"{__name__}:make_worker", None, tmp_path, [], 900)
    assert job.make_worker(Place()).decoded_bytes == 900
    assert job.make_worker(Place(1, 3)).decoded_bytes == 300
