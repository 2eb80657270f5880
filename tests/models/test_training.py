import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models import training
from s4m_pipeline.models.checkpoints import read_checkpoint
from s4m_pipeline.models.hooks import JsonLinesHook, read_log
from s4m_pipeline.models.loops import _Batches
from s4m_pipeline.models.training import (
    TrainingSpec,
    newest_checkpoint,
    resume_iteration,
    train,
)
from tests.models.stopping import Stopped, stop_after, weights


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stopped_training_ends_with_the_same_bits(
    spec: TrainingSpec, tmp_path: Path, workers: int
) -> None:
    spec = replace(spec, iterations=6, checkpoint_interval=3)
    whole = train(spec)
    parts = replace(
        spec, folder=tmp_path / "parts", log_file=tmp_path / "parts.jsonl", workers=workers
    )
    with pytest.raises(Stopped):
        train(replace(parts, on_step=stop_after(4)))
    assert (parts.folder / training.WORK_FOLDER / "iter_3.pth").is_file()
    assert resume_iteration(parts.folder) == 3
    steps: list[int] = []
    resumed = train(replace(parts, on_step=lambda iteration, _: steps.append(iteration)))
    assert steps == [4, 5, 6]
    first, second = weights(whole.checkpoint), weights(resumed.checkpoint)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    changed = [
        name
        for name, value in read_checkpoint(whole.checkpoint).weights.items()
        if not torch.equal(value, first[f"last {name}"])
    ]
    assert changed, "the averaged weights are the last ones"


def test_a_finished_training_is_not_done_again_unless_asked(spec: TrainingSpec) -> None:
    result = train(spec)
    before = result.checkpoint.stat().st_mtime_ns
    steps: list[int] = []
    watched = replace(spec, on_step=lambda iteration, _: steps.append(iteration))
    assert train(watched).losses == result.losses
    assert steps == []
    assert result.checkpoint.stat().st_mtime_ns == before
    train(watched, resume=False)
    assert steps == [1, 2]
    assert not (spec.folder / training.WORK_FOLDER).exists()


def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(100)}, tmp_path / "iter_5.pth")
    whole = (tmp_path / "iter_5.pth").read_bytes()
    (tmp_path / "iter_10.pth").write_bytes(whole[: len(whole) // 2])
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "iter_5.pth"
    work = tmp_path / "training" / training.WORK_FOLDER
    assert resume_iteration(tmp_path / "training") == 0
    work.mkdir(parents=True)
    assert resume_iteration(tmp_path / "training") == 0
    for name in ("iter_5.pth", "iter_10.pth"):
        (tmp_path / name).rename(work / name)
    assert resume_iteration(tmp_path / "training") == 5


@pytest.mark.parametrize("moment", ["before_val_epoch", "after_val_epoch"])
def test_a_training_stopped_in_its_last_validation_validates_again(
    spec: TrainingSpec,
    scenes: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    spec = replace(spec, validation=scenes)
    whole = train(spec)
    parts = replace(spec, folder=tmp_path / "parts", log_file=tmp_path / "parts.jsonl")
    original = getattr(JsonLinesHook, moment)

    def stop(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(JsonLinesHook, moment, stop)
        with pytest.raises(Stopped):
            train(parts)
    assert not (parts.folder / training.CHECKPOINT).exists()
    assert resume_iteration(parts.folder) == 2
    steps: list[int] = []
    resumed = train(replace(parts, on_step=lambda iteration, _: steps.append(iteration)))
    assert steps == []
    assert "coco/segm_mAP" in resumed.metrics
    assert resumed.metrics.keys() == whole.metrics.keys()
    for name in (name for name in whole.metrics if name.startswith("coco/")):
        assert resumed.metrics[name] == pytest.approx(whole.metrics[name], nan_ok=True), name
    log = read_log(parts.log_file)
    assert [line["iteration"] for line in log] == [2, 2]
    assert ["learning_rate" in line for line in log] == [True, False]
    first, second = weights(whole.checkpoint), weights(resumed.checkpoint)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_log_and_result_tell_losses_and_validation(
    spec: TrainingSpec, scenes: dict[str, Any]
) -> None:
    result = train(replace(spec, validation=scenes, validation_interval=1))
    log = read_log(spec.log_file)
    assert [line["iteration"] for line in log] == [1, 2, 2]
    assert log[1]["loss"] > 0
    assert result.losses == {k: v for k, v in log[1].items() if k != "iteration"}
    assert "learning_rate" in result.losses
    assert 0 < log[1]["data_seconds"] < log[1]["seconds"]
    assert result.metrics["coco/segm_mAP"] == log[2]["coco/segm_mAP"]
    assert all(json.loads(json.dumps(line)) == line for line in log)


def test_the_wait_for_batches_is_timed_but_not_that_for_skipped_ones() -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.05)
            yield number

    batches = _Batches(slow(), count=2)
    assert [next(batches), next(batches), batches.waited] == [None, None, 0]
    assert list(batches) == [0, 1, 2]
    assert batches.waited >= 0.15


def test_both_sides_of_a_batch_are_trained_on(spec: TrainingSpec, scenes: dict[str, Any]) -> None:
    unlabelled = {**scenes, "branch": "unlabelled"}
    seen: dict[str, float] = {}
    both = replace(spec, labelled_batch=1, unlabelled_batch=1, unlabelled=unlabelled)
    both = replace(both, on_step=lambda _, losses: seen.update(losses))
    heavy = train(replace(both, losses=StudentLosses(unlabelled_weight=3.0), iterations=1)).losses
    names = [n for n in seen if n.startswith("unlabelled_")]
    assert "unlabelled_loss_mask" in names
    assert {n.removeprefix("unlabelled_") for n in names} <= seen.keys()
    half = replace(both, losses=StudentLosses(unlabelled_weight=1.5), folder=spec.folder / "b")
    light = train(replace(half, iterations=1), resume=False).losses
    for name in names:
        assert heavy[name] == pytest.approx(2 * light[name], rel=1e-5)
    total = sum(v for k, v in heavy.items() if "loss" in k and k != "loss")
    assert heavy["loss"] == pytest.approx(total, rel=1e-4)


def test_start_weights_are_taken_over(spec: TrainingSpec, tmp_path: Path) -> None:
    first = train(spec).checkpoint
    second = train(
        replace(
            spec,
            folder=tmp_path / "next",
            init_checkpoint=first,
            iterations=1,
            learning_rate=1e-12,
            seed=7,
            ema=None,
        )
    ).checkpoint
    before, after = read_checkpoint(first).weights, read_checkpoint(second).weights
    assert read_checkpoint(second).source_weights is None
    for name, value in before.items():
        assert torch.allclose(value, after[name], atol=1e-6), name


def test_start_weights_of_half_precision_and_other_classes(
    spec: TrainingSpec, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    stored = read_checkpoint(train(spec).checkpoint).weights
    halves = {name: value.half().contiguous() for name, value in stored.items()}
    head = "panoptic_head.cls_embed.weight"
    halves[head] = halves[head][:3].clone()  # of fewer classes: must not be taken
    save_file(halves, tmp_path / "start.safetensors")
    started = replace(
        spec,
        folder=tmp_path / "next",
        init_checkpoint=tmp_path / "start.safetensors",
        iterations=1,
        learning_rate=1e-12,
        seed=7,
    )
    after = read_checkpoint(train(started).checkpoint).weights
    for name, value in stored.items():
        assert torch.allclose(value, after[name], atol=2e-3) == (name != head), name
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UsageError, match=r"bad\.safetensors"):
        train(replace(spec, init_checkpoint=tmp_path / "bad.safetensors", iterations=3))


def test_start_weights_of_another_model_are_refused(spec: TrainingSpec, tmp_path: Path) -> None:
    torch.save({"state_dict": {"other.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match="do not fit"):
        train(replace(spec, init_checkpoint=tmp_path / "other.pth"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "mask2former_r51"}, "near it: mask2former_r50"),
        ({"model": "no/such/file.py"}, "no such file"),
        ({"unlabelled_batch": 0, "unlabelled": {}}, "unlabelled_batch"),
        ({"device": "cuda:99"}, "CUDA|device"),
        ({"init_checkpoint": Path("nowhere.pth")}, "nowhere.pth"),
        ({"labelled": {"type": "CocoInstances", "annotations": "a", "images": "b"}}, "a"),
    ],
)
def test_wrong_use(spec: TrainingSpec, change: dict[str, Any], message: str) -> None:
    if "device" in change and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UsageError, match=message):
        train(replace(spec, **change))


def test_class_distillation_needs_a_query_model(spec: TrainingSpec) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match="class_weight"):
        train(replace(spec, model="mask_rcnn_lite0", losses=StudentLosses(class_weight=1.0)))


def test_empty_images_can_be_trained_on(spec: TrainingSpec, tmp_path: Path) -> None:
    source = json.loads(Path(spec.labelled["annotations"]).read_text())
    source["annotations"] = []
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps(source))
    result = train(replace(spec, labelled={**spec.labelled, "annotations": str(empty)}))
    assert np.isfinite(result.losses["loss"])
