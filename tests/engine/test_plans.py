"""Tests of what ``--dry-run`` prints, as a table and as JSON."""

import json

import pytest

from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.stage import Refine


def test_a_forced_plan_makes_again_what_is_fresh(finished, s4m):
    code, out, _ = s4m("train-teacher", "-c", finished.config, "--dry-run", "--force")
    assert code == 0
    assert "made again (--force)" in out
    assert "400 MB" in out
    _, out, _ = s4m("train-teacher", "-c", finished.config, "--dry-run")
    assert "nothing, it is fresh" in out
    assert "400 MB" not in out


def test_a_forced_plan_counts_no_shard_of_an_unfinished_artifact(finished, tmp_path, s4m):
    copy = finished.copy(tmp_path / "run")
    (copy.run().folder(Refine()) / "manifest.json").unlink()
    images = len(copy.run().images.unlabelled.images)
    for flags, shards, todo, left in (
        ((), "2/2", "stopped before", 0),
        (("--force",), "0/2", "begun anew (--force)", images),
    ):
        code, out, err = s4m("refine", "-c", copy.config, "--dry-run", *flags)
        assert code == 0, err
        assert (shards in out, todo in out) == (True, True), out
        assert f"; {left} images with" in out


def test_a_plan_of_evaluations_as_json_is_json_alone(finished, s4m):
    asked = ("evaluate", "--compare", "-c", finished.config, "--dry-run", "--json")
    code, out, err = s4m(*asked)
    assert code == 0, err
    rows = json.loads(out)
    assert [row["stage"] for row in rows] == [
        "evaluate teacher",
        "evaluate student",
        "evaluate student-last",
    ]
    assert [row["state"] for row in rows[:2]] == ["fresh", "fresh"]
    assert [row["disk_bytes"] for row in rows] == [None, None, 1_000_000]
    plan = Evaluate("teacher").plan(finished.run())
    assert {row["images"] for row in rows} == {plan.images}
    code, out, _ = s4m(*asked, "--force")
    assert [row["to_do"] for row in json.loads(out)[:2]] == ["made again (--force)"] * 2


def test_a_plan_of_a_calibration_as_json_is_json_alone(finished, s4m):
    asked = ("refine", "--calibrate", "-c", finished.config, "calibration.iterations=3")
    code, out, err = s4m(*asked, "--dry-run", "--json")
    assert code == 0, err
    fit, measure = json.loads(out)
    assert (fit["stage"], measure["stage"]) == ("cross-fit", "calibrate")
    assert (fit["iterations"], fit["shards"], fit["shards_done"]) == (6, 1, 0)


@pytest.mark.parametrize(
    ("command", "setting", "why"),
    [
        ("refine", "teacher.iterations=77", "pseudo-label is stale"),
        ("pseudo-label", "teacher.iterations=77", "train-teacher is stale"),
        ("refine", "work_dir=elsewhere", "pseudo-label is missing"),
    ],
)
def test_a_plan_says_why_it_has_no_forecast(finished, s4m, command, setting, why):
    code, out, err = s4m(command, "-c", finished.config, setting, "--dry-run")
    assert code == 0
    assert err.splitlines() == [f"no forecast: {why}"]
    assert "forecast" not in out


@pytest.mark.parametrize("command", ["refine", "train-teacher"])
def test_what_is_fresh_or_a_training_lacks_no_forecast(finished, s4m, command):
    code, _, err = s4m(command, "-c", finished.config, "--dry-run")
    assert (code, err) == (0, "")


def test_a_forced_stage_is_forecast_though_it_is_fresh(finished, s4m):
    images = len(finished.run().images.unlabelled.images)
    folder = finished.run().folder(PseudoLabel())
    before = (folder / "manifest.json").read_bytes()
    code, out, err = s4m("pseudo-label", "-c", finished.config, "--dry-run", "--force")
    assert code == 0, err
    assert f"; {images} images with 1 worker:" in out
    assert (folder / "manifest.json").read_bytes() == before


def test_help_says_what_json_goes_with(s4m):
    code, out, _ = s4m("refine", "--help")
    assert code == 0
    assert "with --calibrate only" in " ".join(out.split())
