"""Held-out labels: predicted as unlabelled images are, and written under a name of their own."""

from __future__ import annotations

from pathlib import Path

from s4m_pipeline.artifacts.manifest import read_manifest
from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.stages.calibration.held_out import HeldOut
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from tests.workshop import Workshop


def test_its_rows_and_times_say_held_out(finished: Workshop, tmp_path: Path) -> None:
    copy = finished.copy(tmp_path / "run")
    image = sorted((copy.folder / "scenes" / "validation").iterdir())[0]
    image.write_bytes(image.read_bytes()[:100])
    run = copy.run()
    manifest = perform(run, HeldOut())
    folder = run.folder(HeldOut())
    (row,) = read_table(folder, "quarantine").to_pylist()
    assert (row["file_name"], row["stage"]) == (image.name, "held-out")
    assert manifest.counts["quarantined"] == 1
    assert set(manifest.metrics["seconds"]) == {"held-out"}
    assert manifest.stage == "held-out"


def test_predictions_say_the_stage_that_made_them(finished: Workshop) -> None:
    run = finished.run()
    manifest = read_manifest(run.folder(PseudoLabel()))
    assert set(manifest.metrics["seconds"]) == {"pseudo-label"}


def test_it_shares_worker_and_task_with_pseudo_label_and_not_the_images() -> None:
    assert HeldOut().worker == PseudoLabel().worker
    assert not issubclass(HeldOut, PseudoLabel)
    assert (HeldOut.images.name, PseudoLabel.images.name) == ("validation", "unlabelled")
