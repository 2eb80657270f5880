"""Artifacts as people look at them: listed, checked, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.collecting import pointed_at
from s4m_pipeline.artifacts.fingerprint import is_fingerprint
from s4m_pipeline.artifacts.manifest import (
    MANIFEST,
    Manifest,
    list_fault,
    read_manifest,
    verify,
)
from s4m_pipeline.artifacts.markers import marker_faults
from s4m_pipeline.artifacts.store import Store
from s4m_pipeline.artifacts.table_definitions import TABLES
from s4m_pipeline.artifacts.table_file import check_schema
from s4m_pipeline.artifacts.tables import table_files
from s4m_pipeline.engine.registry import STAGES, stage_named
from s4m_pipeline.engine.staleness import flat_settings
from s4m_pipeline.errors import ArtifactError, FormatVersionError, UsageError


def list_rows(store: Store) -> list[dict[str, Any]]:
    """A row for each artifact: stage, fingerprint, state, time, and whether it is the latest.

    Of a stage that has several (rounds, evaluations), the latest of each counts as one.

    Raises:
        UsageError: The work folder is missing.
    """
    if not store.work_dir.is_dir():
        raise UsageError(f"{store.work_dir}: no such work folder")
    rows, pointed = [], pointed_at(store)
    for stage, fingerprint, done in store.artifacts():
        created, state = "", "unfinished"
        if done:
            try:
                created, state = store.manifest(stage, fingerprint).created, "finished"
            except FormatVersionError:
                state = "old format"
            except ArtifactError:
                state = "damaged"
        rows.append(
            {
                "stage": stage,
                "fingerprint": fingerprint,
                "state": state,
                "made": created,
                "latest": fingerprint in pointed.get(stage, ()),
            }
        )
    return rows


def artifact_manifest(folder: Path) -> Manifest:
    """Read an artifact's manifest.

    Raises:
        ArtifactError: It cannot be read. For one of another format version the message names the
            command that makes the artifact again.
    """
    try:
        return read_manifest(folder)
    except FormatVersionError as error:
        stage = folder.resolve().parent.name
        if stage not in STAGES:
            raise
        command = f"s4m {stage_named(stage).command} -c RUN.yaml"
        raise ArtifactError(f"{error}\nMake it again with: {command}") from error


def verify_artifact(folder: Path) -> str:
    """Check an artifact's files against its manifest, and its tables' format.

    Raises:
        ArtifactError: Something does not match; the message names every fault.
    """
    manifest = artifact_manifest(folder)
    faults = [fault for fault in (_place_fault(folder, manifest), list_fault(manifest)) if fault]
    faults += [*verify(folder, manifest), *marker_faults(folder, manifest.files)]
    if faults:
        raise ArtifactError(f"{folder}: " + "; ".join(faults))
    for table in TABLES:
        for path in table_files(folder, table):
            check_schema(path, table)
    size = sum(entry.bytes for entry in manifest.files)
    return f"{folder}: {len(manifest.files)} files, {size} bytes, all as the manifest says"


def _place_fault(folder: Path, manifest: Manifest) -> str:
    """Whether a folder that is named as an artifact's is named as another's."""
    place = folder.resolve()
    named_as_another = is_fingerprint(place.name) and place.name != manifest.fingerprint
    if named_as_another or (place.parent.name in STAGES and place.parent.name != manifest.stage):
        return f"{MANIFEST}: it is of {manifest.stage} {manifest.fingerprint}"
    return ""


def differences(first: Path, second: Path) -> list[str]:
    """Lines ``part.key: first -> second`` for all that differs between two artifacts."""
    one, other = artifact_manifest(first).to_dict(), artifact_manifest(second).to_dict()
    lines = []
    for part in ("stage", "config", "inputs", "counts", "metrics", "environment"):
        a, b = flat_settings(one[part]), flat_settings(other[part])
        for key in sorted(a.keys() | b.keys()):
            if a.get(key) != b.get(key):
                name = f"{part}.{key}" if key else part
                lines.append(f"{name}: {a.get(key)} -> {b.get(key)}")
    return lines or ["no difference"]
