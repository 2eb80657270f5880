"""A training whose loss or weights are no numbers ends with one clear error, and spoils nothing."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from s4m_pipeline.artifacts.digest_beside import write_digest
from s4m_pipeline.models import training
from s4m_pipeline.models.divergence import DivergedError, NotFiniteError
from s4m_pipeline.models.hooks import read_log
from s4m_pipeline.models.mask2former.matching import match
from s4m_pipeline.models.training import TrainingSpec, newest_checkpoint, resume_iteration, train
from s4m_pipeline.models.training_wrapper import TrainingWrapper
from tests.models.test_mask_rcnn import mask_rcnn as mask_rcnn


def checkpoints(spec: TrainingSpec) -> list[Path]:
    return sorted((spec.folder / training.WORK_FOLDER).glob("iter_*.pth"))


@pytest.mark.parametrize("model", ["mask2former", "mask_rcnn"])
def test_weights_that_overflow_end_the_training_before_a_checkpoint_holds_them(
    spec: TrainingSpec, mask_rcnn: Path, model: str
) -> None:
    own = spec.model if model == "mask2former" else mask_rcnn
    spec = replace(spec, model=own, learning_rate=1e30, checkpoint_interval=1)
    with pytest.raises(DivergedError, match=r"at iteration 1 \(the weights are not finite\)"):
        train(spec)
    assert checkpoints(spec) == []
    assert not (spec.folder / training.CHECKPOINT).exists()


@pytest.mark.parametrize("model", ["mask2former", "mask_rcnn"])
def test_a_loss_that_is_not_finite_ends_the_training(
    spec: TrainingSpec, mask_rcnn: Path, model: str
) -> None:
    own = spec.model if model == "mask2former" else mask_rcnn
    spec = replace(spec, model=own, learning_rate=1e10, checkpoint_interval=1)
    with pytest.raises(DivergedError, match=r"at iteration 2 \(the loss is not finite\)"):
        train(spec)
    (only,) = checkpoints(spec)
    stored = torch.load(only, weights_only=False)["state_dict"]
    assert all(value.isfinite().all() for value in stored.values())
    assert all(math.isfinite(line["loss"]) for line in read_log(spec.log_file))
    assert resume_iteration(spec.folder) == 1
    with pytest.raises(DivergedError, match="at iteration 2 "):
        train(spec)  # goes on from the finite weights, and says the same again


def test_a_checkpoint_without_numbers_is_not_trained_on_silently(spec: TrainingSpec) -> None:
    spec = replace(spec, iterations=4, checkpoint_interval=2)

    def stop(iteration: int, _: dict[str, float]) -> None:
        if iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(replace(spec, on_step=stop))
    path = newest_checkpoint(spec.folder / training.WORK_FOLDER)
    assert path is not None
    stored = torch.load(path, weights_only=False)
    for state in (stored["state_dict"], stored["ema_state_dict"]):  # the averaged and the last
        for weight in (value for value in state.values() if value.is_floating_point()):
            weight.fill_(math.nan)
    torch.save(stored, path)
    write_digest(path)
    with pytest.raises(DivergedError, match="at iteration 3 "):
        train(spec)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_costs_without_numbers_are_not_matched(wrong: float) -> None:
    costs = torch.zeros(4, 2)
    match([[costs]])
    costs[1, 1] = wrong
    with pytest.raises(NotFiniteError, match="loss"):
        match([[torch.zeros(3, 1), costs]])


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_the_size_of_weights_is_their_norm_and_tells_of_any_that_is_no_number(wrong: float) -> None:
    plain = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    plain[0].bias.requires_grad = False
    norm = torch.cat([w.flatten() for w in plain.parameters() if w.requires_grad]).norm()
    assert TrainingWrapper._size_of_weights(plain).item() == pytest.approx(norm.item())
    plain[1].bias.data.fill_(wrong)
    assert not math.isfinite(TrainingWrapper._size_of_weights(plain).item())
