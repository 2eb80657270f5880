"""Tests of ``--dry-run``'s forecast from a stage's first images."""

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.commands.printing import human_seconds
from s4m_pipeline.stages.probe import PROBED, forecast
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine import Refine
from s4m_pipeline.stages.structure import Structure
from s4m_pipeline.stages.train_teacher import TrainTeacher


def test_a_forecast_counts_what_is_left_and_writes_nothing(finished):
    run = finished.run("refine.points=2")
    stage = Refine()
    images = len(run.images.unlabelled.images)
    found = forecast(run, stage)
    assert found is not None
    assert found.left == images
    assert 1 <= found.probed <= PROBED
    assert found.image_seconds > 0
    assert found.seconds == found.start_seconds + found.image_seconds * images
    assert not run.folder(stage).exists()


def test_the_forecast_of_disk_is_near_what_the_artifact_takes(finished):
    run = finished.run()
    made = run.folder(Refine())
    taken = sum(path.stat().st_size for path in made.rglob("*.parquet"))
    found = forecast(finished.run("refine.points=2"), Refine())
    assert found is not None
    assert 0.3 * taken < found.disk_bytes < 3 * taken
    assert read_table(made, "refined").num_rows > 0


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
