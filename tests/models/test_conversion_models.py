import json
from pathlib import Path

import pytest
import torch

from s4m_pipeline.models.conversion.categories import KNOWN, classes_of
from s4m_pipeline.models.conversion.network import known_model, network_config


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
    found = known_model(tensors, "cityscapes", path)
    assert found == f"{name}_cityscapes"
    weights = [1.0] * 8 + [0.25]
    model = network_config(found, tensors, weights, path).model
    assert model.panoptic_head.num_queries == 200
    assert model.panoptic_head.num_things_classes == 8
    assert list(model.panoptic_head.loss_cls.class_weight) == weights
    backbone = model.backbone
    shape = {"layer": backbone.get("depth"), "stages": tuple(backbone.get("depths", ()))}[kind]
    assert shape in (blocks, {"mask2former_r50": 50, "mask2former_r101": 101}.get(name))


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
