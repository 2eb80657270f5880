"""A run with an artifact of every stage of the registry, and which stages read which."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from s4m_pipeline.artifacts.manifest import MANIFEST
from s4m_pipeline.engine.registry import STAGES
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.workflow.pipeline import run_all, stages_of
from tests.workshop import CALIBRATION, Workshop, WorkshopOnce

ALL = os.environ.get("S4M_FAULTS") == "all"
TABLE = os.environ.get("S4M_DAMAGE_TABLE")
SEED = 15
SETTINGS = (
    *CALIBRATION,
    "refine.policy=auto",
    "pseudo_label.score=0.02",
    "student.start=teacher",
    *("student.iterations=6", "student.refresh=3", "student.burn_in=3"),
)
"""With these every stage reads all that it can read: structural targets, a calibration, a start,
and labels that were made anew once."""


def run_of(workshop: Workshop) -> Run:
    return workshop.run(*SETTINGS)


def made_stages(run: Run) -> list[Stage]:
    """The stages that were made, in order."""
    return stages_of(run.config)


def readers_of(run: Run, stage: Stage) -> list[Stage]:
    """The stages that have a stage's artifact among their inputs."""
    return [
        other
        for other in made_stages(run)
        if any(one.title == stage.title for one in other.upstream(run.config).values())
    ]


def files_of(folder: Path) -> list[str]:
    """All files in an artifact's folder, by their paths inside."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in paths)


@pytest.fixture(scope="session")
def everything(calibrated: Workshop, workshop_once: WorkshopOnce) -> Workshop:
    """The workshop with all stages of the registry made, and with an image that was set aside."""

    def make(workshop: Workshop) -> None:
        image = sorted((workshop.folder / "scenes" / "unlabelled").iterdir())[0]
        image.write_bytes(image.read_bytes()[:200])
        run = run_of(workshop)
        run_all(run)
        made = {path.parts[-3] for path in workshop.folder.glob(f"work/*/*/{MANIFEST}")}
        assert made == {*STAGES}

    return workshop_once("everything", calibrated, make)


Pair = TypeVar("Pair")


def chosen(name: str, pairs: Sequence[Pair], few: int, most: int = 1000) -> Sequence[Pair]:
    """A few pairs, the same ones each time; with ``make faults`` all, or ``most`` of them."""
    count = most if ALL else few
    if len(pairs) <= count:
        return pairs
    return random.Random(f"{SEED} {name}").sample(pairs, count)


def note(*line: str | int) -> None:
    """Keep a line for the table of docs/reliability.md."""
    if TABLE:
        with open(TABLE, "a") as stream:
            stream.write(json.dumps(line) + "\n")
