"""Where artifacts live: ``WORK_DIR/STAGE/FINGERPRINT/`` and ``WORK_DIR/STAGE/latest``."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.digest_beside import digest_file
from s4m_pipeline.artifacts.durable import make_folder, sync_files
from s4m_pipeline.artifacts.file_facts import FileFacts, FileState, Progress, state_of
from s4m_pipeline.artifacts.fingerprint import (
    FORMAT_VERSION,
    content_digest,
    format_fault,
    is_fingerprint,
)
from s4m_pipeline.artifacts.locks import held, is_held
from s4m_pipeline.artifacts.manifest import (
    MANIFEST,
    Manifest,
    SeenFiles,
    check_listed,
    list_fault,
    read_manifest,
    size_fault,
    write_manifest,
)
from s4m_pipeline.artifacts.plain_files import read_plain_text, refuse_links
from s4m_pipeline.artifacts.sealed import read_sealed, write_sealed, write_text
from s4m_pipeline.errors import ArtifactError, S4MError

REQUEST = "request.json"
"""What an unfinished artifact is to become: stage, config and inputs, written first."""
_REQUESTED = ("stage", "fingerprint", "config", "inputs", "input_contents")
REPLACED = ".replaced"
LATEST = "latest"


class Store:
    """The artifacts of one work folder.

    Args:
        work_dir: The run's work folder; made when the first artifact is begun.
        progress: Shows how far it is where digests of many files are taken.

    Attributes:
        facts: What is known of the run's own files: images, annotations, weights.
    """

    def __init__(self, work_dir: Path, progress: Progress | None = None) -> None:
        self.work_dir = work_dir
        self.facts = FileFacts(work_dir / ".digests.json", progress)
        self._manifests: dict[Path, tuple[FileState, Manifest]] = {}
        self._seen = SeenFiles()

    def folder(self, stage: str, fingerprint: str) -> Path:
        """The folder of one artifact, whether it is there or not."""
        return self.work_dir / stage / fingerprint

    def is_complete(self, stage: str, fingerprint: str) -> bool:
        """Whether the artifact is there and finished."""
        return (self.folder(stage, fingerprint) / MANIFEST).is_file()

    def is_begun(self, stage: str, fingerprint: str) -> bool:
        """Whether the artifact is there and unfinished."""
        folder = self.folder(stage, fingerprint)
        return folder.is_dir() and not (folder / MANIFEST).is_file()

    def manifest(self, stage: str, fingerprint: str) -> Manifest:
        """A finished artifact's manifest, read once for a file's state; not to be changed.

        Raises:
            ArtifactError: It cannot be read.
        """
        folder = self.folder(stage, fingerprint)
        try:
            state = state_of(folder / MANIFEST)
        except OSError:
            return read_manifest(folder)  # which says what is missing
        known = self._manifests.get(folder)
        if known is None or known[0] != state:
            known = state, read_manifest(folder)
            self._manifests[folder] = known
        if (known[1].stage, known[1].fingerprint) != (stage, fingerprint):
            raise ArtifactError(
                f"{folder / MANIFEST}: damaged, or copied from another place: "
                f"it is of {known[1].stage} {known[1].fingerprint}"
            )
        return known[1]

    def fault(
        self, stage: str, fingerprint: str, thorough: bool = True, tables: Collection[str] = ()
    ) -> str:
        """What is wrong with a finished artifact as an input; empty for nothing.

        Args:
            stage: The stage's name.
            fingerprint: The artifact's.
            thorough: Compare what stages read of it with its digests, each file once for its
                state; else sizes alone, which is quick.
            tables: The tables that are read, where no other file is.

        Raises:
            ArtifactError: Its manifest cannot be read.
        """
        folder = self.folder(stage, fingerprint)
        manifest = self.manifest(stage, fingerprint)
        if fault := list_fault(manifest):
            return fault
        compare = self._seen.fault if thorough else size_fault
        entries = manifest.input_files
        if tables:
            entries = [entry for entry in entries if entry.path.split("/")[0] in tables]
        return next((f for entry in entries if (f := compare(folder, entry))), "")

    def digest_of_file(self, path: Path) -> str:
        """Digest of a file of weights that a run names, or of a folder of them.

        One that lies in a finished artifact is read and compared, whatever is remembered of it: a
        byte that a disk changed leaves the times as they are.

        Raises:
            ArtifactError: It is a finished artifact's, and not what the manifest says.
            UsageError: It is missing or cannot be read.
        """
        return check_listed(path, self._seen) or content_digest(path, self.facts)

    def latest(self, stage: str, pointer: str = "") -> str | None:
        """The fingerprint of a stage's last finished artifact.

        Args:
            stage: The stage's name.
            pointer: Which of the stage's artifacts, as `point_latest` was told; any where empty.
        """
        path = self.work_dir / stage / _latest(pointer)
        try:
            return read_plain_text(path).strip() or None
        except OSError:
            return None

    def latest_of(self, stage: str, pointer: str) -> str | None:
        """As `latest`; without a pointer, the last one that is no round's, refresh's or other's."""
        newest, home = self.latest(stage, pointer), self.work_dir / stage
        pointers = [path.name.removeprefix(_latest("")) for path in home.glob(f"{LATEST}-*")]
        others = {self.latest(stage, name.removeprefix("-")) for name in pointers}
        if pointer or newest not in others:
            return newest
        made = (path.parent for path in home.glob(f"*/{MANIFEST}"))
        own = [folder for folder in made if is_fingerprint(folder.name)]
        own = [folder for folder in own if folder.name not in others]
        return max(own, key=lambda folder: folder.stat().st_mtime).name if own else None

    def artifacts(self) -> list[tuple[str, str, bool]]:
        """All artifacts as (stage, fingerprint, finished), by stage and time."""
        artifacts = []
        for stage in sorted(p for p in self.work_dir.glob("*") if p.is_dir()):
            folders = [p for p in stage.iterdir() if is_fingerprint(p.name) and p.is_dir()]
            for folder in sorted(folders, key=lambda p: p.stat().st_mtime):
                done = (folder / MANIFEST).is_file()
                if done or (folder / REQUEST).is_file():
                    artifacts.append((stage.name, folder.name, done))
        return artifacts

    def begin(
        self,
        stage: str,
        fingerprint: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        contents: Mapping[str, str] | None = None,
    ) -> Path:
        """Make the artifact's folder, or find the unfinished one to go on with.

        Args:
            stage: The stage's name.
            fingerprint: The artifact's.
            config: The settings that can change the result.
            inputs: As of `Manifest`.
            contents: `Manifest.input_contents`, as they are before the work.

        Raises:
            ArtifactError: The folder is a link or holds one; nothing is written through it.
        """
        folder = self.folder(stage, fingerprint)
        make_folder(folder)
        refuse_links(folder)
        known = None if contents is None else dict(contents)
        values = (stage, fingerprint, dict(config), dict(inputs), known)
        write_sealed(folder / REQUEST, dict(zip(_REQUESTED, values, strict=True)))
        return folder

    def finish(self, folder: Path, manifest: Manifest, pointer: str = "") -> None:
        """Write the manifest once all that it lists is on the disk, then point ``latest`` at it."""
        sync_files(folder, [entry.path for entry in manifest.files])
        write_manifest(folder, manifest)
        (folder / REQUEST).unlink(missing_ok=True)
        for entry in manifest.files:  # the manifest has the digest now
            digest_file(folder / entry.path).unlink(missing_ok=True)
        self.point_latest(manifest.stage, manifest.fingerprint, pointer)

    def reopen(self, stage: str, fingerprint: str) -> None:
        """Make a finished artifact an unfinished one, whose whole shards are taken as they are."""
        folder, manifest = self.folder(stage, fingerprint), self.manifest(stage, fingerprint)
        contents = manifest.input_contents
        self.begin(stage, fingerprint, manifest.config, manifest.inputs, contents)
        (folder / MANIFEST).unlink()

    def point_latest(self, stage: str, fingerprint: str, pointer: str = "") -> None:
        """Make ``latest`` name this artifact, and ``latest-POINTER`` where it has a pointer.

        Nothing is written where they do so already.
        """
        for name in {LATEST, _latest(pointer)}:
            path = self.work_dir / stage / name
            if path.is_file() and read_plain_text(path).strip() == fingerprint:
                continue
            write_text(path, fingerprint + "\n")

    def set_aside(self, stage: str, fingerprint: str) -> Path:
        """Move an artifact, if it is there, out of the way of a new version; ``gc`` removes it.

        Returns:
            Where it is now.
        """
        folder = self.folder(stage, fingerprint)
        aside = self.work_dir / stage / REPLACED / f"{fingerprint}-{time.time_ns()}"
        if folder.is_dir():
            if aside.parent.is_symlink():
                raise ArtifactError(f"{aside.parent} is a link, which is not followed; remove it")
            aside.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(aside)
        return aside

    def requested(self, stage: str, fingerprint: str) -> dict[str, Any]:
        """What an artifact was made for, finished or not.

        Returns:
            ``config``, ``inputs``, ``input_contents`` (None where they are not known) and
            ``format_version``; nothing where they cannot be read, or a byte of them changed.
        """
        folder = self.folder(stage, fingerprint)
        for name, keys in ((MANIFEST, Manifest.__slots__), (REQUEST, _REQUESTED)):
            try:
                data, fault = read_sealed(folder / name, keys)
                if fault and not format_fault(data.get("format_version", FORMAT_VERSION)):
                    continue
                contents = data.get("input_contents")
                for section in (data["config"], data["inputs"], contents or {}):
                    section.items()  # all are mappings
                return {
                    "config": data["config"],
                    "inputs": data["inputs"],
                    "input_contents": contents,
                    "format_version": data.get("format_version", FORMAT_VERSION),
                }
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
        return {}

    @contextmanager
    def lock(self, stage: str, fingerprint: str) -> Iterator[None]:
        """Hold an artifact's folder while it is made.

        Raises:
            S4MError: Another process is making the same artifact.
        """
        path = self._lock_file(stage, fingerprint)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with held(path):
                yield
        except BlockingIOError as error:
            raise S4MError(f"{stage} {fingerprint} is being made by another process.") from error
        except OSError as error:
            if path.is_symlink():
                raise ArtifactError(
                    f"{path} is a link, which is not followed; remove it"
                ) from error
            raise

    def is_being_made(self, stage: str, fingerprint: str) -> bool:
        """Whether a process is making the artifact at this moment."""
        return is_held(self._lock_file(stage, fingerprint))

    def _lock_file(self, stage: str, fingerprint: str) -> Path:
        return self.work_dir / stage / f".{fingerprint}.lock"


def _latest(pointer: str) -> str:
    return f"{LATEST}-{pointer}" if pointer else LATEST
