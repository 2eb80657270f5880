"""A training cut into legs: to the last bit the one that is not, wherever it is cut or stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s4m_pipeline.artifacts.training_files import CHECKPOINT, LAST, LOG, STATE
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models import keeping
from s4m_pipeline.models.checkpoints import read_checkpoint
from s4m_pipeline.models.legs import take_up
from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.models.training import TrainingResult, TrainingSpec, resume_iteration, train
from tests.models.stopping import Stopped, stop_after, weights

prepare()

from s4m_pipeline.models import own_measure  # noqa: E402

COURSE = {2: 0.1, 4: 0.3, 6: 0.2, 7: 0.25}
"""AP at each validation; the best comes where the second leg ends."""
ENDS = (3, 4, None)
"""Between two validations and at one; then the training's end."""


@pytest.fixture
def student(
    spec: TrainingSpec,
    scenes: dict[str, Any],
    refined: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> TrainingSpec:
    """A student of seven steps, validated every second one, with averaged weights."""
    after = keeping.KeepBestHook.after_val_epoch

    def look(self: Any, runner: Any, metrics: Any = None) -> None:
        after(self, runner, {**metrics, own_measure.MASK_AP: COURSE[runner.iter]})

    monkeypatch.setattr(keeping.KeepBestHook, "after_val_epoch", look)
    return replace(
        spec,
        unlabelled=refined,
        unlabelled_batch=2,
        iterations=7,
        checkpoint_interval=5,
        validation=scenes,
        validation_interval=2,
    )


def in_folder(spec: TrainingSpec, folder: Path, **changes: Any) -> TrainingSpec:
    return replace(spec, folder=folder, log_file=folder / LOG, **changes)


def legs(spec: TrainingSpec, folder: Path) -> Iterator[TrainingSpec]:
    """The legs' specs, each taken up where the one before ended once that is there."""
    before: TrainingSpec | None = None
    for number, end in enumerate(ENDS):
        leg = in_folder(spec, folder / str(number), until=end)
        if before is not None:
            take_up(leg.folder, before.folder, before.end)
        yield leg
        before = leg


def assert_same(first: Path, second: Path) -> None:
    """The same weights, of the average and of the last step, and the same validations."""
    for name in (CHECKPOINT, LAST):
        assert (first / name).is_file() == (second / name).is_file()
        if (first / name).is_file():
            one, other = weights(first / name), weights(second / name)
            assert one.keys() == other.keys()
            assert all(torch.equal(value, other[key]) for key, value in one.items())
    logs = [[json.loads(x) for x in (f / LOG).read_text().splitlines()] for f in (first, second)]
    seen = [[line for line in log if "learning_rate" not in line] for log in logs]
    assert seen[0] == seen[1]
    rates = [{x["iteration"]: x["learning_rate"] for x in log if "loss" in x} for log in logs]
    assert rates[0].items() <= rates[1].items()


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_in_legs_is_the_whole_one(
    student: TrainingSpec, tmp_path: Path, keep: str, workers: int
) -> None:
    student = replace(student, keep=keep, workers=workers)
    whole = train(in_folder(student, tmp_path / "whole"))
    results = [train(leg) for leg in legs(student, tmp_path)]
    assert [result.iterations for result in results] == [3, 4, 7]
    assert_same(tmp_path / "whole", tmp_path / "2")
    assert results[-1].kept == whole.kept
    assert not (tmp_path / "2" / STATE).exists()


def test_a_leg_leaves_the_averaged_weights_of_its_end_and_its_state(
    student: TrainingSpec, tmp_path: Path
) -> None:
    """Also where the training keeps its best ones, which are others."""
    results = [train(leg) for leg in legs(replace(student, keep="best"), tmp_path)]
    for number, end, state in ((0, 3, {"iter_3.pth", "best.pth"}), (1, 4, {"iter_4.pth"})):
        folder = tmp_path / str(number)
        found = torch.load(folder / STATE / f"iter_{end}.pth", weights_only=False)
        averaged = read_checkpoint(folder / CHECKPOINT)
        assert averaged.iterations == end
        for name, value in averaged.weights.items():
            assert torch.equal(value, found["state_dict"][f"network.{name}"])
        names = {path.name for path in (folder / STATE).iterdir() if path.suffix == ".pth"}
        assert state <= names
        assert results[number].kept == {}
        assert not (folder / "mmengine").exists()


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("stop", [3, 4, 6])
def test_a_leg_that_is_stopped_goes_on(
    student: TrainingSpec, tmp_path: Path, keep: str, stop: int
) -> None:
    """In its middle, and in its last step after the checkpoint, with a validation due or not."""
    student = replace(student, keep=keep, checkpoint_interval=1)
    train(in_folder(student, tmp_path / "whole"))
    stopped = 0
    for number, leg in enumerate(legs(student, tmp_path)):
        try:
            train(replace(leg, on_step=stop_after(stop)))
        except Stopped:
            stopped += 1
            if number:  # as its stage does at each try
                take_up(leg.folder, tmp_path / str(number - 1), ENDS[number - 1] or 0)
            train(leg)
    assert stopped == 1
    assert_same(tmp_path / "whole", tmp_path / "2")


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_validation_at_a_legs_end_that_a_stop_left_out_is_made_up_for(
    student: TrainingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    from mmengine.runner import ValLoop

    student = replace(student, keep=keep)
    train(in_folder(student, tmp_path / "whole"))
    run = ValLoop.run

    def stops(self: Any) -> Any:
        if self.runner.iter == 4:
            raise Stopped
        return run(self)

    for leg in legs(student, tmp_path):
        if leg.until == 4:
            with monkeypatch.context() as patch:
                patch.setattr(ValLoop, "run", stops)
                with pytest.raises(Stopped):
                    train(leg)
            assert resume_iteration(leg.folder) == 4
        train(leg)
    assert_same(tmp_path / "whole", tmp_path / "2")


def test_a_kill_between_the_files_of_a_leg_loses_nothing(
    student: TrainingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s4m_pipeline.models import legs as at_work
    from s4m_pipeline.models import training

    student = replace(student, keep="best")
    train(in_folder(student, tmp_path / "whole"))
    copy, copies = at_work._copy, []

    def stops(source: Path, target: Path) -> None:
        if len(copies) in (1, 3):
            copies.append("stopped")
            raise Stopped
        copies.append(target.name)
        copy(source, target)

    begun = in_folder(student, tmp_path / "0", until=3)
    with monkeypatch.context() as patch:
        patch.setattr(training, "keep_state", lambda *_: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            train(begun)
    train(begun)
    with monkeypatch.context() as patch:
        patch.setattr(at_work, "_copy", stops)
        for _ in range(2):
            with pytest.raises(Stopped):
                take_up(tmp_path / "1", begun.folder, 3)
    for leg in legs(student, tmp_path):
        train(leg)
    assert_same(tmp_path / "whole", tmp_path / "2")


def test_a_finished_leg_is_not_trained_again_unless_its_state_is_lost(
    student: TrainingSpec, tmp_path: Path
) -> None:
    steps: list[int] = []
    leg = in_folder(student, tmp_path / "0", until=3, on_step=lambda i, _: steps.append(i))
    first: TrainingResult = train(leg)
    assert train(leg).losses == first.losses
    assert steps == [1, 2, 3]
    before = weights(first.checkpoint)
    shutil.rmtree(leg.folder / STATE)
    after = weights(train(leg).checkpoint)
    assert steps == [1, 2, 3, 1, 2, 3]
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_state_that_asks_for_more_than_a_training_is_refused(
    student: TrainingSpec, tmp_path: Path
) -> None:
    """The state of a leg is read as every checkpoint that a training goes on from."""
    first, second = (in_folder(student, tmp_path / str(n), until=3 + n) for n in (0, 1))
    train(first)
    take_up(second.folder, first.folder, 3)
    path = second.folder / "mmengine" / "iter_3.pth"
    path.unlink()
    torch.save({"meta": print}, path)
    (path.with_name(path.name + ".sha256")).unlink()
    with pytest.raises(UsageError, match="not a checkpoint that can be read safely"):
        train(second)
