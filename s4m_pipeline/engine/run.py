"""A run at work: its configuration, its artifacts, its image sets."""

from __future__ import annotations

import shlex
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from s4m_pipeline.artifacts.fingerprint import fingerprint, format_fault
from s4m_pipeline.artifacts.store import Store
from s4m_pipeline.config import RunConfig
from s4m_pipeline.console.reporter import Reporter
from s4m_pipeline.engine.image_sets import ImageSets
from s4m_pipeline.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from s4m_pipeline.engine.stage import Stage


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
                version = self.store.requested(stage.name, latest).get("format_version")
                if version is not None and (fault := format_fault(version)):
                    raise ArtifactError(
                        f"{stage.name} is stale: the last one made, {latest}, is of {fault}."
                        f"\n{command}"
                    )
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
