"""A student's training: fixed shares of both kinds, everything switched on, stopped and resumed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s4m_pipeline.config import StudentSection
from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.training import TrainingSpec, resume_iteration, train
from tests.models.stopping import Stopped, stop_after, weights


@pytest.fixture
def student(spec: TrainingSpec, refined: dict[str, Any]) -> TrainingSpec:
    """A student of six images a step, four of them unlabelled, with all that can be asked for."""
    return replace(
        spec,
        unlabelled=refined,
        labelled_batch=2,
        unlabelled_batch=4,
        repeat_threshold=10.0,
        iterations=5,
        checkpoint_interval=2,
        paste="dynamic",
        paste_min_area=0.001,
        losses=StudentLosses(
            class_weight=1.0, class_temperature=2.0, quality_weight=True, ignore_score=0.3
        ),
    )


def watch(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """Collect the data samples of every step."""
    from s4m_pipeline.models.openmmlab import prepare

    prepare()
    from s4m_pipeline.models.training_wrapper import TrainingWrapper

    seen: list[list[Any]] = []
    loss = TrainingWrapper.loss

    def watched(self: Any, inputs: torch.Tensor, samples: list[Any]) -> dict[str, Any]:
        seen.append(samples)
        return loss(self, inputs, samples)

    monkeypatch.setattr(TrainingWrapper, "loss", watched)
    return seen


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stopped_student_ends_with_the_same_bits(
    student: TrainingSpec, tmp_path: Path, workers: int
) -> None:
    whole = train(student)
    parts = replace(
        student, folder=tmp_path / "parts", log_file=tmp_path / "parts.jsonl", workers=workers
    )
    with pytest.raises(Stopped):
        train(replace(parts, on_step=stop_after(3)))
    assert resume_iteration(parts.folder) == 2
    resumed = train(parts)
    first, second = weights(whole.checkpoint), weights(resumed.checkpoint)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_every_batch_has_its_shares_and_what_the_settings_ask_for(
    student: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch)
    train(student)
    assert len(seen) == 5
    for samples in seen:
        branches = Counter(sample.metainfo["branch"] for sample in samples)
        assert branches == {"labelled": 2, "unlabelled": 4}
        for sample in samples:
            unlabelled = sample.metainfo["branch"] == "unlabelled"
            assert ("quality" in sample.gt_instances) == unlabelled
            assert ("class_probs" in sample.gt_instances) == unlabelled
            assert unlabelled or not len(sample.ignored_instances)
    unlabelled = [s for samples in seen for s in samples[2:]]
    assert sum(len(sample.ignored_instances) for sample in unlabelled) > 5
    assert len({q for s in unlabelled for q in s.gt_instances.quality.tolist()}) > 4


def test_paste_adds_instances_to_half_of_the_unlabelled_images(
    student: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch(monkeypatch)
    losses = replace(student.losses, ignore_score=None)
    quiet = replace(student, losses=losses, iterations=4)
    train(replace(quiet, paste="off", folder=student.folder / "off"))
    off = [[len(s.gt_instances) for s in samples] for samples in seen]
    seen.clear()
    train(replace(quiet, folder=student.folder / "on"))
    on = [[len(s.gt_instances) for s in samples] for samples in seen]
    changed = [[a != b for a, b in zip(x, y, strict=True)] for x, y in zip(off, on, strict=True)]
    assert not any(any(batch[:2]) for batch in changed), "labelled images do not trade"
    assert all(sum(batch) <= 2 for batch in changed)
    assert sum(map(sum, changed)) >= 4


def test_each_switch_changes_the_unlabelled_side_alone(student: TrainingSpec) -> None:
    plain = replace(student, paste="off", losses=StudentLosses(), iterations=1)
    steps: dict[str, dict[str, float]] = {}

    def first_step(name: str, **changes: Any) -> dict[str, float]:
        spec = replace(plain, **changes, folder=student.folder / name)
        train(replace(spec, on_step=lambda _, losses: steps.update({name: dict(losses)})))
        return steps[name]

    base = first_step("base")
    switches: dict[str, dict[str, Any]] = {
        "paste": {"paste": "static"},
        "quality_weight": {"losses": StudentLosses(quality_weight=True)},
        "ignore_score": {"losses": StudentLosses(ignore_score=0.3)},
    }
    for name, changes in switches.items():
        losses = first_step(name, **changes)
        assert losses.keys() == base.keys()
        for key in base:
            if not key.startswith("unlabelled_") and key != "loss":
                assert losses[key] == base[key], (name, key)
        assert losses["unlabelled_loss_mask"] != base["unlabelled_loss_mask"], name
    assert first_step("same", paste_min_area=0.5) == base
    cold, warm = (
        first_step(f"T{t}", losses=StudentLosses(class_weight=1.0, class_temperature=t))
        for t in (1.0, 3.0)
    )
    assert cold["unlabelled_loss_cls"] == warm["unlabelled_loss_cls"]
    assert cold["loss_class_distillation"] != warm["loss_class_distillation"]


def test_the_average_is_the_papers_and_leaves_its_start_behind() -> None:
    from s4m_pipeline.models.ema import effective_decay

    assert StudentSection().ema == 0.9996
    assert effective_decay(StudentSection().ema, 30000) == 0.9996
    assert effective_decay(StudentSection().ema, 100) == pytest.approx(101 / 110)


def test_paste_needs_two_unlabelled_images(student: TrainingSpec) -> None:
    with pytest.raises(UsageError, match="paste needs two unlabelled images"):
        train(replace(student, labelled_batch=2, unlabelled_batch=1))
