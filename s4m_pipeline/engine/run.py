"""A run at work: its configuration, its artifacts, its image sets."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from s4m_pipeline.artifacts import fingerprint as digests
from s4m_pipeline.artifacts.manifest import Manifest
from s4m_pipeline.artifacts.store import Store
from s4m_pipeline.config import RunConfig
from s4m_pipeline.console.reporter import Reporter
from s4m_pipeline.devices import placement
from s4m_pipeline.engine.image_sets import ImageSets
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.wording import escaped


class StageLike(Protocol):
    """The part of `s4m_pipeline.engine.stage.Stage` that a run needs."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def pointer(self) -> str: ...  # noqa: D102
    @property
    def command(self) -> str: ...  # noqa: D102
    @property
    def made_alone(self) -> bool: ...  # noqa: D102

    def settings(self, config: RunConfig) -> dict[str, Any]: ...  # noqa: D102
    def inputs(self, run: Run) -> dict[str, str]: ...  # noqa: D102
    def upstream(self, config: RunConfig) -> Mapping[str, StageLike]: ...  # noqa: D102


def _check_work_dir(work_dir: Path) -> None:
    """Refuse a work folder in which nothing can be written (UsageError)."""
    shown = escaped(str(work_dir))
    if work_dir.exists() and not work_dir.is_dir():
        raise UsageError(f"work_dir: {shown} is a file, not a folder")
    if work_dir.is_symlink() and not work_dir.exists():
        raise UsageError(f"work_dir: {shown} is a link to what is not there (no such folder)")
    if shown != str(work_dir):
        raise UsageError(
            f"work_dir: {shown}: not UTF-8, so that Parquet cannot write tables there.\n"
            "Give another work_dir; the images may stay where they are."
        )


class Run:
    """A run at work: its configuration, artifacts, image sets and reporter.

    Args:
        config: The run's settings.
        reporter: Where messages and progress go.
        called_with: The options of the command line, for the commands that messages name.
        called_as: The command that was called, where it makes one stage after the other: ``run``
            with its rounds. Advice then names it, so that what it changes is gone on with.
    """

    def __init__(
        self,
        config: RunConfig,
        reporter: Reporter | None = None,
        called_with: str = "-c RUN.yaml",
        called_as: str = "",
    ) -> None:
        self.config = config
        self.called_with, self.called_as = called_with, called_as
        _check_work_dir(config.work_dir)
        self.reporter = reporter or Reporter()
        self.store = Store(config.work_dir, self.reporter.progress)
        self.images = ImageSets(config.data, self.store.facts, self.reporter.warn_once)
        self._fingerprints: dict[str, str] = {}

    def again(self) -> Run:
        """This run over the same images, without what it knows of files and artifacts."""
        run = Run(self.config, self.reporter, self.called_with, self.called_as)
        run.images = self.images.again()
        return run

    @cached_property
    def device(self) -> str:
        """The device to work on; ``auto`` is resolved (UsageError for one that is not there)."""
        return placement.resolve_device(self.config.device)

    def fingerprint(self, stage: StageLike) -> str:
        """The fingerprint of the artifact that this configuration asks of a stage.

        A training with many refreshes has a long line of inputs, so the stack is of our own.
        """
        known, pending = self._fingerprints, [stage]
        while pending:
            first = pending[-1]
            inputs = () if first.title in known else first.upstream(self.config).values()
            if missing := [one for one in inputs if one.title not in known]:
                pending += missing
                continue
            pending.pop()
            if first.title not in known:
                known[first.title] = digests.fingerprint(
                    first.name, first.settings(self.config), first.inputs(self)
                )
        return known[stage.title]

    def folder(self, stage: StageLike) -> Path:
        """The folder of the artifact that this configuration asks of a stage."""
        return self.store.folder(stage.name, self.fingerprint(stage))

    def require(self, stage: StageLike, tables: Collection[str] = ()) -> Path:
        """The folder of a finished input artifact, of which all that stages read is whole.

        Args:
            stage: The stage that made it.
            tables: The tables that are read, where no other file of it is; the others are not
                looked at, which for structural maps would take longer than the work.

        Raises:
            UsageError: It has not been made; the message names the command that makes it.
            ArtifactError: Only one of another configuration is there, or it is damaged.
        """
        return self._finished(stage, thorough=True, tables=tables)

    def glance_at(self, stage: StageLike) -> Path:
        """As `require`, but only sizes are compared, so that it answers at once."""
        return self._finished(stage, thorough=False)

    def _finished(self, stage: StageLike, thorough: bool, tables: Collection[str] = ()) -> Path:
        fingerprint = self.fingerprint(stage)
        if not self.store.is_complete(stage.name, fingerprint):
            raise self._missing(stage, fingerprint)
        folder = self.folder(stage)
        self.manifest(stage)
        if fault := self.store.fault(stage.name, fingerprint, thorough, tables):
            raise ArtifactError(f"{folder}/{fault}.\n{self.remedy(stage)}")
        return folder

    def manifest(self, stage: StageLike) -> Manifest:
        """A finished artifact's manifest.

        Raises:
            ArtifactError: It cannot be read; the message names the command that makes it again.
        """
        try:
            return self.store.manifest(stage.name, self.fingerprint(stage))
        except ArtifactError as error:
            fault = str(error).splitlines()[0]
            raise ArtifactError(f"{fault}\n{self.remedy(stage)}") from error

    def _missing(self, stage: StageLike, fingerprint: str) -> UsageError | ArtifactError:
        """Why a finished artifact is not there, and the command that makes it."""
        command = f"Make it with: {self.command_for(stage)}"
        if self.store.is_begun(stage.name, fingerprint):
            return UsageError(f"{stage.title} is unfinished ({fingerprint}).\n{command}")
        latest = self.store.latest_of(stage.name, stage.pointer)
        if latest is not None:
            version = self.store.requested(stage.name, latest).get("format_version")
            if version is not None and (fault := digests.format_fault(version)):
                return ArtifactError(
                    f"{stage.title} is stale: the last one made, {latest}, is of {fault}.\n"
                    f"{command}"
                )
            return ArtifactError(
                f"{stage.title} is stale: the configuration asks for {fingerprint}, "
                f"the last one made is {latest}.\n{command}"
            )
        return UsageError(f"{stage.title} has not been made yet.\n{command}")

    def command_for(self, stage: StageLike) -> str:
        """The command line that makes a stage's artifact."""
        return f"s4m {stage.command} {self.called_with}"

    def remedy(self, stage: StageLike) -> str:
        """How to make a damaged artifact again without making others again."""
        command = self.command_for(stage)
        if stage.made_alone:
            return f"Make it again with: {command} --force"
        aside = f"s4m artifacts set-aside {shlex.quote(str(self.folder(stage)))}"
        return f"Set it aside with: {aside}\nand make it again with: {command}"
