"""Trainings in bfloat16: what computes in it, what stays float32, and which precision is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.models.checkpoints import read_checkpoint
from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.models.training import TrainingSpec, resume_iteration, train
from tests.models.stopping import Stopped, stop_after, weights

prepare()

from mmengine.optim import OptimWrapper  # noqa: E402
from mmengine.registry import OPTIM_WRAPPERS  # noqa: E402
from torch import nn  # noqa: E402

from s4m_pipeline.models.precision import (  # noqa: E402
    AutocastOptimWrapper,
    optimizer_wrapper,
    resolved_precision,
)

EVERYTHING = dict(
    labelled_batch=2,
    unlabelled_batch=4,
    losses=StudentLosses(
        class_weight=1.0, class_temperature=2.0, quality_weight=True, ignore_score=0.3
    ),
    paste="dynamic",
    paste_min_area=0.001,
)


def first_losses(spec: TrainingSpec, precision: str) -> dict[str, float]:
    steps: list[dict[str, float]] = []
    train(
        replace(
            spec,
            precision=precision,
            iterations=1,
            folder=spec.folder / precision,
            on_step=lambda _, losses: steps.append(dict(losses)),
        )
    )
    return steps[0]


def test_a_students_losses_in_bfloat16_are_near_float32s(
    spec: TrainingSpec, refined: dict[str, Any]
) -> None:
    student = replace(spec, unlabelled=refined, **EVERYTHING)  # type: ignore[arg-type]
    exact, rounded = (first_losses(student, name) for name in ("float32", "bfloat16"))
    assert exact.keys() == rounded.keys()
    assert any(name.startswith("unlabelled_") for name in exact)
    for name, value in exact.items():
        assert rounded[name] == pytest.approx(value, rel=0.05, abs=0.02), name
    assert exact["loss"] != rounded["loss"]
    assert rounded["loss"] == pytest.approx(exact["loss"], rel=0.02)


def test_weights_gradients_and_checkpoints_stay_float32(
    spec: TrainingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: dict[str, set[Any]] = {"gradients": set(), "products": set(), "losses": set()}
    step, product = AutocastOptimWrapper.step, nn.Linear.forward
    backward = AutocastOptimWrapper.backward

    def watched(self: Any, **kwargs: Any) -> None:
        groups = self.optimizer.param_groups
        kinds["gradients"] |= {p.grad.dtype for g in groups for p in g["params"] if p.requires_grad}
        step(self, **kwargs)

    def watched_product(self: Any, x: torch.Tensor) -> torch.Tensor:
        values = product(self, x)
        kinds["products"].add(values.dtype)
        return values

    def watched_loss(self: Any, loss: torch.Tensor, **kwargs: Any) -> None:
        kinds["losses"].add(loss.dtype)
        backward(self, loss, **kwargs)

    monkeypatch.setattr(AutocastOptimWrapper, "step", watched)
    monkeypatch.setattr(AutocastOptimWrapper, "backward", watched_loss)
    monkeypatch.setattr(nn.Linear, "forward", watched_product)
    result = train(replace(spec, precision="bfloat16"))
    assert kinds == {
        "gradients": {torch.float32},
        "products": {torch.bfloat16},
        "losses": {torch.float32},
    }
    stored = read_checkpoint(result.checkpoint)
    assert result.precision == stored.info["precision"] == "bfloat16"
    assert stored.source_weights is not None
    for tensors in (stored.weights, stored.source_weights):
        assert torch.bfloat16 not in {value.dtype for value in tensors.values()}


def test_a_training_in_bfloat16_goes_on_to_the_same_bits(
    spec: TrainingSpec, tmp_path: Path
) -> None:
    spec = replace(spec, precision="bfloat16", iterations=4, checkpoint_interval=2)
    whole = train(spec)
    parts = replace(spec, folder=tmp_path / "parts", log_file=tmp_path / "parts.jsonl")
    with pytest.raises(Stopped):
        train(replace(parts, on_step=stop_after(3)))
    assert resume_iteration(parts.folder) == 2
    resumed = train(parts)
    first, second = weights(whole.checkpoint), weights(resumed.checkpoint)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("model", ["mask_rcnn_lite0", "rtmdet_ins_lite0"])
@pytest.mark.slow
def test_other_models_train_in_bfloat16(spec: TrainingSpec, model: str) -> None:
    pytest.importorskip("timm")
    plain = replace(spec, model=model, init_checkpoint=None, ema=None)
    exact, rounded = (first_losses(plain, name) for name in ("float32", "bfloat16"))
    assert rounded["loss"] == pytest.approx(exact["loss"], rel=0.1)


@pytest.mark.parametrize(
    ("cuda", "bfloat16", "device", "expected"),
    [
        (True, True, "cuda", "bfloat16"),
        (True, True, "cuda:0", "bfloat16"),
        (True, True, "auto", "bfloat16"),
        (True, False, "cuda", "float32"),
        (True, True, "cpu", "float32"),
        (False, False, "auto", "float32"),
        (False, False, "cpu", "float32"),
    ],
)
def test_auto_takes_bfloat16_where_the_gpu_has_it(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, bfloat16: bool, device: str, expected: str
) -> None:
    asked: list[bool] = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return bfloat16

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", lambda _: torch.no_grad())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert resolved_precision("auto", device) == expected
    assert True not in asked, "emulated bfloat16 is slower than float32"
    assert resolved_precision("float32", device) == "float32"
    assert resolved_precision("bfloat16", device) == "bfloat16"


def test_clipping_and_the_settings_of_single_parameters_stay() -> None:
    settings = {
        "type": "OptimWrapper",
        "optimizer": {"type": "AdamW", "lr": 1e-4},
        "clip_grad": {"max_norm": 0.01},
        "paramwise_cfg": {"norm_decay_mult": 0.0},
    }
    made = optimizer_wrapper(settings, "bfloat16")
    assert made == {**settings, "type": "AutocastOptimWrapper", "precision": "bfloat16"}
    scaled = {**settings, "type": "AmpOptimWrapper", "loss_scale": "dynamic", "dtype": "float16"}
    assert optimizer_wrapper(scaled, "float32") == scaled, "a config's own choice"
    assert optimizer_wrapper(scaled, "bfloat16") == made


@pytest.mark.parametrize("clip", [None, {"max_norm": 0.01, "norm_type": 2}])
def test_a_step_in_float32_is_mmengines(clip: dict[str, Any] | None) -> None:
    def trained(make: Callable[..., Any]) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
        model[0].bias.requires_grad_(False)
        wrapper = make(optimizer=torch.optim.AdamW(model.parameters(), lr=0.1), clip_grad=clip)
        for _ in range(3):
            with wrapper.optim_context(model):
                loss = model(torch.rand(5, 4)).square().mean()
            wrapper.update_params(loss)
        return list(model.parameters())

    own = trained(OPTIM_WRAPPERS.get("AutocastOptimWrapper"))
    assert all(torch.equal(a, b) for a, b in zip(own, trained(OptimWrapper), strict=True))
