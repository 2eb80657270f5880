"""Checkpoints that somebody else made, in the commands that read them."""

from __future__ import annotations

import json

import torch

from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.stages.train_teacher import TrainTeacher


def test_evaluate_runs_nothing_that_a_checkpoint_names(finished, tmp_path, s4m):
    ran, hostile = tmp_path / "ran", tmp_path / "hostile.pth"
    content = torch.load(finished.run().folder(TrainTeacher()) / CHECKPOINT, weights_only=True)
    content["meta"]["model"]["train_cfg"]["assigner"] = {
        "type": "CameraMotionCompensation",
        "warp_mode": f"__import__('os').system('touch {ran}') or 0",
    }
    torch.save(content, hostile)
    code, _, err = s4m("evaluate", "-c", finished.config, "--of", hostile)
    assert code == 3
    assert "not to be trusted" in err
    assert not ran.exists()


OWN = """
_base_ = ["{base}"]
from mmdet.registry import MODELS
from mmdet.models.backbones import ResNet
if "StageResNet" not in MODELS.module_dict:
    MODELS.register_module(name="StageResNet", module=type("StageResNet", (ResNet,), {{}}))
del MODELS, ResNet
model = dict(backbone=dict(type="StageResNet"))
"""


def test_evaluate_takes_a_model_of_the_users_own_from_the_runs_file(finished, tmp_path, s4m):
    folder = finished.run().folder(TrainTeacher())
    content = torch.load(folder / CHECKPOINT, weights_only=True)
    content["meta"]["model"]["backbone"]["type"] = "StageResNet"
    theirs = tmp_path / "theirs.pth"
    torch.save(content, theirs)
    arguments = ("evaluate", "-c", finished.config, "--json", "--of")
    assert s4m(*arguments, theirs)[0] == 3
    own = tmp_path / "own.py"
    own.write_text(OWN.format(base=finished.run().config.student.model))
    code, out, err = s4m(*arguments, theirs, f"student.model={own}")
    assert code == 0, err
    assert json.loads(out) == json.loads(s4m(*arguments, "teacher")[1])
