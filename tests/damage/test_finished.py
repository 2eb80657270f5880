"""Every file of every artifact, damaged in every way: who notices, and that nothing is made of it.

A seeded selection runs with the other tests; ``make faults`` tries all and writes the table of
docs/reliability.md.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from s4m_pipeline.artifacts.manifest import MANIFEST
from s4m_pipeline.artifacts.training_files import is_for_people
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.errors import ArtifactError, S4MError
from s4m_pipeline.workflow.artifact_views import verify_artifact
from tests.damage.kinds import KINDS, damaged
from tests.damage.whole_run import chosen, files_of, made_stages, note, readers_of, run_of
from tests.workshop import Workshop

STAGES = (
    *("structure", "train-teacher", "cross-fit", "calibrate", "pseudo-label", "refine"),
    *("train-student refresh-1", "pseudo-label refresh-1", "refine refresh-1"),
    *("held-out refresh-1", "evaluate student-refresh-1", "held-out", "compare-labels refresh-1"),
    *("train-student", "evaluate teacher", "evaluate student"),
)
"""Titles of the stages of the run."""


@pytest.fixture(scope="module")
def whole(everything: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A finished run in which files are damaged and made whole again."""
    return everything.copy(tmp_path_factory.mktemp("damaged") / "run")


def _stage(run: Run, title: str) -> Stage:
    return {stage.title: stage for stage in made_stages(run)}[title]


def test_all_stages_of_the_registry_are_damaged(whole: Workshop) -> None:
    run = run_of(whole)
    assert tuple(stage.title for stage in made_stages(run)) == STAGES
    for stage in made_stages(run):
        assert verify_artifact(run.folder(stage))


@pytest.mark.parametrize("title", STAGES)
def test_verify_notices_it_always(whole: Workshop, title: str) -> None:
    run = run_of(whole)
    folder = run.folder(_stage(run, title))
    tried = chosen(f"verify {title}", [(p, k) for p in files_of(folder) for k in KINDS], 12)
    for path, kind in tried:
        with damaged(folder / path, kind), pytest.raises(ArtifactError, match=Path(path).name):
            verify_artifact(folder)
    verify_artifact(folder)
    note("verify", title, "noticed by `s4m artifacts verify`", len(tried))


@pytest.mark.parametrize("title", STAGES)
def test_no_stage_makes_anything_of_it(whole: Workshop, title: str) -> None:
    run = run_of(whole)
    stage, seen = _stage(run, title), Counter[str]()
    folder, readers = run.folder(stage), readers_of(run, stage)
    before = {
        reader.title: run.store.manifest(reader.name, run.fingerprint(reader)) for reader in readers
    }
    pairs = [(path, kind) for path in files_of(folder) for kind in KINDS]
    for path, kind in chosen(f"readers {title}", pairs, 12):
        with damaged(folder / path, kind):
            for reader in readers:
                seen[_notices(run_of(whole), reader, stage, path)] += 1
    for reader in readers:
        manifest = run.store.manifest(reader.name, run.fingerprint(reader))
        assert manifest is before[reader.title], "something was made"
    for what, count in sorted(seen.items()):
        note("readers", title, what, count)


def _notices(run: Run, reader: Stage, stage: Stage, path: str) -> str:
    """What a reader does about a damaged file of its input: it refuses, or does not need it."""
    folder = run.folder(stage)
    if is_for_people(path) or path.startswith("shards/"):
        assert run.require(stage) == folder
        content = run.store.manifest(stage.name, run.fingerprint(stage)).input_files
        assert path not in [entry.path for entry in content]
        return "no input of a stage, which goes on without it"
    with pytest.raises(S4MError) as refused:
        perform(run, reader, force=True)
    text = str(refused.value)
    assert run.command_for(stage) in text
    assert len(text.splitlines()) <= 3
    if path == MANIFEST and refused.type is not ArtifactError:
        assert "is unfinished" in text
        return "the artifact is unfinished without it"
    assert refused.value.exit_code == 3
    assert str(folder / path) in text
    return "refused by the stage that reads it"
