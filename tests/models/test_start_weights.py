import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from mmdet.models.backbones import ResNet, SwinTransformer
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.start_weights import load_start_weights
from tests.models.conversion import hugging_face

STAGES = ("layer1", "layer2", "layer3", "layer4")


class Network(nn.Module):
    """All that is asked of a model here: a backbone, and one layer above it."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(2, 2)


def resnet(depth: int) -> Network:
    return Network(ResNet(depth, norm_eval=True, style="pytorch"))


def features_of(network: Network, image: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return list(network.eval().backbone(image))


@pytest.mark.parametrize("depth", [50, 101])
def test_torchvisions_resnet_has_the_same_features(depth: int, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = getattr(torchvision.models, f"resnet{depth}")(weights=None).eval()
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            if value.ndim == 1 and name != "fc.bias":  # normalisation, all ones and zeros so far
                value.copy_(torch.rand_like(value) * 0.5 + 0.1)
    torch.save(theirs.state_dict(), tmp_path / "resnet.pth")
    ours = resnet(depth)
    load_start_weights(ours, tmp_path / "resnet.pth")
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        wanted = create_feature_extractor(theirs, list(STAGES))(image)
    for stage, features in zip(STAGES, features_of(ours, image), strict=True):
        largest = float(wanted[stage].abs().max())
        assert largest > 0.1
        torch.testing.assert_close(features, wanted[stage], atol=1e-5 * largest, rtol=0)


def test_a_swin_in_its_authors_names_has_the_features_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip(
        "transformers", "5.20", reason="the peer, transformers, is missing"
    )
    torch.manual_seed(2)
    blocks, heads = (2, 2, 2, 1), (1, 2, 3, 4)
    theirs = transformers.SwinBackbone(
        transformers.SwinConfig(
            embed_dim=12,
            depths=blocks,
            num_heads=heads,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
    ).eval()
    hugging_face.randomise(theirs.swin)
    torch.save({"model": authors_names(theirs, blocks)}, tmp_path / "swin.pth")
    backbone = SwinTransformer(embed_dims=12, depths=blocks, num_heads=heads, window_size=7)
    ours = Network(backbone)
    load_start_weights(ours, tmp_path / "swin.pth")
    image = torch.randn(2, 3, 72, 104)
    with torch.no_grad():
        wanted = theirs(image).feature_maps
    for features, right in zip(features_of(ours, image), wanted, strict=True):
        assert right.std() > 0.1
        torch.testing.assert_close(features, right, atol=1e-4, rtol=0)


def authors_names(model: Any, blocks: tuple[int, ...]) -> dict[str, Tensor]:
    """An ImageNet file of Swin's authors, with the classifier that no segmentation network has."""
    state = {name: value.clone() for name, value in model.swin.state_dict().items()}
    moved: dict[str, Tensor] = {}

    def move(source: str, target: str) -> None:
        for name in [name for name in state if name.startswith(source + ".")]:
            moved[target + name[len(source) :]] = state.pop(name)

    def join(sources: list[str], weight: str, bias: str) -> None:
        moved[weight] = torch.cat([state.pop(f"{name}.weight") for name in sources])
        moved[bias] = torch.cat([state.pop(f"{name}.bias") for name in sources])

    move("embeddings.patch_embeddings.projection", "patch_embed.proj")
    move("embeddings.norm", "patch_embed.norm")
    for stage, count in enumerate(blocks):
        for block in range(count):
            name = f"layers.{stage}.blocks.{block}"
            hugging_face.swin_block(f"encoder.{name}", name, moved, move, join)
            moved[f"{name}.attn_mask"] = torch.zeros(4, 49, 49)
        move(f"encoder.layers.{stage}.downsample", f"layers.{stage}.downsample")
    move("layernorm", "norm")
    assert not state, list(state)
    return moved | {"head.weight": torch.zeros(10, 96), "head.bias": torch.zeros(10)}


def detectron2_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ResNet of torchvision under detectron2's names, as its model zoo has them."""
    renamed = {}
    for name, value in state.items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        for stage in (1, 2, 3, 4):
            name = name.replace(f"layer{stage}.", f"res{stage + 1}.")
        name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        for number in (1, 2, 3):
            name = name.replace(f"bn{number}", f"conv{number}.norm")
        renamed[name if name.startswith("res") else f"stem.{name}"] = value
    return renamed


def test_detectron2s_imagenet_pickle_loads_like_torchvisions_file(tmp_path: Path) -> None:
    torch.manual_seed(3)
    state = torchvision.models.resnet50(weights=None).state_dict()
    renamed = detectron2_names(state)
    assert {"stem.conv1.weight", "stem.conv1.norm.bias", "res2.0.shortcut.norm.weight"} < set(
        renamed
    )
    content = {"model": {name: value.numpy() for name, value in renamed.items()}}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content))
    ours = resnet(50)
    assert load_start_weights(ours, tmp_path / "R-50.pkl") == len(renamed)
    for name, value in ours.backbone.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, state[name]), name


def test_a_whole_detectron2_checkpoint_starts_all_but_another_number_of_classes(
    tmp_path: Path,
) -> None:
    pytest.importorskip("transformers", "5.20", reason="the peer, transformers, is missing")
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from s4m_pipeline.configs import model_config_path
    from s4m_pipeline.models.model_config import read_model_config
    from s4m_pipeline.models.openmmlab import prepare

    prepare()
    init_default_scope("mmdet")
    tensors = hugging_face.detectron2_tensors(hugging_face.random_model("resnet"), "resnet")
    teacher = {f"modelTeacher.{name}": value for name, value in tensors.items()}
    student = {f"modelStudent.{name}": value + 1 for name, value in tensors.items()}
    torch.save({"model": teacher | student, "iteration": 3}, tmp_path / "two.pth")
    config = tmp_path / "model.py"
    config.write_text(
        hugging_face.model_config("resnet", str(model_config_path("mask2former_r50")))
        + f"model['panoptic_head']['num_queries'] = {hugging_face.QUERIES}\n"
    )
    model = MODELS.build(read_model_config(config, hugging_face.CLASSES + 2).model)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    load_start_weights(model, tmp_path / "two.pth")
    loaded = model.state_dict()
    same = [n for n in fresh if torch.equal(fresh[n], loaded[n]) and "num_batches" not in n]
    assert same == ["panoptic_head.cls_embed.weight", "panoptic_head.cls_embed.bias"]
    query = "panoptic_head.query_feat.weight"
    assert torch.equal(loaded[query], tensors["sem_seg_head.predictor.query_feat.weight"])


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(UsageError, match="do not fit the model"):
        load_start_weights(resnet(50), tmp_path / "a.pth")
    torch.save({"epoch": 3}, tmp_path / "b.pth")
    with pytest.raises(UsageError, match="holds no tensors"):
        load_start_weights(resnet(50), tmp_path / "b.pth")


@pytest.mark.parametrize(("file", "model"), [(50, 101), (101, 50)])
def test_a_resnet_of_another_depth_is_refused(file: int, model: int, tmp_path: Path) -> None:
    state = getattr(torchvision.models, f"resnet{file}")(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet.pth")
    with pytest.raises(UsageError, match=r"do not fit the model.*\n.*another network"):
        load_start_weights(resnet(model), tmp_path / "resnet.pth")


def test_a_swin_of_another_depth_is_refused(tmp_path: Path) -> None:
    def swin(depths: tuple[int, ...]) -> Network:
        return Network(SwinTransformer(embed_dims=12, depths=depths, num_heads=(1, 2, 3, 4)))

    torch.save(swin((2, 2, 6, 2)).state_dict(), tmp_path / "tiny.pth")
    with pytest.raises(UsageError, match="of its backbone"):
        load_start_weights(swin((2, 2, 18, 2)), tmp_path / "tiny.pth")
    assert load_start_weights(swin((2, 2, 6, 2)), tmp_path / "tiny.pth")
