import json
from pathlib import Path

import pytest
import torch

from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.models.conversion.categories import KNOWN, classes_of
from s4m_pipeline.models.conversion.detectron2 import from_detectron2, to_detectron2
from s4m_pipeline.models.conversion.network import class_count, known_model, network_config


@pytest.mark.parametrize(
    ("name", "kind", "blocks", "width"),
    [
        ("mask2former_r50", "layer", (3, 4, 6, 3), 64),
        ("mask2former_r101", "layer", (3, 4, 23, 3), 64),
        ("mask2former_swin_t", "stages", (2, 2, 6, 2), 96),
        ("mask2former_swin_s", "stages", (2, 2, 18, 2), 96),
        ("mask2former_swin_b", "stages", (2, 2, 18, 2), 128),
        ("mask2former_swin_l", "stages", (2, 2, 18, 2), 192),
    ],
)
def test_published_backbones_are_known_by_their_shape(
    name: str, kind: str, blocks: tuple[int, ...], width: int
) -> None:
    tensors = {"panoptic_head.cls_embed.bias": torch.zeros(9)}
    tensors["panoptic_head.query_feat.weight"] = torch.zeros(200, 1)
    first = "conv1" if kind == "layer" else "patch_embed.projection"
    tensors[f"backbone.{first}.weight"] = torch.zeros(width, 3, 1, 1)
    for stage, count in enumerate(blocks):
        for block in range(count):
            place = f"layer{stage + 1}.{block}.conv1.weight"
            other = f"stages.{stage}.blocks.{block}.norm1.bias"
            tensors[f"backbone.{place if kind == 'layer' else other}"] = torch.zeros(1)
    path = Path("a.pth")
    assert known_model(tensors, "coco", path) == f"{name}_coco"
    known = known_model(tensors, "cityscapes", path)
    assert known == f"{name}_cityscapes"
    weights = [1.0] * 8 + [0.25]
    model = network_config(known, tensors, weights, path).model
    assert model.panoptic_head.num_queries == 200
    assert model.panoptic_head.num_things_classes == 8
    assert list(model.panoptic_head.loss_cls.class_weight) == weights
    backbone = model.backbone
    shape = {"layer": backbone.get("depth"), "stages": tuple(backbone.get("depths", ()))}[kind]
    assert shape in (blocks, {"mask2former_r50": 50, "mask2former_r101": 101}.get(name))


EMPTY = (torch.zeros(()), torch.zeros(0), torch.zeros(0, 3, 7, 7))


@pytest.mark.parametrize("empty", EMPTY)
def test_tensors_without_values_are_named(empty: torch.Tensor) -> None:
    path, classes = Path("a.pth"), {"panoptic_head.cls_embed.bias": torch.zeros(9)}
    for first in ("conv1.weight", "patch_embed.projection.weight"):
        with pytest.raises(ArtifactError, match=rf"a\.pth is .* no values for backbone\.{first}"):
            known_model({f"backbone.{first}": empty}, "coco", path)
    with pytest.raises(ArtifactError, match=r"no values for panoptic_head\.cls_embed\.bias"):
        class_count({"panoptic_head.cls_embed.bias": empty}, path)
    queries = {"panoptic_head.query_feat.weight": empty}
    with pytest.raises(ArtifactError, match=r"no values for panoptic_head\.query_feat\.weight"):
        network_config("mask2former_r50_coco", classes | queries, None, path)


def test_a_class_layer_for_no_object_alone_has_no_classes() -> None:
    with pytest.raises(ArtifactError, match="no class but 'no object'"):
        class_count({"panoptic_head.cls_embed.bias": torch.zeros(1)}, Path("a.pth"))


@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 7), (3, 0)])
def test_a_swin_with_misshapen_merging_keeps_it_for_the_comparison(shape: tuple[int, ...]) -> None:
    name = "backbone.layers.0.downsample.reduction.weight"
    renamed = from_detectron2({name: torch.ones(shape)}).tensors
    assert {n: tuple(v.shape) for n, v in renamed.items()} == {
        "backbone.stages.0.downsample.reduction.weight": shape
    }
    assert to_detectron2(renamed, [1.0]).tensors[name].shape == shape


def test_a_file_with_cityscapes_classes_gets_its_recipe(tmp_path: Path) -> None:
    names = [category["name"] for category in KNOWN["cityscapes"].categories]

    def recipe(*listed: str) -> str:
        categories = [{"id": 40 - place, "name": name} for place, name in enumerate(listed)]
        content = {"images": [], "annotations": [], "categories": categories}
        (tmp_path / "a.json").write_text(json.dumps(content))
        return classes_of(str(tmp_path / "a.json"), 8).recipe

    assert recipe(*names) == "cityscapes"
    assert recipe("moped", *names[1:]) == "coco"
    assert classes_of(None, 8).recipe == "cityscapes"


def test_known_classes_are_mmdetections_in_order() -> None:
    from mmdet.datasets import CityscapesDataset, CocoDataset

    for name, peer in (("coco", CocoDataset), ("cityscapes", CityscapesDataset)):
        assert [c["name"] for c in KNOWN[name].categories] == list(peer.METAINFO["classes"])
    ids = {c["name"]: c["id"] for c in KNOWN["coco"].categories}
    assert (ids["person"], ids["stop sign"], ids["dining table"], ids["toothbrush"]) == (
        1,
        13,
        67,
        90,
    )
    assert len(set(ids.values())) == 80
