"""What a stage is: a name, inputs, a fingerprint, and work that can be resumed."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from s4m_pipeline.artifacts.fingerprint import fingerprint
from s4m_pipeline.artifacts.manifest import FileEntry, Manifest
from s4m_pipeline.artifacts.store import Store
from s4m_pipeline.config import RunConfig
from s4m_pipeline.console.reporter import Reporter
from s4m_pipeline.engine.image_sets import ImageSets
from s4m_pipeline.errors import ArtifactError, UsageError

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


class Run:
    """A run at work: its configuration, artifacts, image sets and reporter."""

    def __init__(
        self,
        config: RunConfig,
        reporter: Reporter | None = None,
        called_with: str = "-c RUN.yaml",
    ) -> None:
        self.config = config
        self.called_with = called_with
        self.store = Store(config.work_dir)
        self.reporter = reporter or Reporter()
        self.images = ImageSets(config.data, self.store.digests)
        self._marks: dict[str, str] = {}

    @cached_property
    def device(self) -> str:
        """The device to work on, ``auto`` resolved."""
        from s4m_pipeline.devices.placement import resolve_device

        return resolve_device(self.config.device)

    def fingerprint(self, stage: Stage) -> str:
        """The fingerprint that this configuration asks of a stage."""
        if stage.key not in self._marks:
            self._marks[stage.key] = fingerprint(
                stage.name, stage.settings(self.config), stage.inputs(self)
            )
        return self._marks[stage.key]

    def folder(self, stage: Stage) -> Path:
        """The folder of the artifact that this configuration asks of a stage."""
        return self.store.folder(stage.name, self.fingerprint(stage))

    def require(self, stage: Stage) -> Path:
        """The folder of a finished input artifact.

        Raises:
            UsageError: It has not been made; the message names the command that makes it.
            ArtifactError: Only one of another configuration is there, or it is damaged.
        """
        mark = self.fingerprint(stage)
        command = f"Make it with: s4m {stage.command} {self.called_with}"
        if not self.store.is_complete(stage.name, mark):
            latest = self.store.latest(stage.name, stage.kind)
            if self.store.is_begun(stage.name, mark):
                raise UsageError(f"{stage.name} is unfinished ({mark}).\n{command}")
            if latest is not None:
                raise ArtifactError(
                    f"{stage.name} is stale: the configuration asks for {mark}, "
                    f"the last one made is {latest}.\n{command}"
                )
            raise UsageError(f"{stage.name} has not been made yet.\n{command}")
        folder = self.folder(stage)
        try:
            files = self.store.manifest(stage.name, mark).files
        except ArtifactError as error:
            fault = str(error).splitlines()[0]
            raise ArtifactError(f"{fault}\n{self.remedy(stage)}") from error
        for entry in files:
            path = folder / entry.path
            if not path.is_file() or path.stat().st_size != entry.bytes:
                raise ArtifactError(
                    f"{path}: missing or not the size that the manifest says.\n{self.remedy(stage)}"
                )
        return folder

    def remedy(self, stage: Stage) -> str:
        """How to make a damaged artifact again, and no other beside it."""
        command = f"s4m {stage.command} {self.called_with}"
        if stage.made_alone:
            return f"Make it again with: {command} --force"
        return f"Remove {shlex.quote(str(self.folder(stage)))}\nand make it again with: {command}"


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
