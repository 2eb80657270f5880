import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from s4m_pipeline.cli import main
from s4m_pipeline.configs import model_config_path
from s4m_pipeline.data.scenes.scenes import generate_scenes
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.models.checkpoints import build_model, read_checkpoint
from s4m_pipeline.models.conversion.convert import convert_checkpoint
from s4m_pipeline.models.predictor import Predictor
from s4m_pipeline.models.start_weights import load_start_weights
from tests.models.conversion import hugging_face

KINDS = ("resnet", "swin")
CLASSES = [{"id": 3 * i + 2, "name": f"class {i}"} for i in range(hugging_face.CLASSES)]


@pytest.fixture(scope="module")
def peers() -> dict[str, Any]:
    """transformers' models with random weights, by kind of backbone."""
    pytest.importorskip("transformers", "5.20", reason="the peer, transformers, is missing")
    return {kind: hugging_face.random_model(kind) for kind in KINDS}


@pytest.fixture(scope="module")
def tensors(peers: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    """The same weights under detectron2's names."""
    return {kind: hugging_face.detectron2_tensors(peer, kind) for kind, peer in peers.items()}


@pytest.fixture
def options(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Model config and classes that fit the peers."""
    listed = {"images": [], "annotations": [], "categories": CLASSES[::-1]}
    (tmp_path / "classes.json").write_text(json.dumps(listed))

    def of(kind: str) -> dict[str, Any]:
        path = tmp_path / f"{kind}.py"
        path.write_text(hugging_face.model_config(kind, str(model_config_path("mask2former_r50"))))
        return {"model": str(path), "categories": str(tmp_path / "classes.json")}

    return of


def saved(path: Path, tensors: dict[str, Any], **more: Any) -> Path:
    torch.save({"model": tensors, **more}, path)
    return path


def arrays(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: value.numpy() for name, value in tensors.items()}


def both(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A mean teacher's two models, the student's weights other than the teacher's."""
    student = {n: v + 1 if v.is_floating_point() else v for n, v in tensors.items()}
    student["criterion.empty_weight"] = tensors["criterion.empty_weight"]
    return {f"modelTeacher.{n}": v for n, v in tensors.items()} | {
        f"modelStudent.{n}": v for n, v in student.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_masks_are_those_of_transformers(
    kind: str, peers: dict[str, Any], tensors: Any, options: Any, tmp_path: Path
) -> None:
    hugging_face.skip_without_projections(peers[kind], kind)
    source = saved(tmp_path / "theirs.pth", tensors[kind], iteration=9)
    convert_checkpoint(source, tmp_path / "ours.pth", **options(kind))
    stored = read_checkpoint(tmp_path / "ours.pth")
    assert stored.categories == CLASSES
    assert stored.iterations == 10
    model: Any = build_model(stored, tmp_path / "ours.pth")
    torch.manual_seed(5)
    # Neither side is a multiple of 7 windows, so that Swin pads; coarse levels have odd sides.
    image = torch.randn(2, 3, 96, 160)
    with torch.no_grad():
        found_classes, found_masks = model.panoptic_head(model.extract_feat(image), [])
        wanted = peers[kind](
            pixel_values=image, pixel_mask=torch.ones(2, 96, 160), output_auxiliary_logits=True
        )
    classes = [layer["class_queries_logits"] for layer in wanted.auxiliary_logits]
    masks = [layer["masks_queries_logits"] for layer in wanted.auxiliary_logits]
    classes.append(wanted.class_queries_logits)
    masks.append(wanted.masks_queries_logits)
    assert len(found_classes) == len(classes) == hugging_face.DECODER_LAYERS
    for ours, right in zip([*found_classes, *found_masks], [*classes, *masks], strict=True):
        assert right.std() > 0.1
        torch.testing.assert_close(ours, right, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_changes_no_bit(
    kind: str, peers: dict[str, Any], tensors: Any, options: Any, tmp_path: Path
) -> None:
    hugging_face.skip_without_projections(peers[kind], kind)
    source = saved(tmp_path / "theirs.pth", tensors[kind])
    convert_checkpoint(source, tmp_path / "ours.pth", **options(kind))
    convert_checkpoint(tmp_path / "ours.pth", tmp_path / "back.pth", "detectron2")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert back.keys() == tensors[kind].keys()
    for name, value in tensors[kind].items():
        assert back[name].dtype == value.dtype
        assert torch.equal(back[name], value), name


def test_a_mean_teachers_two_models_are_kept_or_chosen(
    tensors: Any, options: Any, tmp_path: Path
) -> None:
    two = both(tensors["resnet"])
    source = saved(tmp_path / "two.pth", two)
    name, bias = "panoptic_head.cls_embed.bias", "sem_seg_head.predictor.class_embed.bias"
    convert_checkpoint(source, tmp_path / "both.pth", **options("resnet"))
    stored = read_checkpoint(tmp_path / "both.pth")
    assert stored.source_weights is not None
    assert torch.equal(stored.weights[name], two[f"modelTeacher.{bias}"])
    assert torch.equal(stored.source_weights[name], two[f"modelStudent.{bias}"])
    convert_checkpoint(tmp_path / "both.pth", tmp_path / "back.pth", "detectron2")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert back.keys() == two.keys()
    assert all(torch.equal(back[key], value) for key, value in two.items())
    for which in ("teacher", "student"):
        out = tmp_path / f"{which}.pth"
        convert_checkpoint(source, out, which=which, **options("resnet"))
        only = read_checkpoint(out)
        assert only.source_weights is None
        assert torch.equal(only.weights[name], two[f"model{which.title()}.{bias}"])


def test_a_checkpoint_of_mmdetection_keeps_its_tensors(
    tensors: Any, options: Any, tmp_path: Path
) -> None:
    source = saved(tmp_path / "theirs.pth", tensors["resnet"])
    convert_checkpoint(source, tmp_path / "ours.pth", **options("resnet"))
    weights = read_checkpoint(tmp_path / "ours.pth").weights
    torch.save({"state_dict": weights, "meta": {"epoch": 3}}, tmp_path / "mmdet.pth")
    convert_checkpoint(tmp_path / "mmdet.pth", tmp_path / "again.pth", **options("resnet"))
    again = read_checkpoint(tmp_path / "again.pth").weights
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], value) for name, value in weights.items())


def test_counted_batches_and_wrappers_survive(tensors: Any, options: Any, tmp_path: Path) -> None:
    counted = dict(tensors["resnet"])
    for name in tensors["resnet"]:
        if name.endswith("running_mean"):
            counted[name.replace("running_mean", "num_batches_tracked")] = torch.tensor(7)
    source = saved(tmp_path / "a.pth", {f"module.{n}": v for n, v in counted.items()})
    convert_checkpoint(source, tmp_path / "ours.pth", **options("resnet"))
    convert_checkpoint(tmp_path / "ours.pth", tmp_path / "back.pth", "detectron2")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert back.keys() == counted.keys()
    assert all(torch.equal(back[name], value) for name, value in counted.items())


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_the_model_zoos_pickle_with_its_old_names_is_the_same_checkpoint(
    protocol: int, tensors: Any, options: Any, tmp_path: Path
) -> None:
    old = {
        name.replace("query_feat", "static_query").replace("pixel_decoder.", ""): value
        for name, value in tensors["resnet"].items()
    }
    assert old.keys() != tensors["resnet"].keys()
    content = {"model": arrays(old), "__author__": "third_party", "matching_heuristics": True}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    convert_checkpoint(tmp_path / "zoo.pkl", tmp_path / "a.pth", **options("resnet"))
    source = saved(tmp_path / "theirs.pth", tensors["resnet"])
    convert_checkpoint(source, tmp_path / "b.pth", **options("resnet"))
    first, second = (read_checkpoint(tmp_path / name).weights for name in ("a.pth", "b.pth"))
    assert all(torch.equal(first[name], value) for name, value in second.items())


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_the_command_makes_what_evaluation_and_training_take(
    tensors: Any, options: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = generate_scenes(tmp_path / "scenes", 2, 3, "validation", size=64)
    photos = f"{{images: {scenes.parent / 'validation'}, annotations: {scenes}}}"
    (tmp_path / "run.yaml").write_text(
        f"work_dir: work\ndata: {{labelled: {photos}, validation: {photos}}}\n"
    )
    source, out = saved(tmp_path / "theirs.pth", tensors["resnet"]), tmp_path / "made" / "ours.pth"
    model = options("resnet")["model"]
    assert call("convert-checkpoint", source, out, "--model", model, "--categories", scenes) == 0
    told = capsys.readouterr()
    assert told.out == f"{out}\n"
    assert "one model from detectron2's layout" in told.err
    assert call("convert-checkpoint", source, out, "--model", model, "--categories", scenes) == 2
    assert "does not overwrite" in capsys.readouterr().err
    run = tmp_path / "run.yaml"
    assert call("evaluate", "-c", run, "--of", out, "device=cpu", "--json") == 0
    assert json.loads(capsys.readouterr().out)
    start = build_model(read_checkpoint(out), out)
    wanted = {name: value.clone() for name, value in start.state_dict().items()}
    for value in start.state_dict().values():
        value.zero_()
    assert load_start_weights(start, out) == len(wanted)
    assert all(torch.equal(value, wanted[name]) for name, value in start.state_dict().items())


def test_the_result_predicts_in_the_colours_that_the_authors_normalise(
    peers: dict[str, Any], tensors: Any, options: Any, tmp_path: Path
) -> None:
    source = saved(tmp_path / "theirs.pth", tensors["resnet"])
    convert_checkpoint(source, tmp_path / "ours.pth", **options("resnet"))
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    (predictions,) = Predictor(tmp_path / "ours.pth", "cpu").predict([image])
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])  # RGB
    pixels = torch.tensor((image - mean) / std, dtype=torch.float32).permute(2, 0, 1)[None]
    with torch.no_grad():
        wanted = peers["resnet"](pixel_values=pixels)
    classes = wanted.class_queries_logits[0].softmax(1)[:, :-1].numpy()
    np.testing.assert_allclose(predictions.class_probs, classes, atol=1e-4)
    np.testing.assert_allclose(
        predictions.mask_logits, wanted.masks_queries_logits[0].numpy(), atol=1e-3
    )


def test_tensors_without_a_place_missing_or_of_another_shape_are_named(
    tensors: Any, options: Any, tmp_path: Path
) -> None:
    changed = dict(tensors["resnet"])
    changed["sem_seg_head.predictor.extra.weight"] = torch.zeros(1)
    del changed["backbone.res3.1.conv2.weight"]
    changed["backbone.stem.conv1.weight"] = torch.zeros(8, 3, 3, 3)
    source = saved(tmp_path / "theirs.pth", changed)
    with pytest.raises(ArtifactError) as raised:
        convert_checkpoint(source, tmp_path / "ours.pth", **options("resnet"))
    message = str(raised.value)
    for told in (
        "1 without a place: sem_seg_head.predictor.extra.weight",
        "1 missing: backbone.layer2.1.conv2.weight",
        "backbone.conv1.weight (8, 3, 3, 3) for (8, 3, 7, 7)",
    ):
        assert told in message
    assert not (tmp_path / "ours.pth").exists()


def test_another_backbone_than_the_models_is_refused(
    tensors: Any, options: Any, tmp_path: Path
) -> None:
    source = saved(tmp_path / "theirs.pth", tensors["swin"])
    with pytest.raises(ArtifactError, match=r"backbone\.patch_embed.* and \d+ more"):
        convert_checkpoint(source, tmp_path / "ours.pth", **options("resnet"))


def test_a_window_that_is_numbered_otherwise_is_refused(
    tensors: Any, options: Any, tmp_path: Path
) -> None:
    changed = dict(tensors["swin"])
    index = "backbone.layers.0.blocks.0.attn.relative_position_index"
    changed[index] = changed[index].flip(0)
    source = saved(tmp_path / "theirs.pth", changed)
    with pytest.raises(ArtifactError, match=r"another window: backbone\.stages\.0\.blocks\.0"):
        convert_checkpoint(source, tmp_path / "ours.pth", **options("swin"))


def test_wrong_files_and_options_are_told(tensors: Any, options: Any, tmp_path: Path) -> None:
    fitting = options("resnet")
    out = tmp_path / "out.pth"
    good = saved(tmp_path / "good.pth", tensors["resnet"])
    with pytest.raises(UsageError, match="4 classes, of which nothing is known"):
        convert_checkpoint(good, out, model=fitting["model"])
    with pytest.raises(UsageError, match="4 classes, but coco has 80"):
        convert_checkpoint(good, out, model=fitting["model"], categories="coco")
    with pytest.raises(UsageError, match="--categories is coco, cityscapes or a COCO file"):
        convert_checkpoint(good, out, model=fitting["model"], categories="koko")
    with pytest.raises(UsageError, match="none of the backbones"):
        convert_checkpoint(good, out, categories=fitting["categories"])
    with pytest.raises(UsageError, match="holds one model"):
        convert_checkpoint(good, out, which="teacher", **fitting)
    with pytest.raises(UsageError, match="no checkpoint of s4m"):
        convert_checkpoint(good, out, "detectron2")
    with pytest.raises(UsageError, match="TimmBackbone"):
        convert_checkpoint(good, out, model="mask2former_lite0", categories=fitting["categories"])
    bare = saved(tmp_path / "bare.pth", {"layer1.0.conv1.weight": torch.zeros(1)})
    with pytest.raises(UsageError, match=r"only a backbone.*torchvision[\s\S]*teacher\.weights"):
        convert_checkpoint(bare, out, **fitting)
    other = saved(tmp_path / "other.pth", {"fc.weight": torch.zeros(1)})
    with pytest.raises(UsageError, match=r"no Mask2Former .*fc\.weight"):
        convert_checkpoint(other, out, **fitting)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["there.pth", "there.pth"], "does not overwrite"),
        (["there.pth", "out.pkl"], "name it .pth"),
        (["missing.pth", "out.pth"], "missing.pth: no such file"),
        (["there.pth", "out.pth", "--to", "onnx"], "--to is mmdet or detectron2, not 'onnx'"),
        (["there.pth", "out.pth", "--which", "both"], "--which is teacher or student, not 'both'"),
        (["there.pth", "out.pth", "--to", "detectron2", "--model", "a"], "leave them out"),
    ],
)
def test_the_command_tells_wrong_use_before_any_work(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "s4m_pipeline.models.conversion.convert", None)
    Path("there.pth").touch()
    assert call("convert-checkpoint", *arguments) == 2
    assert told in capsys.readouterr().err
    assert not Path("out.pth").exists()
