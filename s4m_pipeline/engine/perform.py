"""Carrying out a stage: skipped when fresh, resumed when unfinished, finished by a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.fingerprint import format_fault
from s4m_pipeline.artifacts.leftovers import clear_artifact, clear_strays
from s4m_pipeline.artifacts.manifest import Manifest
from s4m_pipeline.devices.placement import ALWAYS_THERE
from s4m_pipeline.engine.inputs_at_work import check_afterwards, is_resumed, settings_and_inputs
from s4m_pipeline.engine.mending import mended, reopened
from s4m_pipeline.engine.registry import STAGES
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome, Stage, manifest_of
from s4m_pipeline.engine.staleness import describe_difference, input_contents
from s4m_pipeline.errors import DONE, SET_ASIDE, ArtifactError
from s4m_pipeline.system_errors import telling
from s4m_pipeline.wording import counted


@dataclass(frozen=True, slots=True)
class Freshness:
    """Where a stage stands.

    Attributes:
        state: ``fresh``, ``stale``, ``unfinished``, ``missing`` or ``damaged``.
        fingerprint: The fingerprint that the configuration asks for.
        why: The reason, in words; empty for ``fresh``.
    """

    state: str
    fingerprint: str
    why: str


def freshness(run: Run, stage: Stage, answers: dict[str, str] | None = None) -> Freshness:
    """Whether a stage's artifact is what the configuration asks for, and why not.

    Args:
        run: The run.
        stage: The stage.
        answers: What was found out about inputs a moment ago, for whoever asks about many stages;
            more is added.
    """
    fingerprint = run.fingerprint(stage)
    if run.store.is_complete(stage.name, fingerprint):
        try:
            run.glance_at(stage)
            changed = _changed_input(run, stage, {} if answers is None else answers)
        except ArtifactError as error:
            return Freshness("damaged", fingerprint, str(error).splitlines()[0])
        return Freshness("stale" if changed else "fresh", fingerprint, changed)
    if run.store.is_begun(stage.name, fingerprint):
        why = "stopped before its manifest was written"
        if run.store.is_being_made(stage.name, fingerprint):
            progress = stage.progress(run)
            why = f"another process is making it{f': {progress}' if progress else ''}"
        return Freshness("unfinished", fingerprint, why)
    latest = run.store.latest_of(stage.name, stage.pointer)
    if latest is None:
        return Freshness("missing", fingerprint, "never made")
    return Freshness("stale", fingerprint, _difference(run, stage, latest))


def _changed_input(run: Run, stage: Stage, answers: dict[str, str]) -> str:
    """Name an input artifact, direct or not, that was made again since (with ``--force``).

    Args:
        run: The run.
        stage: A stage whose artifact is complete.
        answers: The answers so far by the stages' titles: many stages share their inputs, and each
            input is looked at once.
    """
    for one in _inputs_first(run, stage, answers):
        answers[one.title] = _first_change(run, one, answers)
    return answers[stage.title]


def _inputs_first(run: Run, stage: Stage, answers: Mapping[str, str]) -> list[Stage]:
    """The stages without an answer that one is made of, each after its inputs, itself the last.

    Left out is what is not there or cannot be read: nothing is asked about its inputs.
    """
    ordered: dict[str, Stage] = {}
    seen, pending = set(answers), [stage]
    while pending:
        first = pending[-1]
        if first.title in seen:
            pending.pop()
            if first.title not in answers:
                ordered.setdefault(first.title, first)
            continue
        seen.add(first.title)
        inputs = first.upstream(run.config).values()
        pending += [one for one in inputs if one.title not in seen and _is_readable(run, one)]
    return list(ordered.values())


def _is_readable(run: Run, stage: Stage) -> bool:
    fingerprint = run.fingerprint(stage)
    if not run.store.is_complete(stage.name, fingerprint):
        return False
    try:
        run.store.manifest(stage.name, fingerprint)
    except ArtifactError:
        return False
    return True


def _first_change(run: Run, stage: Stage, answers: dict[str, str]) -> str:
    contents = run.store.manifest(stage.name, run.fingerprint(stage)).input_contents
    for name, upstream in stage.upstream(run.config).items():
        fingerprint = run.fingerprint(upstream)
        if not run.store.is_complete(upstream.name, fingerprint):
            continue
        try:
            manifest = run.store.manifest(upstream.name, fingerprint)
        except ArtifactError as error:
            return f"its input {name} is damaged: {str(error).splitlines()[0]}"
        if name in contents and contents[name] not in manifest.contents:
            return f"its input {name} was made again, with another result, at {manifest.created}"
        change = answers.get(upstream.title, "")
        if change:
            return f"its input {name} is stale: {change}"
    return ""


def _difference(run: Run, stage: Stage, latest: str) -> str:
    """Name what differs between the last artifact made and the one asked for."""
    before = run.store.requested(stage.name, latest)
    if not before:
        return f"the last one made is {latest}"
    if fault := format_fault(before["format_version"]):
        return f"the last one made, {latest}, is of {fault}"
    wanted = {"config": stage.settings(run.config), "inputs": stage.inputs(run)}
    difference = describe_difference(stage.name, run.config, before, wanted)
    return difference or f"the last one made is {latest}"


def check_stage(run: Run, stage: Stage, force: bool = False) -> None:
    """Refuse wrong settings and unusable data, and a device that is not there, before any work.

    A fresh artifact may come from another machine, so its device is not looked for.

    Args:
        run: The run.
        stage: The stage.
        force: Whether a new version is to be made even where a fresh one is there.

    Raises:
        UsageError: Something is wrong; the message says what.
    """
    stage.check(run)
    warn_of_pictures(run)
    # looking for a device loads torch, which plans do without
    if run.config.device in ALWAYS_THERE:
        return
    if force or freshness(run, stage).state != "fresh":
        stage.device(run)


def warn_of_pictures(run: Run) -> None:
    """Warn, once a run, of pictures that its levels leave nearly of one colour."""
    dim = run.images.dim_pictures()
    if dim:
        what = counted(len(dim), "picture uses", "pictures use")
        run.reporter.warn_once(
            f"{what} under a tenth of the levels {run.images.reading.levels}, so that hardly "
            f"anything is seen in them; the first is {dim[0]}.\n"
            "Set data.levels to a low and a high value, or leave out what is odd."
        )


def perform(run: Run, stage: Stage, force: bool = False) -> Manifest:
    """Make a stage's artifact unless a fresh one is there.

    Args:
        run: The run.
        stage: The stage.
        force: Make a new version even where a fresh one is there.

    Returns:
        The artifact's manifest.

    Raises:
        ArtifactError: The artifact, or one it is made of, is stale or damaged.
        UsageError: An input has not been made, or the data cannot be used.
    """
    fingerprint = run.fingerprint(stage)
    if not force and (manifest := _if_fresh(run, stage)):
        return mended(run, stage, manifest)
    check_stage(run, stage, force)
    for upstream in stage.upstream(run.config).values():
        _require_fresh(run, upstream)
    made_of = settings_and_inputs(run, stage)
    with telling(run.folder(stage)), run.store.lock(stage.name, fingerprint):
        if not force and (manifest := _if_fresh(run, stage)):
            return manifest  # another process made it in the meantime
        replaced = force or run.store.is_complete(stage.name, fingerprint)
        if replaced and not (force and reopened(run, stage)):
            run.store.set_aside(stage.name, fingerprint)
        return _make(run, stage, *made_of)


def _if_fresh(run: Run, stage: Stage) -> Manifest | None:
    """The manifest of a fresh artifact, or None; refuses a damaged one."""
    standing = freshness(run, stage)
    if standing.state == "damaged":
        raise ArtifactError(f"{standing.why}\n{run.remedy(stage)}")
    if standing.state != "fresh":
        return None
    run.reporter.say(f"{stage.title}: fresh ({standing.fingerprint})")
    with suppress(OSError):  # a work folder that is read-only: nothing is made, nothing is lost
        run.store.point_latest(stage.name, standing.fingerprint, stage.pointer)
    return run.store.manifest(stage.name, standing.fingerprint)


def _require_fresh(run: Run, upstream: Stage) -> None:
    """Refuse an input artifact that is missing, damaged, or older than what it was made of."""
    run.require(upstream)
    _require_manifests(run, upstream)
    standing = freshness(run, upstream)
    if standing.state != "fresh":
        raise ArtifactError(
            f"{upstream.title} is {standing.state}: {standing.why}\n"
            f"Make it with: {run.command_for(upstream)}"
        )


def _require_manifests(run: Run, stage: Stage) -> None:
    """Refuse a damaged manifest among all that an artifact was made of, with what repairs that.

    Stages share their inputs, which with refreshes makes five times as many ways to the first one
    with each. So every one is looked at once, and the stack is of our own.
    """
    seen, pending = {stage.title}, [stage]
    while pending:
        needing = pending.pop()
        inputs = needing.upstream(run.config).values()
        for upstream in inputs:
            if run.store.is_complete(upstream.name, run.fingerprint(upstream)):
                _require_manifest(run, upstream, needing)
        new = {one.title: one for one in inputs if one.title not in seen}
        seen |= new.keys()
        pending += reversed(new.values())


def _require_manifest(run: Run, stage: Stage, needing: Stage) -> None:
    try:
        run.manifest(stage)
    except ArtifactError as error:
        fault, _, remedy = str(error).partition("\n")
        needed = f"needed by {run.command_for(needing)}"
        raise ArtifactError(f"{fault}; {needed}\n{remedy}") from error


def _make(run: Run, stage: Stage, settings: dict[str, Any], inputs: dict[str, str]) -> Manifest:
    fingerprint = run.fingerprint(stage)
    contents = input_contents(run, stage)
    resumed = is_resumed(run, stage)
    run.reporter.say(f"{stage.title}: {'resuming' if resumed else 'making'} {fingerprint}")
    folder = run.store.begin(stage.name, fingerprint, settings, inputs, contents)
    clear_artifact(folder)
    clear_strays(run.store.work_dir, STAGES)
    outcome = _outcome(run, stage, folder)
    check_afterwards(run, stage, settings, inputs, contents)
    manifest = manifest_of(stage, fingerprint, settings, inputs, outcome)
    manifest.input_contents = contents
    run.store.finish(folder, manifest, stage.pointer)
    run.reporter.say(f"{stage.title}: done, {folder}")
    return manifest


def _outcome(run: Run, stage: Stage, folder: Path) -> Outcome:
    """Do a stage's work; for an input that cannot be used, name the command to run."""
    try:
        return stage.make(run, folder)
    except ArtifactError as error:
        place = None if error.folder is None else error.folder.resolve()
        for upstream in stage.upstream(run.config).values():
            if run.folder(upstream).resolve() == place:
                fault = str(error).splitlines()[0]
                raise ArtifactError(f"{fault}\n{run.remedy(upstream)}") from error
        raise


def exit_code(manifest: Manifest) -> int:
    """0, or 4 where images were set aside."""
    return SET_ASIDE if manifest.counts.get("quarantined") else DONE
