"""What of a damaged artifact is kept: its whole shards, and all but a page that people look at."""

from __future__ import annotations

from dataclasses import replace

from s4m_pipeline.artifacts.environment import environment
from s4m_pipeline.artifacts.manifest import (
    Manifest,
    file_entry,
    file_fault,
    list_fault,
    verify,
    write_manifest,
)
from s4m_pipeline.artifacts.markers import marker_faults
from s4m_pipeline.artifacts.training_files import is_for_people
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.engine.staleness import changed_inputs
from s4m_pipeline.errors import ArtifactError, S4MError


def reopened(run: Run, stage: Stage) -> bool:
    """Make a damaged artifact unfinished, so that its damaged shards are made again and no others.

    That is done only where the others would come out the same: of the same inputs, with the same
    versions of Python and of the packages.

    Args:
        run: The run.
        stage: The stage, whose artifact's lock the caller holds.

    Returns:
        Whether it was done.
    """
    fingerprint = run.fingerprint(stage)
    if not stage.repaired_by_shard or not run.store.is_complete(stage.name, fingerprint):
        return False
    folder = run.folder(stage)
    try:
        manifest = run.store.manifest(stage.name, fingerprint)
        faults = [*verify(folder, manifest), *marker_faults(folder, manifest.files)]
        if list_fault(manifest) or not faults:
            return False
        if changed_inputs(run, stage, manifest.input_contents) or not _made_with_these(manifest):
            return False
    except ArtifactError:
        return False
    run.store.reopen(stage.name, fingerprint)
    run.reporter.say(f"{stage.title}: is damaged; its whole shards are kept")
    return True


def _made_with_these(manifest: Manifest) -> bool:
    now = environment()
    return all(manifest.environment.get(key) == now[key] for key in ("python", "packages"))


def mended(run: Run, stage: Stage, manifest: Manifest) -> Manifest:
    """Write anew what is damaged of the files that people look at, where that can be done.

    Args:
        run: The run.
        stage: The stage, whose artifact is fresh.
        manifest: The artifact's manifest.

    Returns:
        The manifest, with the files' new digests.
    """
    folder = run.folder(stage)
    for place, entry in enumerate(manifest.files):
        if not is_for_people(entry.path) or not (fault := file_fault(folder, entry)):
            continue
        try:
            with run.store.lock(stage.name, manifest.fingerprint):
                if stage.rewrite(run, folder, entry.path):
                    files = list(manifest.files)
                    files[place] = file_entry(folder, folder / entry.path)
                    manifest = replace(manifest, files=files)
                    write_manifest(folder, manifest)
                    run.reporter.say(f"{stage.title}: {folder}/{fault}; it was written anew")
                    continue
        except (OSError, S4MError) as error:
            fault = f"{fault}; {str(error).splitlines()[0]}"
        run.reporter.warn(f"{stage.title}: {folder}/{fault}; nothing but this file is affected")
    return manifest
