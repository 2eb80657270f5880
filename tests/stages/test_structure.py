"""Stage ``structure``: its rows, and what is asked of the segmenter before they are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.artifacts.shards import Shard
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.engine import reading
from s4m_pipeline.segmenter import structure as maps
from s4m_pipeline.stages.segmenter_settings import SegmenterSettings
from s4m_pipeline.stages.structure import StructureTask
from s4m_pipeline.stages.structure_settings import TargetSettings
from s4m_pipeline.stages.structure_worker import StructureWorker
from tests.segmenter.fakes import ToldSegmenter, encode_mask
from tests.stages.noting import Event, NotingSegmenter, note_copies

HEIGHT, WIDTH, GRID = 40, 60, 8


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What happens, in order."""
    return note_copies(monkeypatch)


def _worker(events: list[Event], images: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    worker: Any = object.__new__(StructureWorker)
    worker.stage = "structure"
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:20, 5:25] = True
    worker._segmenter = NotingSegmenter(events)
    worker._segmenter.warnings = ["memory ran out: 2 images a batch"]
    worker._task = StructureTask(
        SegmenterSettings("told", None, None, 2, "cpu"),
        {n: ImageRecord(n, f"{n}.png", Path(f"{n}.png"), HEIGHT, WIDTH) for n in range(images)},
        {n: [encode_mask(mask)] for n in range(0, images, 2)},
        TargetSettings(6, GRID, 3),
    )

    def read(path: Path, height: int, width: int, reading: object) -> np.ndarray:
        return np.full((height, width, 3), int(path.stem), np.uint8)

    worker.batch_size, worker.streams = 2, True
    monkeypatch.setattr(reading, "read_sized_image", read)
    return worker


def test_a_batchs_maps_are_asked_for_with_it_and_taken_when_the_next_is_given(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    advanced: list[int] = []
    worker = _worker(events, 5, monkeypatch)
    result = worker.process(Shard(0, tuple(range(5))), advanced.append)
    events_of = {
        batch: [(what, n) for what in ("encode", "maps") for n in batch]
        for batch in ((0, 1), (2, 3), (4,))
    }
    taken = [[("taken", n) for n in batch] for batch in events_of]
    batches = list(events_of.values())
    assert events == [*batches[0], *batches[1], *taken[0], *batches[2], *taken[1], *taken[2]]
    assert sum(advanced) == 5
    assert result.counts == {"images": 5, "quarantined": 0}
    assert result.warnings == ["memory ran out: 2 images a batch"]


def test_rows_are_those_of_each_image_alone(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = _worker(events, 5, monkeypatch).process(Shard(0, tuple(range(5))), lambda count: None)
    union = np.zeros((HEIGHT, WIDTH), bool)
    union[10:20, 5:25] = True
    for number, row in enumerate(result.rows["structure"]):
        inside = union if number % 2 == 0 else np.zeros_like(union)
        points = maps.draw_query_points(inside, 6, rng(3, "structure", number))
        segmenter = ToldSegmenter([], [])
        embeddings = segmenter.encode([np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 2)
        target = maps.structure_target(segmenter, embeddings, number % 2, points, GRID)
        assert row["image_id"] == number
        assert row["file_name"] == f"{number}.png"
        assert (row["height"], row["width"], row["grid"]) == (HEIGHT, WIDTH, GRID)
        assert np.array_equal(row["points"], points.reshape(-1))
        assert row["similarity"] == target.similarity.tobytes()
        assert np.array_equal(row["scale"], target.scale)
        assert np.array_equal(row["offset"], target.offset)
