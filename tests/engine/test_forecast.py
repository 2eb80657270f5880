"""Tests of ``--dry-run``'s forecast from a stage's first images."""

import pytest
import torch

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.commands.printing import human_seconds
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.engine import sharded
from s4m_pipeline.engine.forecast import PROBED, forecast
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.engine.sharded import warn_of_idle_gpus
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.refine.worker import RefineWorker
from s4m_pipeline.stages.structure import Structure
from s4m_pipeline.stages.train_teacher import TrainTeacher


def test_a_forecast_counts_what_is_left_and_writes_nothing(finished):
    run = finished.run("refine.points=2")
    stage = Refine()
    images = len(run.images.unlabelled.images)
    probe = forecast(run, stage)
    assert probe is not None
    assert probe.left == images
    assert 1 <= probe.probed <= PROBED
    assert probe.image_seconds > 0
    assert probe.seconds == probe.start_seconds + probe.image_seconds * images
    assert not run.folder(stage).exists()


def test_the_forecast_is_of_a_worker_beside_the_others(finished, monkeypatch):
    run = finished.run("refine.points=2", "execution.workers=3")
    assert len(Refine().shards(run)) == 2  # so a third worker would have nothing to do
    places, threads = [], []
    real = RefineWorker.__init__

    def noting_init(self, stage, task, place):
        places.append(place)
        real(self, stage, task, place)
        threads.append(torch.get_num_threads())

    monkeypatch.setattr(RefineWorker, "__init__", noting_init)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    probe = forecast(run, Refine())
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert (places, threads, after) == ([Place(0, 2)], [3], 4)
    assert probe.seconds == pytest.approx(probe.start_seconds + probe.image_seconds * 18 / 2)


def test_labels_without_a_segmenter_are_forecast_without_the_runs_device(finished, s4m):
    settings = ("refine.policy=none", "student.structure_weight=0", "device=cuda:7")
    code, out, err = s4m("refine", "-c", finished.config, *settings, "--dry-run")
    assert code == 0, err
    assert "images on cpu:" in out


def test_there_is_no_forecast_of_predictions_whose_teachers_are_yet_to_be_trained(finished, s4m):
    settings = ("refine.policy=none", "student.structure_weight=0")
    settings = (*settings, "pseudo_label.thresholds=precision")
    code, out, err = s4m("refine", "--calibrate", "-c", finished.config, *settings, "--dry-run")
    assert code == 0, err
    assert "cross-fit" in out
    assert "forecast from" not in out


def test_gpus_that_a_run_leaves_idle_are_told_once(finished, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    run = finished.run("execution.workers=3")
    warn_of_idle_gpus(run, "cuda")
    warn_of_idle_gpus(run, "cuda")
    (line,) = capsys.readouterr().err.splitlines()
    assert "execution.workers is 3" in line
    assert "1 of 4 GPUs idle" in line
    for device in ("cpu", "cuda:1"):
        warn_of_idle_gpus(finished.run(), device)
    warn_of_idle_gpus(finished.run("execution.workers=4"), "cuda")
    assert capsys.readouterr().err == ""


def test_a_stage_at_work_tells_of_idle_gpus(finished, tmp_path, monkeypatch):
    devices = []
    monkeypatch.setattr(sharded, "warn_of_idle_gpus", lambda run, device: devices.append(device))
    copy = finished.copy(tmp_path / "run")
    perform(copy.run("refine.points=2"), Refine())
    perform(copy.run("refine.policy=none", "student.structure_weight=0"), Refine())
    assert devices == ["cpu", "cpu"]


def test_the_forecast_of_disk_is_near_what_the_artifact_takes(finished):
    run = finished.run()
    folder = run.folder(Refine())
    taken = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    probe = forecast(finished.run("refine.points=2"), Refine())
    assert probe is not None
    assert 0.3 * taken < probe.disk_bytes < 3 * taken
    assert read_table(folder, "refined").num_rows > 0


def test_there_is_no_forecast_of_what_is_fresh_or_no_inference_or_lacks_its_input(finished):
    assert forecast(finished.run(), Refine()) is None
    assert forecast(finished.run("teacher.iterations=77"), TrainTeacher()) is None
    assert forecast(finished.run("teacher.iterations=77"), PseudoLabel()) is None


def test_refine_dry_run_prints_it(finished, s4m):
    code, out, _ = s4m("refine", "-c", finished.config, "refine.points=2", "--dry-run")
    assert code == 0
    (line,) = [text for text in out.splitlines() if text.startswith("forecast from")]
    assert "s an image after" in line
    assert "images with 1 worker:" in line


def test_times_read_well():
    assert [human_seconds(s) for s in (12.34, 90, 7200, 200_000)] == [
        "12.3 s",
        "1.5 min",
        "2 h",
        "2.31 days",
    ]


def test_shards_can_be_cut_where_an_image_takes_less_than_a_byte(finished):
    run = finished.run("structure.points=1", "structure.grid=1")
    assert sum(len(shard.image_ids) for shard in Structure().shards(run)) == 5
