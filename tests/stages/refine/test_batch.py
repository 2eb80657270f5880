"""A batch on its way through ``refine``: what is asked for before the host waits for anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.execution.ahead import one_ahead
from s4m_pipeline.refinement.policies import ConflictRules, RefinePolicy
from s4m_pipeline.segmenter.structure import draw_query_points, structure_target
from s4m_pipeline.stages.refine import batch as refine_batch
from s4m_pipeline.stages.refine.batch import BegunBatch, begin_batch
from s4m_pipeline.stages.refine.labels import ImagePredictions
from s4m_pipeline.stages.refine.refine_task import RefineTask
from s4m_pipeline.stages.segmenter_settings import SegmenterSettings
from s4m_pipeline.stages.structure_settings import TargetSettings
from tests.segmenter.fakes import ToldSegmenter, encode_mask, teacher_instance
from tests.stages.noting import Event, NotingSegmenter, note_copies

HEIGHT, WIDTH, GRID = 40, 60, 8


def _mask(number: int) -> np.ndarray:
    """Image N's mask as refinement makes it."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5 : 8 + number, 10:20] = True
    return mask


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What happens, in order: the segmenter's work, masks made on the host, maps taken."""
    noted = note_copies(monkeypatch)

    class Asked:
        def __init__(self, numbers: Sequence[int]) -> None:
            self.numbers = numbers

        def masks(self) -> list[list[Any]]:
            noted.extend(("masks", number) for number in self.numbers)
            return [[SimpleNamespace(mask_rle=encode_mask(_mask(n)))] for n in self.numbers]

    def ask(segmenter: Any, encoded: Any, instances: Sequence[Any], plan: Any) -> Asked:
        return Asked([int(value) for value in encoded.embeddings.image[:, 0, 0, 0]])

    def decided(task: Any, image: ImagePredictions, masks: Any = None) -> dict[str, Any]:
        return {"refined": [{"image_id": image.record.id}]}

    monkeypatch.setattr(refine_batch, "ask", ask)
    monkeypatch.setattr(refine_batch, "decided_rows", decided)
    return noted


def _task(policy: bool = True, targets: bool = True) -> RefineTask:
    return RefineTask(
        predictions=Path(),
        records={},
        segmenter=SegmenterSettings("told", None, None, 16, "cpu"),
        policy=RefinePolicy("points", 3, "single", 0.0) if policy else None,
        rules=ConflictRules(),
        scores={},
        min_score=0.5,
        min_area=0,
        targets=TargetSettings(6, GRID, 3) if targets else None,
    )


def _batch(numbers: Sequence[int]) -> list[tuple[ImagePredictions, np.ndarray]]:
    out = []
    for number in numbers:
        record = ImageRecord(number, f"{number}.png", Path(), HEIGHT, WIDTH)
        teachers = np.zeros((HEIGHT, WIDTH), bool)
        teachers[30:, 30:] = True
        rows = [{"score": 0.9, "mask_rle": encode_mask(teachers)}]
        image = np.full((HEIGHT, WIDTH, 3), number, np.uint8)
        instances = [teacher_instance(HEIGHT, WIDTH, (5, 7), 2)]
        out.append((ImagePredictions(record, rows, instances), image))
    return out


def _named(what: str, batch: Sequence[int]) -> list[Event]:
    return [(what, number) for number in batch]


def test_no_map_of_a_batch_is_taken_before_all_are_asked_for(events: list[Event]) -> None:
    batch = begin_batch(_task(), NotingSegmenter(events), _batch([0, 1, 2]))
    assert events == _named("encode", [0, 1, 2])
    tables = list(batch.decided().tables())
    steps = [_named(what, [0, 1, 2]) for what in ("encode", "masks", "maps", "taken")]
    assert events == [event for step in steps for event in step]
    assert [rows["refined"][0]["image_id"] for rows in tables] == [0, 1, 2]
    assert [rows["structure"][0]["image_id"] for rows in tables] == [0, 1, 2]


def test_the_next_batch_is_given_between_asking_for_maps_and_taking_them(
    events: list[Event],
) -> None:
    segmenter, task = NotingSegmenter(events), _task()
    batches = ([0, 1], [2, 3], [4, 5])
    begun = one_ahead(lambda numbers: begin_batch(task, segmenter, _batch(numbers)), batches)
    decided_batches = one_ahead(BegunBatch.decided, begun)
    tables = [rows for batch in decided_batches for rows in batch.tables()]
    assert [rows["structure"][0]["image_id"] for rows in tables] == list(range(6))
    first, second, third = batches
    decided = {n: _named("masks", some) + _named("maps", some) for n, some in enumerate(batches)}
    assert events == [
        *_named("encode", first),
        *_named("encode", second),
        *decided[0],
        *_named("encode", third),
        *decided[1],
        *_named("taken", first),
        *decided[2],
        *_named("taken", second),
        *_named("taken", third),
    ]


@pytest.mark.parametrize("policy", [True, False])
def test_maps_are_of_points_on_the_masks_that_are_kept(events: list[Event], policy: bool) -> None:
    batch = _batch([0, 1, 2])
    tables = begin_batch(_task(policy), NotingSegmenter(events), batch).decided().tables()
    segmenter = ToldSegmenter([], [])
    embeddings = segmenter.encode([image for _, image in batch])
    for number, rows in enumerate(tables):
        union = _mask(number)
        if not policy:  # the teacher's
            union = np.zeros((HEIGHT, WIDTH), bool)
            union[30:, 30:] = True
        points = draw_query_points(union, 6, rng(3, "structure", number))
        expected = structure_target(segmenter, embeddings, number, points, GRID)
        (row,) = rows["structure"]
        assert np.array_equal(row["points"], points.reshape(-1))
        assert row["similarity"] == expected.similarity.tobytes()
        assert np.array_equal(row["scale"], expected.scale)
        assert np.array_equal(row["offset"], expected.offset)


def test_without_targets_no_map_is_asked_for(events: list[Event]) -> None:
    batch = begin_batch(_task(targets=False), NotingSegmenter(events), _batch([0, 1]))
    assert [list(rows) for rows in batch.decided().tables()] == [["refined"], ["refined"]]
    assert events == _named("encode", [0, 1]) + _named("masks", [0, 1])
