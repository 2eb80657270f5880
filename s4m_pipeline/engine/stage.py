"""What a stage is: a name, inputs, a fingerprint, and work that can be resumed."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from s4m_pipeline.artifacts.manifest import FileEntry, Manifest
from s4m_pipeline.config import RunConfig
from s4m_pipeline.engine.run import Run


@dataclass(slots=True)
class Outcome:
    """What a stage made, for the manifest.

    Attributes:
        files: The files of the artifact.
        counts: Numbers of ``images``, ``instances``, ``quarantined`` and so on.
        metrics: Figures and findings, as JSON values.
    """

    files: list[FileEntry] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What a stage would do, as ``--dry-run`` shows it.

    Attributes:
        images: Images it works over.
        shards: Shards in all, 0 for a stage that has none.
        shards_done: Shards that an unfinished artifact already holds.
        disk_bytes: Forecast of the artifact's size.
        steps: Training iterations, 0 for an inference stage.
        passes: How often networks look at an image.
    """

    images: int = 0
    shards: int = 0
    shards_done: int = 0
    disk_bytes: int = 0
    steps: int = 0
    passes: int = 1


@dataclass(frozen=True)
class Stage(ABC):
    """A step of the pipeline that leaves one artifact.

    A stage is light: it says what it is without NumPy or torch. The code that does its work is in a
    module of its own, which is imported when the stage runs (:mod:`s4m_pipeline.late`). A stage
    refers to others by their names only (:mod:`s4m_pipeline.engine.registry`).

    Attributes:
        round: Which round of the run it belongs to, from 1. In round 1 the teacher labels and a
            student learns; in round r + 1 the student of round r (its averaged weights) labels, and
            another student learns. A round is no setting: it changes a fingerprint only through
            the inputs.
        refresh: Which refresh of its round it belongs to, where the student's training is cut by
            refreshes; 0 for what belongs to none. It is no setting either.
    """

    name: ClassVar[str]
    """Folder of its artifacts below the work folder, and its row in the registry."""

    repaired_by_shard: ClassVar[bool] = False
    """Whether a damaged artifact's whole shards are kept when it is made again."""

    round: int = field(default=1, kw_only=True)
    refresh: int = field(default=0, kw_only=True)

    @classmethod
    def of_round(cls, config: RunConfig, number: int) -> Sequence[Stage]:
        """The stages of this class that a run needs in a round, in order."""
        del config
        return [cls(round=number)]

    @property
    def title(self) -> str:
        """Its name in messages and tables, which no other stage of the run has."""
        number = "" if self.round == 1 else f" round-{self.round}"
        return f"{self.name}{number}" + (f" refresh-{self.refresh}" if self.refresh else "")

    @property
    def pointer(self) -> str:
        """What follows ``latest-`` in the name of the file that points at its last artifact."""
        return re.sub(r"[^\w.-]+", "-", self.title.removeprefix(self.name)).strip("-")

    @property
    def command(self) -> str:
        """What follows ``s4m`` on the command line that makes it (``run`` for later rounds)."""
        if self.round > 1:
            return f"run --rounds {self.round}"
        return f"{self.name} --refresh {self.refresh}" if self.refresh else self.name

    @property
    def made_alone(self) -> bool:
        """Whether ``command`` makes this artifact and no other, so that it can be forced."""
        return self.round == 1

    @abstractmethod
    def settings(self, config: RunConfig) -> dict[str, Any]:
        """The settings that can change the result, as JSON values."""

    @abstractmethod
    def sources(self, run: Run) -> dict[str, str]:
        """Digests of the input files, by name."""

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The stages whose artifacts it reads, by input name."""
        del config
        return {}

    def inputs(self, run: Run) -> dict[str, str]:
        """Digests of input files and fingerprints of input artifacts, by name.

        How pictures are read is among them where it is not as usual.
        """
        upstream = self.upstream(run.config).items()
        return {
            **self.sources(run),
            **run.images.reading_inputs(),
            **{name: run.fingerprint(stage) for name, stage in upstream},
        }

    def check(self, run: Run) -> None:
        """Refuse wrong settings and unusable data before any work (UsageError)."""
        del run

    def device(self, run: Run) -> str:
        """The device that it computes on (UsageError where there is no such device)."""
        return run.device

    @abstractmethod
    def plan(self, run: Run) -> Plan:
        """What it would do."""

    def progress(self, run: Run) -> str:
        """How far an unfinished artifact is, in words; asked at any time, so it is quick."""
        del run
        return ""

    @abstractmethod
    def make(self, run: Run, folder: Path) -> Outcome:
        """Do the work in ``folder``, and resume from what an earlier try left there."""

    def rewrite(self, run: Run, folder: Path, path: str) -> bool:
        """Write a damaged file of its finished artifact anew, if only people look at that.

        Args:
            run: The run.
            folder: The artifact's folder.
            path: The file's path inside.

        Returns:
            Whether it could be made of what is there.
        """
        del run, folder, path
        return False


def label_categories(categories: Sequence[Any]) -> list[dict[str, Any]]:
    """Categories as the tables and checkpoints write them, in label order."""
    return [{"id": category.id, "name": category.name} for category in categories]


def manifest_of(
    stage: Stage,
    fingerprint: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    outcome: Outcome,
) -> Manifest:
    """Put together the manifest of a finished artifact."""
    return Manifest(
        stage=stage.name,
        fingerprint=fingerprint,
        config=dict(config),
        inputs=dict(inputs),
        files=outcome.files,
        counts=outcome.counts,
        metrics=outcome.metrics,
    )
