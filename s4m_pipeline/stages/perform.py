"""Carrying out a stage: skip what is fresh, go on with what is unfinished, finish by manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from s4m_pipeline.artifacts.manifest import Manifest
from s4m_pipeline.errors import DONE, SET_ASIDE
from s4m_pipeline.stages.base import Run, Stage, manifest_of


@dataclass(frozen=True, slots=True)
class Freshness:
    """Where a stage stands.

    Attributes:
        state: ``fresh``, ``stale``, ``unfinished`` or ``missing``.
        fingerprint: The one that the configuration asks for.
        why: The reason, in words.
    """

    state: str
    fingerprint: str
    why: str


def freshness(run: Run, stage: Stage) -> Freshness:
    """Say whether a stage's artifact is what the configuration asks for, and why not."""
    mark = run.fingerprint(stage)
    if run.store.is_complete(stage.name, mark):
        again = _made_again(run, stage, mark)
        if again:
            return Freshness("stale", mark, again)
        return Freshness("fresh", mark, "")
    if run.store.is_begun(stage.name, mark):
        return Freshness("unfinished", mark, "stopped before its manifest was written")
    latest = run.store.latest(stage.name)
    if latest is None:
        return Freshness("missing", mark, "never made")
    return Freshness("stale", mark, _difference(run, stage, latest))


def _made_again(run: Run, stage: Stage, mark: str) -> str:
    """Name an input artifact that is newer than this one (made again by ``--force``)."""
    created = run.store.manifest(stage.name, mark).created
    for name, above in stage.upstream(run.config).items():
        above_mark = run.fingerprint(above)
        if run.store.is_complete(above.name, above_mark):
            made = run.store.manifest(above.name, above_mark).created
            if made > created:
                return f"its input {name} was made again at {made}"
    return ""


def _difference(run: Run, stage: Stage, latest: str) -> str:
    """Name what differs between the last artifact made and the one asked for."""
    before = run.store.requested(stage.name, latest)
    if not before:
        return f"the last one made is {latest}"
    wanted = {"config": stage.settings(run.config), "inputs": stage.inputs(run)}
    parts = []
    for part in ("config", "inputs"):
        old, new = flat_settings(before[part]), flat_settings(wanted[part])
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                parts.append(f"{key}: {old.get(key)} -> {new.get(key)}")
    return "; ".join(parts) or f"the last one made is {latest}"


def flat_settings(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one mapping of dotted keys."""
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(flat_settings(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def perform(run: Run, stage: Stage, force: bool = False) -> Manifest:
    """Make a stage's artifact unless a fresh one is there.

    Args:
        run: The run.
        stage: The stage.
        force: Make a new version even where a fresh one is there.

    Returns:
        The artifact's manifest.
    """
    found = freshness(run, stage)
    mark = found.fingerprint
    if found.state == "fresh" and not force:
        run.reporter.say(f"{stage.name}: fresh ({mark})")
        run.store.point_latest(stage.name, mark)
        return run.store.manifest(stage.name, mark)
    stage.check(run)
    for above in stage.upstream(run.config).values():
        run.require(above)
    settings, inputs = stage.settings(run.config), stage.inputs(run)
    with run.store.lock(stage.name, mark):
        if force or run.store.is_complete(stage.name, mark):
            run.store.set_aside(stage.name, mark)
        going_on = run.store.is_begun(stage.name, mark)
        run.reporter.say(f"{stage.name}: {'going on with' if going_on else 'making'} {mark}")
        folder = run.store.begin(stage.name, mark, settings, inputs)
        made = stage.make(run, folder)
        manifest = manifest_of(stage, mark, settings, inputs, made)
        run.store.finish(folder, manifest)
    run.reporter.say(f"{stage.name}: done, {folder}")
    return manifest


def exit_code(manifest: Manifest) -> int:
    """0, or 4 where images were set aside."""
    return SET_ASIDE if manifest.counts.get("quarantined") else DONE
