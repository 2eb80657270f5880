"""Weights that are not finite, and checkpoints with parts of another kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s4m_pipeline.devices.finite import not_finite
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.models.checkpoints import Checkpoint, build_model, read_checkpoint
from s4m_pipeline.models.conversion.convert import convert_checkpoint
from s4m_pipeline.models.start_weights import check_start_weights
from s4m_pipeline.models.training import TrainingSpec, train

KINDS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn]
BIAS = "panoptic_head.cls_embed.bias"


@pytest.mark.parametrize("kind", KINDS)
def test_not_finite_counts_as_numpy_does(kind: torch.dtype) -> None:
    values = torch.arange(6.0).to(kind)
    assert not_finite({"a": values, "b": torch.tensor([1]), "c": torch.zeros(0)}) is None
    wrong = torch.tensor([1.0, float("nan"), 2.0, float("inf"), float("-inf")]).to(kind)
    count = int((~np.isfinite(wrong.double().numpy())).sum())
    assert (
        not_finite({"a": values, "b": wrong}) == f"{count} of 5 values of 'b' are NaN or infinite"
    )
    two = not_finite({"a": wrong, "b": wrong})
    assert two is not None
    assert two.endswith("and so it is in 1 more")


def test_complex_values_count() -> None:
    assert not_finite({"a": torch.tensor([complex(1, float("nan")), 1j])}) is not None
    assert not_finite({"a": torch.tensor([1j, 2.0])}) is None


@pytest.fixture
def checkpoint(spec: TrainingSpec) -> Path:
    return train(spec).checkpoint


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("averaged", [True, False])
def test_a_checkpoint_with_them_predicts_nothing(
    checkpoint: Path, value: float, averaged: bool
) -> None:
    stored = read_checkpoint(checkpoint)
    assert stored.source_weights is not None
    used = stored.weights if averaged else stored.source_weights
    used[BIAS][1] = value
    with pytest.raises(ArtifactError, match=rf"is damaged: 1 of 5 values of '{BIAS}'"):
        build_model(stored, checkpoint, averaged)
    build_model(stored, checkpoint, not averaged)  # the other weights are whole


def test_no_training_starts_from_them(
    tmp_path: Path, checkpoint: Path, tiny_model: Path, spec: TrainingSpec
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"][BIAS][0] = float("nan")
    torch.save(content, tmp_path / "a.pth")
    classes = len(spec.categories)
    assert check_start_weights(tiny_model, classes, checkpoint)[0]
    with pytest.raises(UsageError, match=r"a\.pth\n1 of 5 values"):
        check_start_weights(tiny_model, classes, tmp_path / "a.pth")
    with pytest.raises(UsageError, match=r"a\.pth\n1 of 5 values"):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "b.pth", target="detectron2")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("categories", [{"id": "1", "name": "a"}]),
        ("categories", [{"id": 1}]),
        ("categories", None),
        ("test_scale", (0, 64)),
        ("test_scale", 64),
        ("test_scale", (1 << 40, 64)),
        ("iterations", "1"),
        ("iterations", -1),
        ("info", []),
        ("model", []),
        ("state_dict", {"a": 1}),
        ("source_state_dict", [1]),
    ],
)
def test_parts_of_another_kind_are_refused(checkpoint: Path, name: str, value: Any) -> None:
    content = torch.load(checkpoint, weights_only=True)
    (content if name in content else content["meta"])[name] = value
    torch.save(content, checkpoint)
    with pytest.raises(ArtifactError, match=f"is damaged: its '{name}'"):
        read_checkpoint(checkpoint)


def test_parts_that_are_missing_are_named(checkpoint: Path) -> None:
    for name in ("state_dict", "categories"):
        content = torch.load(checkpoint, weights_only=True)
        del (content if name in content else content["meta"])[name]
        torch.save(content, checkpoint.with_name("a.pth"))
        with pytest.raises(ArtifactError, match=f"it has no '{name}'"):
            read_checkpoint(checkpoint.with_name("a.pth"))


def test_categories_that_are_not_the_models_classes_are_refused(checkpoint: Path) -> None:
    stored: Checkpoint = read_checkpoint(checkpoint)
    del stored.categories[-1]
    with pytest.raises(ArtifactError, match="has 4 classes, but it lists 3 categories"):
        build_model(stored, checkpoint)
