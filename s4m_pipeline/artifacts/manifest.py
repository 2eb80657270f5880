"""The manifest: what an artifact is, written last, so that a folder with one is whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any

from s4m_pipeline.artifacts.environment import environment
from s4m_pipeline.artifacts.file_facts import FileState, state_of
from s4m_pipeline.artifacts.fingerprint import (
    FORMAT_VERSION,
    check_format_version,
    digest_of,
    file_digest,
)
from s4m_pipeline.artifacts.sealed import read_sealed, write_sealed
from s4m_pipeline.artifacts.table_faults import set_aside
from s4m_pipeline.artifacts.training_files import is_for_people
from s4m_pipeline.errors import ArtifactError, UsageError

MANIFEST = "manifest.json"


@dataclass(slots=True)
class FileEntry:
    """A file of an artifact: its path inside, bytes, SHA-256 and, for a table, its rows."""

    path: str
    bytes: int
    sha256: str
    rows: int | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FileEntry:
        """The entry that was written; ValueError where it is none of a file inside a folder."""
        entry = cls(**data)
        if not isinstance(entry.path, str) or not isinstance(entry.sha256, str):
            raise ValueError("an entry of a file without its path or digest")
        if not _is_count(entry.bytes) or not (entry.rows is None or _is_count(entry.rows)):
            raise ValueError(f"{entry.path!r} has no number of bytes or rows")
        path = PurePosixPath(entry.path)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"{entry.path!r} is outside the artifact")
        return entry


def _is_count(value: object) -> bool:
    """Whether what a file says is a number of things: a whole number from 0."""
    return type(value) is int and value >= 0


@dataclass(slots=True)
class Manifest:
    """What a finished artifact says of itself (docs/guide.md, "Artifacts").

    ``inputs`` are fingerprints and digests, which name what was asked for. ``input_contents`` are
    digests of what the input artifacts held, so that an input that was made again is noticed.
    """

    stage: str
    fingerprint: str
    config: dict[str, Any]
    inputs: dict[str, str]
    input_contents: dict[str, str] = field(default_factory=dict)
    files: list[FileEntry] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=environment)
    created: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat("T", "seconds")
    )
    format_version: int = FORMAT_VERSION

    @property
    def content(self) -> str:
        """Digest of the files that stages read."""
        return digest_of([[entry.path, entry.sha256] for entry in self.input_files])

    @property
    def contents(self) -> set[str]:
        """What `Manifest.input_contents` may call the content: earlier versions took all files."""
        return {self.content, digest_of([[entry.path, entry.sha256] for entry in self.files])}

    @property
    def input_files(self) -> list[FileEntry]:
        """The files that stages read: all but those that only people look at."""
        return [entry for entry in self.files if not is_for_people(entry.path)]

    def to_dict(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Manifest:
        """The manifest that ``to_dict`` wrote; unknown keys are left out."""
        fields = {name: data[name] for name in cls.__slots__ if name in data}
        if not isinstance(fields.get("files", []), list):
            raise ValueError("its files are no list")
        fields["files"] = [FileEntry.from_dict(entry) for entry in fields.get("files", [])]
        for name in ("stage", "fingerprint", "created"):
            if not isinstance(fields.get(name, ""), str):
                raise ValueError(f"its {name} is no text")
        for name in ("config", "inputs", "input_contents", "counts", "metrics", "environment"):
            if not isinstance(fields.get(name, {}), dict):
                raise ValueError(f"its {name} is no mapping")
        return cls(**fields)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Finish an artifact: the last thing written in its folder."""
    write_sealed(folder / MANIFEST, manifest.to_dict())


def read_manifest(folder: Path) -> Manifest:
    """Read an artifact's manifest.

    Raises:
        ArtifactError: It is missing, damaged (a changed byte is enough), or of another format
            version.
    """
    path = folder / MANIFEST
    try:
        data, fault = read_sealed(path, Manifest.__slots__)
        version = data["format_version"]
    except FileNotFoundError as error:
        what = "unfinished, it has no" if folder.is_dir() else "there is no such folder with a"
        raise ArtifactError(f"{folder}: {what} {MANIFEST}") from error
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise ArtifactError(f"{path}: damaged, no manifest can be read from it") from error
    check_format_version(version, path, folder)
    if fault:
        raise ArtifactError(f"{path}: damaged ({fault})")
    try:
        return Manifest.from_dict(data)
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: damaged ({error})") from error


def file_entry(folder: Path, path: Path, rows: int | None = None) -> FileEntry:
    """Describe a file inside an artifact's folder."""
    return FileEntry(str(path.relative_to(folder)), path.stat().st_size, file_digest(path), rows)


def list_fault(manifest: Manifest) -> str:
    """What is wrong with a manifest's list; empty for nothing. All artifacts have a file."""
    return "" if manifest.files else f"{MANIFEST}: it lists no file"


def verify(folder: Path, manifest: Manifest) -> list[str]:
    """Compare an artifact's files with its manifest.

    Returns:
        One line a fault: missing, another size, another digest. Empty when all is well.
    """
    return [fault for entry in manifest.files if (fault := file_fault(folder, entry))]


def file_fault(folder: Path, entry: FileEntry) -> str:
    """How a file differs from what is written down of it; empty where it does not."""
    return size_fault(folder, entry) or _content_fault(folder, entry)


def size_fault(folder: Path, entry: FileEntry) -> str:
    """Whether a file is missing or of another size, which is told without reading it."""
    path = folder / entry.path
    if not path.is_file():
        return f"{entry.path}: missing"
    if path.stat().st_size != entry.bytes:
        return f"{entry.path}: {path.stat().st_size} bytes, manifest says {entry.bytes}"
    return ""


def _content_fault(folder: Path, entry: FileEntry) -> str:
    try:
        digest = file_digest(folder / entry.path)
    except UsageError as error:
        return f"{entry.path}: cannot be read ({error})"
    return "" if digest == entry.sha256 else f"{entry.path}: its SHA-256 is not the manifest's"


def check_listed(path: Path, seen: SeenFiles | None = None) -> str:
    """Compare a file with the manifest beside it, where that lists the file.

    Args:
        path: The file, which need not be of an artifact.
        seen: Files that need not be read again.

    Returns:
        Its SHA-256, taken of its bytes; an empty text where no manifest lists it.

    Raises:
        ArtifactError: It is not what the manifest says; the message says what to do.
    """
    folder = path.parent
    if not (folder / MANIFEST).is_file():
        return ""
    manifest = read_manifest(folder)
    entry = next((entry for entry in manifest.files if entry.path == path.name), None)
    if entry is None:
        return ""
    if fault := (seen or SeenFiles()).fault(folder, entry):
        raise ArtifactError(
            f"{folder}/{fault}.\n{set_aside(folder)} "
            f"(s4m {manifest.stage} -c RUN.yaml, or s4m run --rounds N for round N)",
            folder,
        )
    return entry.sha256


class SeenFiles:
    """Files that were compared with their manifest; each is read once for its state."""

    def __init__(self) -> None:
        self._whole: dict[Path, tuple[str, FileState]] = {}

    def fault(self, folder: Path, entry: FileEntry) -> str:
        """How a file differs from its entry, as `file_fault` says it."""
        path = folder / entry.path
        if fault := size_fault(folder, entry):
            return fault
        known = (entry.sha256, state_of(path))
        if self._whole.get(path) == known:
            return ""
        if not (fault := _content_fault(folder, entry)):
            self._whole[path] = known
        return fault
