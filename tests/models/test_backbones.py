from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.model_config import read_model_config
from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.models.start_weights import load_start_weights
from s4m_pipeline.models.vit_backbone import SimpleFeaturePyramid, TimmViT

timm = pytest.importorskip("timm")
NAME = "vit_small_patch14_dinov2"
SHALLOW = {"depth": 2}


@pytest.fixture
def peer() -> Any:
    """timm's own model with patches of 14 px, its scales such that every part shows."""
    torch.manual_seed(0)
    network = timm.create_model(
        NAME, pretrained=False, num_classes=0, dynamic_img_size=True, depth=2
    )
    for name, parameter in network.named_parameters():
        if "gamma" in name or "norm" in name or "bias" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    nn.init.normal_(network.pos_embed)
    return network.eval()


def authors_file(peer: nn.Module, path: Path) -> Path:
    """Write a model's weights as DINOv2's authors do, who have a mask token as well."""
    tensors = dict(peer.state_dict())
    torch.save({**tensors, "mask_token": torch.zeros(1, 384)}, path)
    return path


def enlarged_patches(image: Tensor) -> Tensor:
    """Enlarge every patch of 14 px to 16 px by itself."""
    rows, columns = image.shape[-2] // 14, image.shape[-1] // 14
    patches = F.unfold(image, 14, stride=14).transpose(1, 2).reshape(-1, 3, 14, 14)
    larger = F.interpolate(patches, (16, 16), mode="bicubic", antialias=True)
    folded = larger.reshape(1, rows * columns, -1).transpose(1, 2)
    return F.fold(folded, (rows * 16, columns * 16), 16, stride=16)


@pytest.mark.parametrize("grid", [(4, 6), (37, 37), (3, 40)])
def test_resampled_patches_and_positions_see_what_the_old_ones_saw(
    peer: Any, tmp_path: Path, grid: tuple[int, int]
) -> None:
    backbone = TimmViT(NAME, options=SHALLOW).eval()
    file = torch.load(authors_file(peer, tmp_path / "dinov2.pth"), weights_only=True)
    translated = backbone.own_tensors(file)
    assert set(translated) == set(backbone.state_dict())
    backbone.load_state_dict(translated)
    image = torch.rand(1, 3, grid[0] * 14, grid[1] * 14)
    with torch.no_grad():
        expected = peer.forward_features(image)[:, 1:].transpose(1, 2).unflatten(2, grid)
        (features,) = backbone(enlarged_patches(image))
    assert features.shape == (1, 384, *grid)
    assert torch.allclose(features, expected, atol=1e-4)


def test_a_vit_starts_from_the_file_that_a_run_names(peer: Any, tmp_path: Path) -> None:
    network = nn.Module()
    network.backbone = TimmViT(NAME, options=SHALLOW)
    path = authors_file(peer, tmp_path / "dinov2.pth")
    assert load_start_weights(network, path) == len(network.state_dict())
    first = network.backbone.network.blocks[0].attn.qkv.weight
    assert torch.equal(first, peer.blocks[0].attn.qkv.weight)
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet.pth")
    with pytest.raises(UsageError, match="do not fit"):
        load_start_weights(network, tmp_path / "resnet.pth")


def test_a_file_of_another_kind_has_nothing_for_a_vit() -> None:
    backbone = TimmViT(NAME, options=SHALLOW)
    assert backbone.own_tensors({"layer1.0.conv1.weight": torch.zeros(1)}) == {}


def test_an_unknown_vit_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="vit_tiny_patch3"):
        TimmViT("vit_tiny_patch3_dinov2")


@pytest.mark.parametrize(("height", "width"), [(2, 2), (6, 10)])
def test_the_pyramid_doubles_and_halves_the_map(height: int, width: int) -> None:
    pyramid = SimpleFeaturePyramid(128, 32)
    maps = pyramid((torch.rand(2, 128, height, width, requires_grad=True),))
    assert [tuple(m.shape) for m in maps] == [
        (2, 32, height * 4, width * 4),
        (2, 32, height * 2, width * 2),
        (2, 32, height, width),
        (2, 32, height // 2, width // 2),
    ]
    sum(m.square().mean() for m in maps).backward()
    assert all(parameter.grad is not None for parameter in pyramid.parameters())


def test_the_pyramids_maps_lie_where_the_image_is() -> None:
    torch.manual_seed(0)
    pyramid = SimpleFeaturePyramid(64, 32).eval()
    flat = torch.zeros(1, 64, 8, 8)
    spot = flat.clone()
    spot[0, :, 5, 2] = 10
    for stride, one, other in zip((4, 8, 16, 32), pyramid((flat,)), pyramid((spot,)), strict=True):
        changed = (other - one).abs().amax(1)[0]
        row, column = divmod(int(changed.argmax()), changed.shape[1])
        centre = ((row + 0.5) * stride / 16, (column + 0.5) * stride / 16)
        assert abs(centre[0] - 5.5) <= 1.5
        assert abs(centre[1] - 2.5) <= 1.5


@pytest.mark.parametrize(("data", "trained"), [("cityscapes", True), ("coco", False)])
def test_cityscapes_trains_the_normalisation_of_its_resnet_and_coco_does_not(
    data: str, trained: bool
) -> None:
    prepare()
    settings = read_model_config(f"mask2former_r50_{data}", 8).model.backbone
    with DefaultScope.overwrite_default_scope("mmdet"):
        backbone = MODELS.build({**settings, "depth": 18})
    norms = [m for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 20
    assert {type(norm) for norm in norms} == {nn.BatchNorm2d}
    backbone.train()
    before = norms[0].state_dict()["running_mean"].clone()
    backbone(torch.rand(2, 3, 32, 32))
    assert (not torch.equal(norms[0].state_dict()["running_mean"], before)) == trained
    assert all(p.requires_grad == trained for norm in norms for p in norm.parameters())
