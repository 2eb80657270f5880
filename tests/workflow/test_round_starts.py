"""Rounds whose students do not go on from one another are told so, before any work."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s4m_pipeline.config_file import load_config
from s4m_pipeline.configs import RUNS
from s4m_pipeline.workflow.rounds import tell_start


def told(config: Any, rounds: int) -> list[str]:
    warnings: list[str] = []
    reporter = SimpleNamespace(warn=warnings.append)
    run: Any = SimpleNamespace(config=config, reporter=reporter)
    tell_start(run, rounds)
    return warnings


@pytest.mark.parametrize("data", ["cityscapes", "coco"])
def test_the_papers_templates_start_each_student_from_imagenet(data: str) -> None:
    config = load_config(RUNS / f"{data}-paper.yaml")
    (warning,) = told(config, 2)
    assert Path(str(config.student.weights)).name == "resnet50.pth"
    assert f"starts from {config.student.weights}, not from the model that labelled" in warning
    assert "student.start" in warning
    assert told(config, 1) == []
    assert told(load_config(RUNS / f"{data}.yaml"), 3) == []


def test_another_model_starts_from_its_own_weights() -> None:
    config = load_config(RUNS / "demo.yaml", ["student.model=mask2former_lite0"])
    (warning,) = told(config, 2)
    assert "starts from the weights of model 'mask2former_lite0'" in warning
