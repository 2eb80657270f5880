"""The list of what may be built: it fits MMDetection, and the models that ship fit it."""

from __future__ import annotations

import inspect
from typing import Any

import mmcv.ops
import pytest
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.registry import init_default_scope

from s4m_pipeline.configs import model_names
from s4m_pipeline.models.checkpoints import plain
from s4m_pipeline.models.model_config import read_model_config
from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.models.trust.model_check import (
    as_configured,
    check_listed,
    check_scale,
    for_prediction,
)
from s4m_pipeline.models.trust.model_list import ARGUMENTS, TYPES, UNREAD, WITHOUT_TYPE
from s4m_pipeline.models.trust.number_bounds import bounded

PLACES_BY_HAND = (
    *("norm_cfg", "act_cfg", "conv_cfg", "upsample_cfg", "predictor_cfg", "cls_predictor_cfg"),
    *("dropout_layer", "nms", "roi_layer"),
)
BY_HAND = {name for place in PLACES_BY_HAND for name in TYPES[place].split()}
"""Types of torch or mmcv, whose arguments mmcv's builders take themselves."""


def arguments_of(kind: Any) -> set[str]:
    """The names that a class and, where it passes others on, its bases take."""
    names: set[str] = set()
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        names |= {one.name for one in parameters}
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
            break
    return names


@pytest.mark.parametrize("name", model_names())
def test_every_model_that_ships_is_on_the_list(name: str) -> None:
    prepare()
    init_default_scope("mmdet")
    model = read_model_config(name, 3).model
    if "swin" not in name and "r101" not in name and "_b_" not in name:
        MODELS.build(model)  # as a training does, before it stores what the build has changed
    stored = plain(model.to_dict())
    check_listed(stored)
    check_scale(read_model_config(name, 3).test_scale)
    assert "Assigner" not in str(for_prediction(stored))
    own = plain(read_model_config(name, 3).model.to_dict())
    assert as_configured(stored) == as_configured(own)


def test_each_type_has_a_place_and_its_arguments() -> None:
    placed = {name for names in TYPES.values() for name in names.split()}
    assert placed == set(ARGUMENTS)


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - BY_HAND))
def test_each_argument_is_one_that_its_class_takes(name: str) -> None:
    prepare()
    init_default_scope("mmdet")
    kind = MODELS.get(name) if name in MODELS.module_dict else TASK_UTILS.get(name)
    assert set(ARGUMENTS[name].split()) <= arguments_of(kind)


def test_operators_are_those_of_mmcv() -> None:
    for name in ("nms", "soft_nms", "RoIAlign"):
        assert name in mmcv.ops.__all__


def test_no_argument_names_a_file_or_an_address() -> None:
    told = set(" ".join([*ARGUMENTS.values(), *WITHOUT_TYPE.values()]).split())
    assert not told & {*UNREAD, "checkpoint", "checkpoint_path", "plugins", "_scope_", "dcn"}
    assert not [name for name in told if "file" in name or "url" in name]


def test_each_bound_is_of_an_argument() -> None:
    told = set(" ".join([*ARGUMENTS.values(), *WITHOUT_TYPE.values()]).split())
    assert bounded() <= told
