"""What a training's data workers hand over, and how it is taken in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.models.model_config import read_model_config
from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.models.training import TrainingSpec

prepare()

from mmengine.registry import DefaultScope  # noqa: E402

from s4m_pipeline.models.runner import _train_loader  # noqa: E402
from s4m_pipeline.training_data.packed_masks import PackedMasks  # noqa: E402


def loader_of(spec: TrainingSpec) -> Any:
    config = read_model_config(spec.model, len(spec.categories))
    spec.folder.mkdir(exist_ok=True)
    with DefaultScope.overwrite_default_scope("mmdet"):
        return _train_loader(spec, config, spec.folder)


def test_batches_of_workers_are_those_without(spec: TrainingSpec, refined: dict[str, Any]) -> None:
    mixed = replace(
        spec, unlabelled=refined, labelled_batch=2, unlabelled_batch=2,
        paste="dynamic", paste_min_area=0.001,
        losses=StudentLosses(quality_weight=True, ignore_score=0.3),
    )  # fmt: skip
    alone, sent = (iter(loader_of(replace(mixed, workers=workers))) for workers in (0, 1))
    ignored = 0
    for _ in range(3):
        batches = next(alone), next(sent)
        assert all(a.equal(b) for a, b in zip(*(b["inputs"] for b in batches), strict=True))
        for one, other in zip(*(b["data_samples"] for b in batches), strict=True):
            first, second = one.gt_instances, other.gt_instances
            assert isinstance(second.masks, PackedMasks)
            assert not isinstance(first.masks, PackedMasks)
            assert np.array_equal(first.masks.masks, second.masks.masks)
            assert first.labels.equal(second.labels)
            assert not second.labels.is_shared(), "small tensors come as values"
            assert first.bboxes.tensor.equal(second.bboxes.tensor)
            for table in ("class_probs", "quality"):
                assert (table in first) == (table in second)
                assert table not in first or first[table].equal(second[table])
            doubts = [side.ignored_instances.masks for side in (one, other)]
            assert np.array_equal(doubts[0].masks, doubts[1].masks)
            ignored += len(doubts[0])
    assert ignored


@pytest.mark.parametrize(
    ("device", "gpu", "workers", "pinned"),
    [
        ("cuda", True, 2, True),
        ("cuda:1", True, 2, True),
        ("auto", True, 2, True),
        ("auto", False, 2, False),
        ("cpu", True, 2, False),
        ("cuda", True, 0, False),
    ],
)
def test_workers_batches_are_pinned_for_a_gpu_only(
    spec: TrainingSpec,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    gpu: bool,
    workers: int,
    pinned: bool,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    loader = loader_of(replace(spec, device=device, workers=workers))
    assert loader.pin_memory is pinned
