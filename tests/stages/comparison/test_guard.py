"""Which labels of a refresh are taken, and the file that says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.stages.comparison.compare import fault
from s4m_pipeline.stages.comparison.decision import (
    DECISION,
    Taken,
    read_decision,
    write_decision,
)


@pytest.mark.parametrize(
    ("before", "now", "word"),
    [
        (Taken(0, 100, 0.4), Taken(1, 100, 0.5), ""),
        (Taken(0, 100, 0.4), Taken(1, 100, 0.4), ""),
        (Taken(0, 100, 0.4), Taken(1, 500, 0.399), "label quality 0.400 -> 0.399"),
        (Taken(0, 100, 0.4), Taken(1, 50, 0.5), ""),
        (Taken(0, 101, 0.4), Taken(1, 50, 0.9), "they are 50, less than half of the 101 before"),
        (Taken(0, 100, None), Taken(1, 50, None), ""),
        (Taken(0, 100, None), Taken(1, 49, None), "less than half"),
        (Taken(0, 1, None), Taken(1, 0, None), "less than half"),
        (Taken(0, 0, 0.0), Taken(1, 3, 0.0), ""),
    ],
)
def test_worse_and_vanishing_labels_are_not_taken(before: Taken, now: Taken, word: str) -> None:
    why = fault(before, now)
    assert bool(why) == bool(word)
    assert word in why


@pytest.mark.parametrize("taken", [Taken(3, 17, 0.25), Taken(0, 0, None)])
def test_a_decision_is_read_as_it_was_written(tmp_path: Path, taken: Taken) -> None:
    assert write_decision(tmp_path, taken) == tmp_path / DECISION
    assert read_decision(tmp_path) == taken


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"labels": -1, "count": 2, "quality": null}', '{"labels": "x"}',
             '{"labels": 1, "count": 2, "quality": "high"}']
)  # fmt: skip
def test_another_file_is_no_decision(tmp_path: Path, text: str) -> None:
    (tmp_path / DECISION).write_text(text)
    with pytest.raises(ArtifactError, match="no decision about labels"):
        read_decision(tmp_path)
