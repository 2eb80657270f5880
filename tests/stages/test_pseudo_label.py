"""Stage ``pseudo-label``: what it asks of the teacher, and when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.stages import pseudo_label
from s4m_pipeline.stages.pseudo_label import PredictionSettings


class Noting:
    """A teacher that finds nothing and notes when it is begun with and waited for."""

    def __init__(self, events: list[tuple[str, int]]) -> None:
        self.events = events
        self.begun = 0

    def begin(self, images, min_score):
        number, self.begun = self.begun, self.begun + 1
        self.events.append(("begun", number))

        def wait():
            self.events.append(("waited", number))
            return [(number, image.shape) for image in images]

        return wait


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_batchs_rows_are_made_while_the_teacher_is_at_the_next(batches: int) -> None:
    events: list[tuple[str, int]] = []
    worker = object.__new__(pseudo_label._Worker)
    worker._teacher = Noting(events)
    worker._task = pseudo_label._Task(Path(), "cpu", {}, PredictionSettings(0, 0.05, 3), 2)
    record = ImageRecord(1, "a.png", Path("a.png"), 4, 6)
    given = [[(record, np.zeros((4, 6 + number, 3), np.uint8))] for number in range(batches)]
    taken = []
    for batch, found in worker._found(given):
        events.append(("rows", found[0][0]))
        assert found == [(found[0][0], batch[0][1].shape)]
        taken.append(found[0][0])
    assert taken == list(range(batches))
    if batches == 3:
        assert events == [
            ("begun", 0),
            ("waited", 0),
            ("begun", 1),
            ("rows", 0),
            ("waited", 1),
            ("begun", 2),
            ("rows", 1),
            ("waited", 2),
            ("rows", 2),
        ]
