"""Which files belong to an artifact: those that its manifest lists, or else its shards' markers."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from s4m_pipeline.artifacts.file_facts import FileState, state_of
from s4m_pipeline.artifacts.manifest import MANIFEST, read_manifest
from s4m_pipeline.artifacts.markers import marker_at, marker_files
from s4m_pipeline.artifacts.store import REQUEST
from s4m_pipeline.errors import ArtifactError


def listed_files(folder: Path, unfinished: bool = False) -> list[str] | None:
    """The files of an artifact, by their paths inside.

    Args:
        folder: The artifact's folder.
        unfinished: Whether it may be one that is being made.

    Returns:
        The paths; None for a folder that has neither a manifest nor markers, and so is no artifact.

    Raises:
        ArtifactError: There is no such folder, its manifest is damaged, or it is being made.
    """
    try:
        state = state_of(folder / MANIFEST)
    except OSError:
        if not folder.is_dir() or (not unfinished and (folder / REQUEST).is_file()):
            raise ArtifactError(
                f"{folder}: this artifact is not finished, or was taken away in the meantime.\n"
                "s4m status says where the stages stand."
            ) from None
        return _in_markers(folder)
    return list(_in_manifest(folder, state))


@lru_cache(maxsize=64)
def _in_manifest(folder: Path, state: FileState) -> tuple[str, ...]:
    """What a manifest lists; read once for its state."""
    del state
    return tuple(entry.path for entry in read_manifest(folder).files)


def _in_markers(folder: Path) -> list[str] | None:
    if not (folder / "shards").is_dir():
        return None
    paths = []
    for marker in marker_files(folder):
        try:
            paths += [entry.path for entry in marker_at(marker).files]
        except (OSError, ValueError):  # the shard has to be made again
            continue
    return paths
