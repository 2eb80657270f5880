"""Each field of `StudentLosses` reaches the loss that it is for, and no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.models.model_config import read_model_config
from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.models.training import TrainingSpec

prepare()

from mmdet.registry import MODELS  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

from s4m_pipeline.models.mask2former.head import CLASS_LOSS  # noqa: E402
from s4m_pipeline.models.runner import _model, _train_loader  # noqa: E402

BASE = StudentLosses(structure_weight=1.0, class_weight=1.0)
STRUCTURE = "loss_structure"


def is_unlabelled(name: str) -> bool:
    return name.startswith("unlabelled_")


CASES: dict[str, tuple[Any, Callable[[str], bool], float | None]] = {
    "unlabelled_weight": (4.0, is_unlabelled, 2.0),
    "structure_weight": (3.0, lambda name: name == STRUCTURE, 3.0),
    "class_weight": (5.0, lambda name: name == CLASS_LOSS, 5.0),
    "class_temperature": (3.0, lambda name: name == CLASS_LOSS, None),
    "quality_weight": (True, is_unlabelled, None),
    # labels are matched with other queries, so the distillation has other pairs
    "ignore_score": (0.3, lambda name: is_unlabelled(name) or name == CLASS_LOSS, None),
}
"""Another value of each field, the losses that it changes, and their factor where there is one."""


@pytest.fixture
def losses_with(
    spec: TrainingSpec, structured: dict[str, Any], refined: dict[str, Any]
) -> Callable[..., dict[str, float]]:
    """The first batch's losses as a training would compute them, some settings changed."""
    spec = replace(
        spec, labelled=structured, unlabelled=refined, labelled_batch=2, unlabelled_batch=4
    )
    spec.folder.mkdir()

    def compute(**changes: Any) -> dict[str, float]:
        asked = replace(spec, losses=replace(BASE, **changes))
        config = read_model_config(asked.model, len(asked.categories))
        with DefaultScope.overwrite_default_scope("mmdet"):
            torch.manual_seed(0)
            wrapper = MODELS.build(_model(asked, config))
            batch = next(iter(_train_loader(asked, config, asked.folder)))
        data = wrapper.data_preprocessor(batch, True)
        torch.manual_seed(1)
        losses = wrapper(**data, mode="loss")
        return {name: value.item() for name, value in losses.items()}

    return compute


def test_every_field_has_a_case() -> None:
    assert CASES.keys() == {field.name for field in fields(StudentLosses)}


@pytest.mark.parametrize("name", CASES)
def test_a_field_changes_the_losses_it_is_for(
    losses_with: Callable[..., dict[str, float]], name: str
) -> None:
    value, meant, factor = CASES[name]
    before, after = losses_with(), losses_with(**{name: value})
    assert before.keys() == after.keys()
    assert {STRUCTURE, CLASS_LOSS, "loss_mask", "unlabelled_loss_mask"} <= before.keys()
    changed = {loss for loss in before if after[loss] != before[loss]}
    assert changed
    assert all(meant(loss) for loss in changed)
    if factor is not None:
        for loss in filter(meant, before):
            assert after[loss] == pytest.approx(factor * before[loss], rel=1e-5), loss


@pytest.mark.parametrize(
    ("name", "loss"), [("structure_weight", STRUCTURE), ("class_weight", CLASS_LOSS)]
)
def test_a_weight_of_zero_leaves_a_loss_out(
    losses_with: Callable[..., dict[str, float]], name: str, loss: str
) -> None:
    assert losses_with().keys() - losses_with(**{name: 0.0}).keys() == {loss}
