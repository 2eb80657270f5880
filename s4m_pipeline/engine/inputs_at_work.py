"""Inputs that change while a stage works with them, or between two tries of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s4m_pipeline.artifacts.fingerprint import fingerprint as fingerprint_of
from s4m_pipeline.artifacts.store import REQUEST
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.engine.staleness import changed_inputs, describe_difference
from s4m_pipeline.errors import ArtifactError, S4MError, UsageError


def settings_and_inputs(run: Run, stage: Stage) -> tuple[dict[str, Any], dict[str, str]]:
    """What a stage is to be made of, which is what its fingerprint stands for.

    A command of several stages may have asked for the fingerprint hours ago.

    Raises:
        ArtifactError: It is something else by now.
    """
    settings, inputs = stage.settings(run.config), stage.inputs(run)
    if fingerprint_of(stage.name, settings, inputs) != run.fingerprint(stage):
        raise ArtifactError(
            f"{stage.title}: a file that it is made of changed since this command began.\n"
            f"Run it again: {run.command_for(stage)}"
        )
    return settings, inputs


def check_afterwards(
    run: Run,
    stage: Stage,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    contents: Mapping[str, str],
) -> None:
    """Refuse to finish what was removed, or made of other inputs than it was begun with.

    What was made of other files is set aside, so that nothing goes on with it.

    Args:
        run: The run.
        stage: The stage, whose artifact's lock the caller holds.
        settings: Its settings when it began.
        inputs: Its inputs then.
        contents: What the input artifacts held then.

    Raises:
        S4MError: The artifact's folder was removed.
        ArtifactError: An input changed.
    """
    folder = run.folder(stage)
    if not (folder / REQUEST).is_file():
        raise S4MError(
            f"{folder}: was removed while it was being made.\nMake it again with: "
            f"{run.command_for(stage)}"
        )
    if changed := _changed_since(run, stage, contents):
        raise ArtifactError(
            f"{stage.title}: its input {changed[0]} was made again, with another result, while it "
            f"was at work.\nBegin anew with: {run.command_for(stage)}"
        )
    _check_artifacts(run, stage)
    if why := _changed_files(run, stage, settings, inputs):
        aside = run.store.set_aside(stage.name, folder.name)
        raise ArtifactError(
            f"{stage.title}: {why}, while it was at work.\nWhat it made is set aside ({aside}). "
            f"Make it again with: {run.command_for(stage)}"
        )


def _check_artifacts(run: Run, stage: Stage) -> None:
    """Refuse what was made of an input artifact whose files changed; looks at their states."""
    for name, upstream in _inputs_there(run, stage).items():
        try:
            run.require(upstream)
        except ArtifactError as error:
            run.store.set_aside(stage.name, run.fingerprint(stage))
            raise ArtifactError(
                f"{stage.title}: its input {name} changed while it was at work, and what it made "
                f"is set aside.\n{error}"
            ) from error


def _changed_files(
    run: Run, stage: Stage, settings: Mapping[str, Any], inputs: Mapping[str, str]
) -> str:
    """What of a stage's own files and of its model's config is another now; empty for nothing.

    Images that were added to a folder meanwhile are no change: the stage did not work over them.
    """
    again = run.again()
    try:
        sources = stage.sources(again)
        wanted = {"config": stage.settings(again.config), "inputs": sources}
    except UsageError as error:
        return str(error).splitlines()[0]
    before = {"config": settings, "inputs": {name: inputs.get(name) for name in sources}}
    return describe_difference(stage.name, run.config, before, wanted)


def is_resumed(run: Run, stage: Stage) -> bool:
    """Whether there is something to go on with; what was made of other inputs is set aside.

    Args:
        run: The run.
        stage: The stage, whose artifact's lock the caller holds.
    """
    fingerprint = run.fingerprint(stage)
    if not run.store.is_begun(stage.name, fingerprint):
        return False
    request = run.store.requested(stage.name, fingerprint)
    contents = request.get("input_contents")
    changed = [] if contents is None else _changed_since(run, stage, contents)
    if not request and (run.folder(stage) / REQUEST).is_file():
        why = f"its {REQUEST} is damaged, which says what it was made of"
    elif changed:
        why = f"its input {changed[0]} was made again, with another result, since it was stopped"
    else:
        return True
    run.reporter.warn(f"{stage.title}: {why}; what there was of it is set aside")
    run.store.set_aside(stage.name, fingerprint)
    return False


def _changed_since(run: Run, stage: Stage, contents: Mapping[str, str]) -> list[str]:
    """Names of input artifacts that hold something else now; not of those that are gone."""
    gone = stage.upstream(run.config).keys() - _inputs_there(run, stage).keys()
    return changed_inputs(run, stage, contents, leave_out=gone)


def _inputs_there(run: Run, stage: Stage) -> dict[str, Stage]:
    """The input artifacts that have not been taken away."""
    return {
        name: upstream
        for name, upstream in stage.upstream(run.config).items()
        if run.store.is_complete(upstream.name, run.fingerprint(upstream))
    }
