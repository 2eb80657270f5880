"""What a stage is: a name, inputs, a fingerprint, and work that can be resumed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from s4m_pipeline.artifacts.manifest import FileEntry, Manifest
from s4m_pipeline.config import RunConfig
from s4m_pipeline.engine.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class Outcome:
    """What a stage made, for the manifest."""

    files: list[FileEntry] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What a stage would do: shown by ``--dry-run``.

    Attributes:
        images: Images it works over.
        shards: Shards in all, 0 for a stage that has none.
        shards_done: Shards that an unfinished artifact already holds.
        disk_bytes: Forecast of the artifact's size.
        steps: Training iterations, 0 for an inference stage.
    """

    images: int = 0
    shards: int = 0
    shards_done: int = 0
    disk_bytes: int = 0
    steps: int = 0


class Stage(ABC):
    """A step of the pipeline that leaves one artifact."""

    name: ClassVar[str]
    """Folder of its artifacts below the work folder."""

    kind: str = ""
    """Tells apart stages of one name within a run."""

    @property
    def command(self) -> str:
        """What follows ``s4m`` on the command line that makes it."""
        return self.name

    @property
    def made_alone(self) -> bool:
        """Whether ``command`` makes this artifact and no other, so that it can be forced."""
        return True

    @property
    def key(self) -> str:
        """Name and kind."""
        return f"{self.name} {self.kind}".strip()

    @property
    def title(self) -> str:
        """What it is called in messages and tables."""
        return self.key

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
        """Digests of input files and fingerprints of input artifacts, by name."""
        marks = {name: run.fingerprint(s) for name, s in self.upstream(run.config).items()}
        return {**self.sources(run), **marks}

    def check(self, run: Run) -> None:
        """Refuse wrong settings and unusable data before any work (UsageError)."""
        del run

    def device(self, run: Run) -> str:
        """The device that it computes on (UsageError where that is not there)."""
        return run.device

    @abstractmethod
    def plan(self, run: Run) -> Plan:
        """What it would do."""

    @abstractmethod
    def make(self, run: Run, folder: Path) -> Outcome:
        """Do the work in ``folder``, going on from what an earlier try left there."""


def label_categories(categories: Sequence[Any]) -> list[dict[str, Any]]:
    """Categories as the tables and checkpoints write them, in label order."""
    return [{"id": category.id, "name": category.name} for category in categories]


def manifest_of(
    stage: Stage, mark: str, config: Mapping[str, Any], inputs: Mapping[str, str], made: Outcome
) -> Manifest:
    """Put together the manifest of a finished artifact."""
    return Manifest(
        stage=stage.name,
        fingerprint=mark,
        config=dict(config),
        inputs=dict(inputs),
        files=made.files,
        counts=made.counts,
        metrics=made.metrics,
    )
