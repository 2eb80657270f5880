"""What kills leave behind, and work folders that vanish."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from s4m_pipeline.artifacts import collecting, leftovers
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.engine.registry import STAGES, stage_named
from s4m_pipeline.errors import S4MError
from s4m_pipeline.models.hooks import JsonLinesHook


def _old(path: Path) -> Path:
    path.write_text("half")
    before = time.time() - 2 * leftovers.OLD_SECONDS
    os.utime(path, (before, before))
    return path


def test_the_next_run_clears_what_a_kill_left(finished, tmp_path):
    own = finished.copy(tmp_path / "run")
    folder = own.run().folder(stage_named("refine"))
    whole = sorted(p.name for p in folder.rglob("*"))
    (folder / "manifest.json").unlink()
    (folder / "shards" / "00000.json").unlink()
    for name in (
        "manifest.json.123.partial",
        "refined/00000.parquet.partial",
        "shards/00000.json.77.partial",
        "checkpoint.pth.part",
        ".labels.arrow.5.partial",
    ):
        (folder / name).write_text("half")
    work = own.folder / "work"
    old = [_old(work / ".digests.9.tmp"), _old(work / "refine" / ".latest.9.partial")]
    young = work / "structure" / ".latest.9.partial"
    young.write_text("half")
    perform(own.run(), stage_named("refine"))
    assert sorted(p.name for p in folder.rglob("*")) == whole
    assert not any(path.exists() for path in old)
    assert young.exists()


def test_gc_clears_them_as_well(finished, tmp_path, s4m):
    work = finished.copy(tmp_path / "run").folder / "work"
    old = [_old(work / ".digests.9.tmp"), _old(work / "refine" / ".latest-student.9.partial")]
    assert s4m("artifacts", "gc", work)[1].split() == [str(path) for path in old]
    assert all(path.exists() for path in old)
    assert s4m("artifacts", "gc", work, "--remove")[0] == 0
    assert not any(path.exists() for path in old)
    assert s4m("artifacts", "gc", work, "--remove")[1] == ""


def test_a_removal_that_is_stopped_is_ended_by_the_next(finished, tmp_path, monkeypatch):
    own = finished.copy(tmp_path / "run")
    store = own.run().store
    folder = own.run().folder(stage_named("refine"))

    (folder.parent / "latest").write_text("f" * 16)
    store.set_aside("refine", folder.name)
    (found,) = collecting.leftovers(store, STAGES)
    found.path.rename(folder)

    def stops(path: Path) -> None:
        del path
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stops)
        with pytest.raises(KeyboardInterrupt):
            collecting.remove(store, replace(found, path=folder))
    assert not folder.exists()
    (left,) = collecting.leftovers(store, STAGES)
    collecting.remove(store, left)
    assert collecting.leftovers(store, STAGES) == []


class Vanishing(JsonLinesHook):
    """Takes the folder away at the fifth step, before the checkpoint of the tenth."""

    how = staticmethod(shutil.rmtree)

    def after_train_iter(self, runner, *rest, **named):
        if runner.iter == 4:
            type(self).how(self.path.parent)
        super().after_train_iter(runner, *rest, **named)


def _replace(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.mkdir()


@pytest.mark.parametrize("how", [shutil.rmtree, _replace])
def test_a_work_folder_that_vanishes_ends_a_training(finished, tmp_path, monkeypatch, how):
    own = finished.copy(tmp_path / "run")
    monkeypatch.setattr(Vanishing, "how", staticmethod(how))
    monkeypatch.setattr("s4m_pipeline.models.runner.JsonLinesHook", Vanishing)
    run = own.run("seed=2", "teacher.structure_weight=0")
    folder = run.folder(stage_named("train-teacher"))
    with pytest.raises(S4MError) as raised:
        perform(run, stage_named("train-teacher"))
    first, second = str(raised.value).splitlines()
    assert first == f"{folder}: was removed or taken away; the training ends after 5 iterations."
    assert second.endswith("run it again.")
    assert not list(folder.glob("*.pth"))


def test_an_artifact_that_vanishes_while_it_is_made_is_not_finished(
    finished, tmp_path, monkeypatch
):
    own = finished.copy(tmp_path / "run")
    stage, run = stage_named("refine"), own.run("refine.min_agreement=0.1")
    folder = run.folder(stage)
    make = type(stage).make

    def vanishes(self, run, folder):
        outcome = make(self, run, folder)
        shutil.rmtree(folder)
        folder.mkdir()
        return outcome

    monkeypatch.setattr(type(stage), "make", vanishes)
    with pytest.raises(S4MError, match=r"was removed while it was being made\.\nMake it again"):
        perform(run, stage)
    assert not (folder / "manifest.json").exists()
