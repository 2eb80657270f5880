"""The manifest: what an artifact is, written last, so that a folder with one is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.environment import environment
from s4m_pipeline.artifacts.fingerprint import (
    FORMAT_VERSION,
    check_format_version,
    digest_of,
    file_digest,
)
from s4m_pipeline.errors import ArtifactError

MANIFEST = "manifest.json"


@dataclass(slots=True)
class FileEntry:
    """A file of an artifact: its path inside, bytes, SHA-256 and, for a table, its rows."""

    path: str
    bytes: int
    sha256: str
    rows: int | None = None


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
        """Digest of the artifact's files."""
        return digest_of([[entry.path, entry.sha256] for entry in self.files])

    def to_dict(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Manifest:
        """The manifest that ``to_dict`` wrote; unknown keys are left out."""
        fields = {name: data[name] for name in cls.__slots__ if name in data}
        fields["files"] = [FileEntry(**entry) for entry in fields.get("files", [])]
        return cls(**fields)


def write_json(path: Path, value: Any) -> None:
    """Write JSON by rename, so that a reader sees the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    # a lone surrogate, of a name that is not UTF-8, becomes what JSON writes for it
    with partial.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Finish an artifact: the last thing written in its folder."""
    write_json(folder / MANIFEST, manifest.to_dict())


def read_manifest(folder: Path) -> Manifest:
    """Read an artifact's manifest.

    Raises:
        ArtifactError: It is missing, damaged, or of another format version.
    """
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text())
        version = data["format_version"]
    except FileNotFoundError as error:
        what = "unfinished, it has no" if folder.is_dir() else "there is no such folder with a"
        raise ArtifactError(f"{folder}: {what} {MANIFEST}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: damaged, no manifest can be read from it") from error
    check_format_version(version, path, folder)
    try:
        return Manifest.from_dict(data)
    except TypeError as error:
        raise ArtifactError(f"{path}: damaged ({error})") from error


def file_entry(folder: Path, path: Path, rows: int | None = None) -> FileEntry:
    """Describe a file inside an artifact's folder."""
    return FileEntry(str(path.relative_to(folder)), path.stat().st_size, file_digest(path), rows)


def verify(folder: Path, manifest: Manifest) -> list[str]:
    """Compare an artifact's files with its manifest.

    Returns:
        One line a fault: missing, another size, another digest. Empty when all is well.
    """
    faults = []
    for entry in manifest.files:
        path = folder / entry.path
        if not path.is_file():
            faults.append(f"{entry.path}: missing")
        elif path.stat().st_size != entry.bytes:
            faults.append(f"{entry.path}: {path.stat().st_size} bytes, manifest says {entry.bytes}")
        elif file_digest(path) != entry.sha256:
            faults.append(f"{entry.path}: its SHA-256 is not the manifest's")
    return faults
