"""Best weights by validation: which they are, what is left of the last ones, and resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s4m_pipeline.artifacts.training_files import LAST
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.models import keeping
from s4m_pipeline.models.checkpoints import read_checkpoint
from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.models.training import TrainingSpec, train
from tests.models.stopping import Stopped, stop_after, weights

prepare()

from s4m_pipeline.models import own_measure  # noqa: E402

COURSE = {2: 0.1, 4: 0.3, 6: 0.3, 7: 0.2}
"""AP at each validation of seven iterations."""


@pytest.fixture
def best(
    spec: TrainingSpec, scenes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> TrainingSpec:
    """A training of seven steps whose validations come out as ``COURSE`` says, best at 4."""
    after = keeping.KeepBestHook.after_val_epoch

    def look(self: Any, runner: Any, metrics: Any = None) -> None:
        after(self, runner, {**metrics, own_measure.MASK_AP: COURSE[runner.iter]})

    monkeypatch.setattr(keeping.KeepBestHook, "after_val_epoch", look)
    return replace(
        spec, validation=scenes, validation_interval=2, checkpoint_interval=2, iterations=7,
        keep="best",
    )  # fmt: skip


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_checkpoint_has_the_best_weights_and_the_last_ones_stand_beside(
    best: TrainingSpec, tmp_path: Path
) -> None:
    result = train(best)
    assert result.kept == {
        "weights": "best", "iteration": 4, "measure": "coco/segm_AP", "value": 0.3,
    }  # fmt: skip
    plain = train(replace(best, keep="last", folder=tmp_path / "plain"))
    assert plain.kept == {}
    assert not (tmp_path / "plain" / LAST).exists()
    assert same(best.folder / LAST, plain.checkpoint), "choosing changes nothing in the training"
    assert not same(result.checkpoint, plain.checkpoint)
    with pytest.raises(Stopped):
        train(replace(best, keep="last", folder=tmp_path / "four", on_step=stop_after(5)))
    found = torch.load(tmp_path / "four/mmengine/iter_4.pth", weights_only=False)["state_dict"]
    averaged = read_checkpoint(result.checkpoint).weights
    assert all(torch.equal(value, found[f"network.{name}"]) for name, value in averaged.items())
    assert train(best).kept == result.kept, "a finished training is not repeated"


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 6, 7])
def test_a_stopped_training_keeps_the_same_bits(
    best: TrainingSpec, tmp_path: Path, stop: int
) -> None:
    """Also where it stops in the step whose validation is the best one, before the validation."""
    whole = train(best)
    parts = replace(best, folder=tmp_path / "parts", log_file=tmp_path / "parts.jsonl")
    with pytest.raises(Stopped):
        train(replace(parts, on_step=stop_after(stop)))
    resumed = train(parts)
    assert resumed.kept == whole.kept
    assert same(resumed.checkpoint, whole.checkpoint)
    assert same(parts.folder / LAST, best.folder / LAST)
    logs = [
        [x["iteration"] for x in map(json.loads, path.read_text().splitlines()) if "loss" not in x]
        for path in (best.log_file, parts.log_file)
    ]
    assert logs[0] == logs[1] == [2, 4, 6, 7]


def test_a_validation_that_a_stop_left_out_is_made_up_for(
    best: TrainingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(best)
    parts = replace(best, folder=tmp_path / "parts", log_file=tmp_path / "parts.jsonl")
    look = keeping.KeepBestHook.after_val_epoch

    def stops(self: Any, runner: Any, metrics: Any = None) -> None:
        if runner.iter == 4:
            raise Stopped
        look(self, runner, metrics)

    with monkeypatch.context() as patch:
        patch.setattr(keeping.KeepBestHook, "after_val_epoch", stops)
        with pytest.raises(Stopped):
            train(parts)
    assert (parts.folder / "mmengine/iter_4.pth").is_file()
    resumed = train(parts)
    assert resumed.kept == whole.kept
    assert same(resumed.checkpoint, whole.checkpoint)


@pytest.mark.parametrize("lost", [True, False])
def test_lost_best_weights_are_refused(best: TrainingSpec, lost: bool) -> None:
    with pytest.raises(Stopped):
        train(replace(best, on_step=stop_after(5)))
    path = best.folder / "mmengine" / keeping.BEST
    if lost:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="best weights of the first 4 iterations are lost"):
        train(best)
    assert train(best, resume=False).kept["iteration"] == 4


def test_the_last_weights_are_left_out_where_they_are_the_best_or_the_disk_is_full(
    best: TrainingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rising = replace(best, iterations=4, folder=tmp_path / "rising")
    assert train(rising).kept["iteration"] == 4
    assert not (rising.folder / LAST).exists()
    usage = keeping.shutil.disk_usage
    monkeypatch.setattr(
        keeping.shutil, "disk_usage", lambda path: usage(path)._replace(free=10_000)
    )
    assert train(best).kept["iteration"] == 4
    assert not (best.folder / LAST).exists()
