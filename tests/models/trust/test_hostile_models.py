"""Checkpoints that ask for more than a model: nothing that they name runs, is read or is opened."""

from __future__ import annotations

import builtins
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s4m_pipeline.artifacts.digest_beside import write_digest
from s4m_pipeline.configs import model_config_path
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.models.checkpoints import read_checkpoint
from s4m_pipeline.models.predictor import Predictor
from s4m_pipeline.models.training import WORK_FOLDER, TrainingSpec, train
from tests.models.test_mask_rcnn import SMALL

Edit = Callable[[dict[str, Any], Path], None]


@pytest.fixture(scope="module")
def trained(
    scenes: dict[str, Any], tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An honest checkpoint."""
    from tests.models.conftest import CATEGORIES

    folder = tmp_path_factory.mktemp("honest")
    spec = TrainingSpec(
        folder=folder,
        model=tiny_model,
        categories=CATEGORIES,
        labelled=scenes,
        log_file=folder / "log.jsonl",
        iterations=1,
        labelled_batch=2,
    )
    return train(spec).checkpoint


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Opens no connection and no Python file; what was asked for is noted."""
    asked: list[str] = []
    whole = builtins.open

    def connect(*arguments: Any, **_: Any) -> None:
        asked.append(f"connection {arguments}")
        raise OSError("no connection in tests")

    def noting(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file).endswith("bait.py"):
            asked.append(f"file {file}")
        return whole(file, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(builtins, "open", noting)
    return asked


def shell(target: Path) -> str:
    return f"__import__('pathlib').Path({str(target)!r}).touch() or 0"


def in_train_cfg(model: dict[str, Any], target: Path) -> None:
    model["train_cfg"]["assigner"] = {
        "type": "CameraMotionCompensation",
        "warp_mode": shell(target),
    }


def in_match_costs(model: dict[str, Any], target: Path) -> None:
    model["train_cfg"]["assigner"]["match_costs"].append(
        {"type": "CameraMotionCompensation", "warp_mode": shell(target)}
    )


def in_a_suppression(model: dict[str, Any], target: Path) -> None:
    model["test_cfg"]["nms"] = {"type": shell(target)}


def a_python_file(model: dict[str, Any], target: Path) -> None:
    bait = target.with_name("bait.py")
    bait.write_text(f"{shell(target)}\nmodel = dict()\n")
    rest = {key: value for key, value in model.items() if key != "type"}
    model.clear()
    model |= {
        "type": "KnowledgeDistillationSingleStageDetector",
        "backbone": rest["backbone"],
        "neck": {"type": "FPN", "in_channels": [8], "out_channels": 8, "num_outs": 1},
        "bbox_head": {"type": "RPNHead", "in_channels": 8},
        "teacher_config": str(bait),
    }


def a_connection(model: dict[str, Any], target: Path) -> None:
    model["train_cfg"]["sampler"] = {
        "type": "AppearanceFreeLink",
        "checkpoint": "http://127.0.0.1:9/a.pth",
    }


def a_hub(model: dict[str, Any], target: Path) -> None:
    model["backbone"] = {"type": "TimmBackbone", "model_name": "hf-hub:somebody/something"}


def a_local_folder_of_timm(model: dict[str, Any], target: Path) -> None:
    model["backbone"] = {"type": "TimmBackbone", "model_name": f"local-dir:{target.parent}"}


def a_file_through_timm(model: dict[str, Any], target: Path) -> None:
    model["backbone"] = {
        "type": "TimmBackbone",
        "model_name": "resnet18",
        "options": {"checkpoint_path": str(target.with_name("bait.py"))},
    }


def a_scope(model: dict[str, Any], target: Path) -> None:
    model["backbone"]["_scope_"] = "antigravity"


def an_import_by_a_type(model: dict[str, Any], target: Path) -> None:
    model["backbone"]["type"] = "antigravity.fly"


def a_type_of_another_place(model: dict[str, Any], target: Path) -> None:
    model["backbone"] = {"type": "nms"}  # no registry has it, so MMEngine would import it


def a_class_of_a_known_argument(model: dict[str, Any], target: Path) -> None:
    model["backbone"]["plugins"] = [{"cfg": {"type": "ContextBlock"}, "position": "after_conv1"}]


def custom_imports(model: dict[str, Any], target: Path) -> None:
    model["custom_imports"] = {"imports": ["antigravity"]}


def many_parts(model: dict[str, Any], target: Path) -> None:
    nested: list[Any] = [1]
    for _ in range(25):
        nested = [nested, nested]
    model["backbone"]["out_indices"] = nested


def huge(model: dict[str, Any], target: Path) -> None:
    model["panoptic_head"]["num_queries"] = 1 << 40


def no_model(model: dict[str, Any], target: Path) -> None:
    model.clear()


@pytest.mark.parametrize(
    "edit",
    [
        in_train_cfg,
        in_match_costs,
        in_a_suppression,
        a_python_file,
        a_connection,
        a_hub,
        a_local_folder_of_timm,
        a_file_through_timm,
        a_scope,
        an_import_by_a_type,
        a_type_of_another_place,
        a_class_of_a_known_argument,
        custom_imports,
        many_parts,
        huge,
        no_model,
    ],
)
def test_what_is_not_on_the_list_is_refused_and_nothing_happens(
    edit: Edit, trained: Path, tmp_path: Path, closed: list[str]
) -> None:
    target = tmp_path / "ran"
    content = torch.load(trained, weights_only=True)
    edit(content["meta"]["model"], target)
    hostile = tmp_path / "hostile.pth"
    torch.save(content, hostile)
    with pytest.raises(ArtifactError, match=r"hostile\.pth is not to be trusted") as caught:
        Predictor(hostile, "cpu")
    assert len(str(caught.value).splitlines()) <= 3
    assert not target.exists()
    assert closed == []


def test_prediction_reads_nothing_of_a_training(
    trained: Path, tmp_path: Path, closed: list[str]
) -> None:
    content = torch.load(trained, weights_only=True)
    model = content["meta"]["model"]
    del model["train_cfg"]
    model["init_cfg"] = {"type": "Pretrained", "checkpoint": "http://127.0.0.1:9/a.pth"}
    model["backbone"]["pretrained"] = "torchvision://resnet18"
    model["backbone"]["init_cfg"] = {"type": "Pretrained", "checkpoint": str(tmp_path / "bait.py")}
    torch.save(content, tmp_path / "a.pth")
    predictor = Predictor(tmp_path / "a.pth", "cpu")
    image = torch.randint(0, 256, (40, 56, 3), dtype=torch.uint8).numpy()
    (one,), (other,) = predictor.predict([image]), Predictor(trained, "cpu").predict([image])
    assert (one.mask_logits == other.mask_logits).all()
    assert closed == []


OWN = """
_base_ = ["{base}"]
from mmdet.registry import MODELS
from mmdet.models.backbones import ResNet
if "MyOwnResNet" not in MODELS.module_dict:
    MODELS.register_module(name="MyOwnResNet", module=type("MyOwnResNet", (ResNet,), {{}}))
del MODELS, ResNet
model = dict(backbone=dict(type="MyOwnResNet"))
"""


@pytest.mark.parametrize("detector", ["mask2former", "mask_rcnn"])
def test_a_users_own_model_is_built_from_the_users_own_config(
    detector: str, spec: TrainingSpec, tiny_model: Path, tmp_path: Path
) -> None:
    if detector == "mask_rcnn":  # which writes into its settings when it is built
        tiny_model = tmp_path / "small.py"
        tiny_model.write_text(SMALL.format(base=model_config_path("mask_rcnn_lite0")))
    own = tmp_path / "own.py"
    own.write_text(OWN.format(base=tiny_model))
    checkpoint = train(replace(spec, model=own, iterations=1)).checkpoint
    assert read_checkpoint(checkpoint).model["backbone"]["type"] == "MyOwnResNet"
    with pytest.raises(ArtifactError, match=r"MyOwnResNet[\s\S]*set teacher\.model"):
        Predictor(checkpoint, "cpu")
    with pytest.raises(ArtifactError, match="not to be trusted"):  # it describes another model
        Predictor(checkpoint, "cpu", own_models=[str(tiny_model)])
    network = Predictor(checkpoint, "cpu", own_models=[str(tiny_model), str(own)])._model
    assert type(network.backbone).__name__ == "MyOwnResNet"


def test_a_resumed_training_runs_no_config_of_its_checkpoint(
    spec: TrainingSpec, tmp_path: Path
) -> None:
    class StopError(Exception):
        pass

    def stop(iteration: int, _losses: dict[str, float]) -> None:
        if iteration == 2:
            raise StopError

    spec = replace(spec, iterations=3, checkpoint_interval=1)
    with pytest.raises(StopError):
        train(replace(spec, on_step=stop))
    (newest,) = (spec.folder / WORK_FOLDER).glob("iter_1.pth")
    content = torch.load(newest, weights_only=False)
    content["meta"]["config"] = shell(tmp_path / "ran")
    torch.save(content, newest)
    write_digest(newest)  # by one who can write here, the digest can be made to fit
    steps: list[int] = []
    train(replace(spec, on_step=lambda iteration, _: steps.append(iteration)))
    assert steps == [2, 3]
    assert not (tmp_path / "ran").exists()
