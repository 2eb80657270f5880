"""Every figure of docs/method.md, "Settings of the published configurations", as it is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from torch import nn

from s4m_pipeline.config import RunConfig, starts_from_teacher
from s4m_pipeline.config_file import load_config
from s4m_pipeline.configs import RUNS, expects_weights, model_config_path, write_run_template
from s4m_pipeline.models.model_config import read_model_config
from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.models.pipelines import crop_pixels, train_pipeline
from s4m_pipeline.models.predictor import scale_image
from s4m_pipeline.models.schedules import schedulers

CLASSES = {"cityscapes": 8, "coco": 80}
DATA = list(CLASSES)


@pytest.fixture(scope="module", params=DATA)
def built(request: pytest.FixtureRequest) -> tuple[str, Any, Any]:
    """Name of the data, model config, and the model with ResNet-50."""
    prepare()
    config = read_model_config(f"mask2former_r50_{request.param}", CLASSES[request.param])
    with DefaultScope.overwrite_default_scope("mmdet"):
        return request.param, config, MODELS.build(config.model)


def run(data: str, paper: bool = True) -> RunConfig:
    return load_config(RUNS / f"{data}{'-paper' if paper else ''}.yaml")


def augmented(config: Any, height: int, width: int, seed: int) -> dict[str, Any]:
    """Carry an image of one instance that fills it through a recipe's own transforms."""
    steps = train_pipeline(config, strong=False)
    own = [s for s in steps if not s["type"].startswith(("Load", "Pack", "Filter"))]
    np.random.seed(seed)
    results = {
        "img": np.full((height, width, 3), 200, np.uint8),
        "img_shape": (height, width),
        "gt_masks": BitmapMasks(np.ones((1, height, width), np.uint8), height, width),
        "gt_bboxes_labels": np.zeros(1, np.int64),
        "gt_ignore_flags": np.zeros(1, bool),
    }
    with DefaultScope.overwrite_default_scope("mmdet"):
        return Compose(own)(results)


def test_queries_classes_layers_and_losses(built: tuple[str, Any, Any]) -> None:
    data, config, model = built
    head = model.panoptic_head
    assert head.num_queries == head.query_feat.num_embeddings == 100
    assert head.cls_embed.out_features == CLASSES[data] + 1
    assert len(head.transformer_decoder.layers) == 9
    assert (head.loss_cls.loss_weight, head.loss_mask.loss_weight) == (2.0, 5.0)
    assert head.loss_dice.loss_weight == 5.0
    assert list(head.class_weight) == [1.0] * CLASSES[data] + [0.1]
    assert (head.num_points, head.oversample_ratio) == (12544, 3.0)
    assert head.importance_sample_ratio == 0.75
    assert [cost.weight for cost in head.assigner.match_costs] == [2.0, 5.0, 5.0]
    assert model.get_submodule(config.feature_module).mask_feature.out_channels == 256


def test_cityscapes_scales_the_short_side_by_steps_and_crops_twice_as_wide_as_high() -> None:
    config = read_model_config("mask2former_r50_cityscapes", 8)
    (resize,) = [s for s in config.train_pipeline if s["type"] == "RandomChoiceResize"]
    steps = {int(1024 * share / 10 + 1e-9) for share in range(5, 21)}
    assert sorted(resize.scales) == [(4096, short) for short in sorted(steps)]
    assert {512, 2048} <= steps
    results = [augmented(config, 512, 1024, seed) for seed in range(24)]
    assert {result["img_shape"] for result in results} == {(512, 1024)}
    shorts = {round(result["scale_factor"][1] * 512) for result in results}
    assert len(shorts) > 8
    assert shorts <= steps
    assert {result["flip"] for result in results} == {True, False}
    long = augmented(config, 256, 4096, 3)  # too long: its long side is what limits it
    assert long["scale_factor"][0] == pytest.approx(1.0)


def test_coco_jitters_the_scale_and_ends_on_a_square_of_1024() -> None:
    config = read_model_config("mask2former_r50_coco", 80)
    results = [augmented(config, 600, 800, seed) for seed in range(150)]
    ratios = np.array([result["scale"][0] / 1024 for result in results])
    assert 0.1 <= ratios.min() < 0.2
    assert 1.9 < ratios.max() <= 2.0
    assert np.quantile(ratios, 0.5) == pytest.approx(1.05, abs=0.25)
    assert all(max(result["img_shape"]) <= 1024 for result in results)
    assert 0.35 < np.mean([result["flip"] for result in results]) < 0.65
    prepare()
    with DefaultScope.overwrite_default_scope("mmdet"):
        preprocessor = MODELS.build(config.model.data_preprocessor)
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    padded = preprocessor({"inputs": [image], "data_samples": None}, training=True)
    assert padded["inputs"].shape == (1, 3, 1024, 1024)
    plain = preprocessor({"inputs": [image], "data_samples": None}, training=False)
    assert plain["inputs"].shape == (1, 3, 64, 96)


@pytest.mark.parametrize(
    ("data", "size", "scaled"),
    [
        ("cityscapes", (1024, 2048), (1024, 2048)),
        ("cityscapes", (512, 1536), (683, 2048)),
        ("coco", (480, 640), (800, 1067)),
        ("coco", (400, 1000), (533, 1333)),
    ],
)
def test_input_of_the_test(data: str, size: tuple[int, int], scaled: tuple[int, int]) -> None:
    config = read_model_config(f"mask2former_r50_{data}", 3)
    image = np.zeros((*size, 3), np.uint8)
    assert scale_image(image, tuple(config.test_scale)).size == scaled


def test_optimiser(built: tuple[str, Any, Any]) -> None:
    _, config, model = built
    with DefaultScope.overwrite_default_scope("mmdet"):
        wrapper = build_optim_wrapper(model, config.optim_wrapper.to_dict())
    assert type(wrapper.optimizer) is torch.optim.AdamW
    assert wrapper.clip_grad_kwargs == {"max_norm": 0.01, "norm_type": 2}
    groups = wrapper.optimizer.param_groups
    place = {id(p): group for group in groups for p in group["params"]}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert set(map(id, trained.values())) <= set(place)
    norms = {
        f"{module_name}.{name}"
        for module_name, module in model.named_modules()
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm))
        for name, _ in module.named_parameters(recurse=False)
    }
    embeddings = ("query_feat", "query_embed", "level_embed")
    for name, parameter in trained.items():
        group = place[id(parameter)]
        assert group["lr"] == pytest.approx(1e-5 if name.startswith("backbone.") else 1e-4), name
        bare = name in norms or any(part in name for part in embeddings)
        # the encoder's level embedding is a parameter of the pixel decoder as well
        assert group["weight_decay"] == (0.0 if bare else 0.05), name


@pytest.mark.parametrize("backbone", ["swin_t", "swin_s", "dinov2_s", "r101"])
@pytest.mark.parametrize("data", DATA)
def test_a_backbones_normalisation_does_not_decay(backbone: str, data: str) -> None:
    if backbone.startswith("dinov2"):
        pytest.importorskip("timm")
    prepare()
    config = read_model_config(f"mask2former_{backbone}_{data}", 3)
    network = nn.Module()
    with DefaultScope.overwrite_default_scope("mmdet"):
        network.backbone = MODELS.build(config.model.backbone)
        wrapper = build_optim_wrapper(network, config.optim_wrapper.to_dict())
    place = {id(p): g for g in wrapper.optimizer.param_groups for p in g["params"]}
    marks = ("norm", "bn", "downsample.1.", "bias_table", "pos_embed", "cls_token")
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            group = place[id(parameter)]
            assert group["lr"] == pytest.approx(1e-5)
            bare = any(mark in name for mark in marks)
            assert group["weight_decay"] == (0.0 if bare else 0.05), name


def rates(data: str, iterations: int, at: list[int]) -> list[float]:
    """Learning rates that a training of this length has at some iterations."""
    config = read_model_config(f"mask2former_r50_{data}", 3)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-4)
    values = []
    with DefaultScope.overwrite_default_scope("mmdet"):
        steps = [
            PARAM_SCHEDULERS.build({**s, "optimizer": optimizer})
            for s in schedulers(config, iterations)
        ]
    for iteration in range(iterations):
        if iteration in at:
            values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for step in steps:
            step.step()
    return values


def test_cityscapes_rate_falls_by_a_power_of_what_is_left() -> None:
    at = [0, 1, 300, 899]  # MMEngine's rate is 0 at the last iteration, not after it
    expected = [1e-4 * (1 - i / 899) ** 0.9 for i in at]
    assert rates("cityscapes", 900, at) == pytest.approx(expected)


def test_cocos_rate_falls_twice() -> None:
    (steps,) = schedulers(read_model_config("mask2former_r50_coco", 3), 368750)
    assert steps["milestones"] == [327778, 355092]
    assert not steps["by_epoch"]
    values = rates("coco", 1000, [0, 888, 890, 962, 964])
    assert values == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5, 1e-6])


@pytest.mark.parametrize(
    ("data", "teacher", "student", "iterations"),
    [("cityscapes", 4, (16, 16), 90000), ("coco", 16, (12, 12), 368750)],
)
def test_lengths_and_batches_of_a_run(
    data: str, teacher: int, student: tuple[int, int], iterations: int
) -> None:
    config = run(data)
    assert config.teacher.batch_size == teacher
    assert (config.student.labelled_batch, config.student.unlabelled_batch) == student
    assert config.teacher.iterations == config.student.iterations == iterations
    if data == "coco":  # 50 epochs of 118 000 images
        assert config.teacher.iterations * config.teacher.batch_size == 50 * 118000
    for section in (config.teacher, config.student):
        assert section.model == f"mask2former_r50_{data}"
        assert Path(str(section.weights)).name == "resnet50.pth"
        assert section.learning_rate is None
        assert "ImageNet" in str(expects_weights(section.model))


@pytest.mark.parametrize(
    ("data", "mode", "pixels"),
    [("cityscapes", "static", 512 * 1024), ("coco", "dynamic", 1024 * 1024)],
)
def test_a_runs_losses_labels_and_augmentation(data: str, mode: str, pixels: int) -> None:
    config = run(data)
    assert (config.structure.points, config.structure.grid) == (256, 64)
    assert config.teacher.structure_weight == 1.0
    assert config.student.structure_weight == config.student.class_weight == 0.0
    assert config.student.unlabelled_weight == 2.0
    assert config.student.repeat_threshold == 10
    assert config.student.ema == 0.9996
    assert config.student.paste == mode
    assert config.student.paste_min_area * pixels == pytest.approx(3000, abs=5)
    assert crop_pixels(read_model_config(model_config_path(config.student.model), 8)) == pixels
    assert (config.pseudo_label.score, config.pseudo_label.thresholds) == (0.7, "fixed")
    assert config.pseudo_label.min_area == 5
    assert (config.refine.policy, config.refine.points) == ("points", 3)
    assert (config.refine.candidate, config.refine.min_agreement) == ("argmax-iou", 0.0)
    assert config.refine.max_area_ratio is None
    assert (config.segmenter.name, config.segmenter.image_size) == ("sam2_hiera_large", 1024)


@pytest.mark.parametrize(("data", "interval"), [("cityscapes", 5000), ("coco", 7000)])
def test_weights_labels_and_unlabelled_images_of_a_run(data: str, interval: int) -> None:
    config = run(data)
    for section in (config.teacher, config.student):
        assert (section.keep, section.validation_interval) == ("best", interval)
    assert config.data.unlabelled is not None
    assert config.data.unlabelled.include_labelled
    assert config.data.unlabelled.images == config.data.labelled.images
    assert not starts_from_teacher(config), "the student starts from ImageNet"
    text = " ".join((RUNS / f"{data}-paper.yaml").read_text().replace("#", " ").split())
    assert "--list perc_10.txt --unlabelled all" in text


def test_cityscapes_alone_changes_colours_of_labelled_images() -> None:
    weak = read_model_config("mask2former_r50_cityscapes", 8).weak_pipeline
    assert [dict(step) for step in weak] == [
        {
            "type": "SsdColours", "brightness": 32, "contrast": (0.5, 1.5),
            "saturation": (0.5, 1.5), "hue": 18,
        }
    ]  # fmt: skip
    assert "weak_pipeline" not in read_model_config("mask2former_r50_coco", 80)


@pytest.mark.parametrize("data", DATA)
def test_our_run_differs_from_the_papers_in_what_its_comment_names(
    data: str, tmp_path: Path
) -> None:
    write_run_template(data, tmp_path / "run.yaml")
    ours = yaml.safe_load((tmp_path / "run.yaml").read_text())
    papers = yaml.safe_load((RUNS / f"{data}-paper.yaml").read_text())
    assert ours.pop("refine") != papers.pop("refine")
    assert papers["student"].pop("weights") == "resnet50.pth"
    assert papers["student"].pop("ignore_score") is None
    for section in (papers["teacher"], papers["student"]):
        assert section.pop("keep") == "best"
        section.pop("validation_interval")
    assert "sam2.1" in str(ours.pop("segmenter"))
    papers.pop("segmenter")
    assert papers["data"]["unlabelled"].pop("include_labelled") is True
    assert ours == papers
    assert load_config(tmp_path / "run.yaml").refine.candidate == "fuse"
