"""Inputs that are made again while a stage is at work, or between two tries of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from s4m_pipeline.artifacts.manifest import read_manifest, write_manifest
from s4m_pipeline.engine.perform import freshness, perform
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.stage import Refine
from tests.workshop import Workshop


@pytest.fixture
def done(finished: Workshop, tmp_path: Path) -> Workshop:
    return finished.copy(tmp_path / "run")


def make_again(run: Run) -> None:
    """Give the predictions another content, as a forced version on another machine has."""
    folder = run.folder(PseudoLabel())
    manifest = read_manifest(folder)
    manifest.files.pop()
    write_manifest(folder, manifest)


def stopped_run(done: Workshop, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose refinement, forced anew, is stopped when all of its shards are there."""
    run, make = done.run(), Refine.make

    def stopped(self: Refine, run: Run, folder: Path) -> Outcome:
        make(self, run, folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Refine, "make", stopped)
        with pytest.raises(KeyboardInterrupt):
            perform(run, Refine(), force=True)
    return run


def test_an_input_made_again_meanwhile_is_not_written_down_as_the_one_used(
    done: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, make = done.run(), Refine.make

    def disturbed(self: Refine, run: Run, folder: Path) -> Outcome:
        outcome = make(self, run, folder)
        make_again(run)
        return outcome

    monkeypatch.setattr(Refine, "make", disturbed)
    with pytest.raises(ArtifactError, match=r"input predictions was made again.*while it was at"):
        perform(run, Refine(), force=True)
    monkeypatch.undo()
    assert freshness(done.run(), Refine()).state == "unfinished"
    perform(done.run(), Refine())
    contents = read_manifest(run.folder(Refine())).input_contents
    assert contents["predictions"] == read_manifest(run.folder(PseudoLabel())).content
    assert len(list((run.folder(Refine()).parent / ".replaced").iterdir())) == 2


def test_what_was_made_of_other_inputs_is_not_gone_on_with(
    done: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped_run(done, monkeypatch)
    markers = [path.stat().st_ino for path in run.folder(Refine()).glob("shards/*.json")]
    assert markers
    warnings: list[str] = []
    again = done.run()
    monkeypatch.setattr(again.reporter, "warn", warnings.append)
    make_again(again)
    perform(again, Refine())
    assert any("was made again, with another result, since it was stopped" in w for w in warnings)
    assert len(list((run.folder(Refine()).parent / ".replaced").iterdir())) == 2


def test_a_stopped_stage_goes_on_where_its_inputs_are_the_same(
    done: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped_run(done, monkeypatch)
    folder = run.folder(Refine())
    markers = {path.name: path.stat().st_ino for path in folder.glob("shards/*.json")}
    perform(done.run(), Refine())
    assert {path.name: path.stat().st_ino for path in folder.glob("shards/*.json")} == markers


def test_what_does_not_say_any_more_what_it_was_made_of_is_not_gone_on_with(
    done: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped_run(done, monkeypatch)
    request = run.folder(Refine()) / "request.json"
    request.write_text(request.read_text().replace('"predictions": "', '"predictions": "0', 1))
    warnings: list[str] = []
    again = done.run()
    monkeypatch.setattr(again.reporter, "warn", warnings.append)
    perform(again, Refine())
    assert any("request.json is damaged, which says what it was made of" in w for w in warnings)
    assert len(list((run.folder(Refine()).parent / ".replaced").iterdir())) == 2


def test_input_contents_of_earlier_versions_count_pages_and_logs(done: Workshop) -> None:
    from s4m_pipeline.artifacts.fingerprint import digest_of
    from s4m_pipeline.stages.train_teacher import TrainTeacher

    run = done.run()
    teacher = read_manifest(run.folder(TrainTeacher()))
    predictions = read_manifest(run.folder(PseudoLabel()))
    assert len(teacher.files) > len(teacher.input_files)
    predictions.input_contents["teacher"] = digest_of([[f.path, f.sha256] for f in teacher.files])
    write_manifest(run.folder(PseudoLabel()), predictions)
    assert freshness(done.run(), PseudoLabel()).state == "fresh"
