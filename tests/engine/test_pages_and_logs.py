"""A damaged page or log of a training costs no training."""

from __future__ import annotations

from pathlib import Path

import pytest

from s4m_pipeline.artifacts.manifest import MANIFEST, read_manifest
from s4m_pipeline.artifacts.training_files import CHECKPOINT, LOG, PAGE
from s4m_pipeline.engine.perform import freshness, perform
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.train_student import TrainStudent
from s4m_pipeline.workflow.artifact_views import verify_artifact
from s4m_pipeline.workflow.pipeline import status
from tests.workshop import Workshop


@pytest.fixture
def done(finished: Workshop, tmp_path: Path) -> Workshop:
    return finished.copy(tmp_path / "run")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_page_is_written_anew(done: Workshop, damage) -> None:
    run = done.run()
    folder = run.folder(TrainStudent())
    before = (folder / CHECKPOINT).stat()
    damage(folder / PAGE)
    assert {row["state"] for row in status(done.run())} == {"fresh"}
    perform(done.run(), TrainStudent())
    verify_artifact(folder)
    assert (folder / CHECKPOINT).stat().st_mtime_ns == before.st_mtime_ns
    assert {row["state"] for row in status(done.run())} == {"fresh"}
    assert freshness(done.run(), Evaluate("student")).state == "fresh"


def test_a_page_that_cannot_be_written_anew_is_told_and_no_more(done: Workshop) -> None:
    run = done.run()
    folder = run.folder(TrainStudent())
    (folder / PAGE).unlink()
    for path in (done.folder / "work" / "refine").glob(f"*/{MANIFEST}"):
        path.unlink()
    before = read_manifest(folder)
    assert perform(done.run(), TrainStudent()).files == before.files


def test_a_damaged_log_is_told_and_the_training_stays_fresh(done: Workshop, s4m) -> None:
    run = done.run()
    folder = run.folder(TrainStudent())
    flip(folder / LOG)
    code, _, err = s4m("train-student", "-c", done.config)
    assert code == 0
    assert f"{LOG}: its SHA-256 is not the manifest's; nothing but this file is affected" in err
    report = ("report", "-c", done.config, "--stage", "train-student", "--out", done.folder / "a")
    code, _, err = s4m(*report)
    assert code == 0
    assert "its curves may be wrong" in err
    (folder / LOG).unlink()
    code, _, err = s4m(*report)
    assert code == 3
    assert "log.jsonl: missing" in err
