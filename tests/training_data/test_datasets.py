"""Datasets: conventions of MMDetection, pseudo-labels, seeded items, workers."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from s4m_pipeline.models.openmmlab import prepare

prepare()

from s4m_pipeline.artifacts.tables import write_table  # noqa: E402
from s4m_pipeline.configs.losses import StudentLosses  # noqa: E402
from s4m_pipeline.errors import ArtifactError, UsageError  # noqa: E402
from s4m_pipeline.training_data.datasets import CocoInstances, RefinedInstances  # noqa: E402
from s4m_pipeline.training_data.mixed_dataset import MixedDataset  # noqa: E402
from s4m_pipeline.training_data.samplers import MixedSampler  # noqa: E402
from s4m_pipeline.training_data.worker_errors import unwrap  # noqa: E402
from tests.small_sets import (  # noqa: E402
    CATEGORIES,
    SIZES,
    boxes_of,
    coco_content,
    rectangle,
    refined_row,
    write_json,
)

PIPELINE: list[dict[str, Any]] = [
    {"type": "LoadImage"},
    {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
    {"type": "RandomResize", "scale": (64, 64), "ratio_range": (0.5, 2.0), "keep_ratio": True},
    {"type": "RandomCrop", "crop_size": (40, 40), "recompute_bbox": True},
    {"type": "FilterInstances", "min_gt_bbox_wh": (1, 1), "by_mask": True},
    {"type": "RandomFlip", "prob": 0.5},
    {"type": "ColourJitter"},
    {"type": "GaussianBlur"},
    {"type": "PackInstances"},
]


@pytest.fixture
def refine_artifact(tmp_path: Path) -> Path:
    """Pseudo-labels of the small set, moved by a pixel.

    Image 4's are all dropped, image 5 was set aside.
    """
    rows = []
    for number in range(5):
        for place, (category_id, (x, y, w, h)) in enumerate(boxes_of(number)):
            masks = (
                rectangle(*SIZES[number], x + 1, y, w, h),
                rectangle(*SIZES[number], x, y, w, h // 2),
            )
            decision = "dropped" if number == 4 else ("refined", "kept")[place % 2]
            name = f"picture {number}.png"
            row = refined_row(
                number * 10, name, SIZES[number], category_id, [0.25, 0.75], masks, decision
            )
            rows.append(row)
    folder = tmp_path / "refine"
    write_table(folder / "refined/part-0.parquet", "refined", rows, CATEGORIES)
    aside = {
        "image_id": 50,
        "file_name": "picture 5.png",
        "stage": "refine",
        "error": "broken",
        "attempts": 1,
    }
    write_table(folder / "quarantine/part-0.parquet", "quarantine", [aside], CATEGORIES)
    return folder


def _source(small_set: tuple[Path, Path]) -> dict[str, str]:
    return {"annotations": str(small_set[0]), "images": str(small_set[1])}


def test_coco_instances_follow_mmdet(small_set: tuple[Path, Path]) -> None:
    dataset = CocoInstances(*small_set)
    assert len(dataset) == 6
    assert dataset.metainfo["classes"] == ("disc", "box")
    info = dataset.get_data_info(1)
    assert info["img_path"] == str(small_set[1] / "picture 1.png")
    assert (info["height"], info["width"], info["img_id"]) == (*SIZES[1], 10)
    for instance, (category_id, (x, y, w, h)) in zip(info["instances"], boxes_of(1), strict=True):
        assert instance["bbox"] == [x, y, x + w, y + h]
        assert instance["bbox_label"] == {3: 0, 1: 1}[category_id]
        assert isinstance(instance["mask"]["counts"], str)
        assert instance["ignore_flag"] == 0
    assert len(CocoInstances(*small_set, keep_empty=False)) == 5


def test_masks_arrive_as_they_are(small_set: tuple[Path, Path]) -> None:
    pipeline = [*PIPELINE[:2], PIPELINE[-1]]
    dataset = CocoInstances(*small_set, pipeline=pipeline)
    for number in range(6):
        sample = dataset[number]["data_samples"]
        masks = sample.gt_instances.masks.masks
        expected = [rectangle(*SIZES[number], *box) for _, box in boxes_of(number)]
        assert masks.shape[0] == len(expected)
        assert all(np.array_equal(a, b) for a, b in zip(masks, expected, strict=True))
        assert sample.metainfo["branch"] == "labelled"
        assert "class_probs" not in sample.gt_instances


def test_order_of_categories_can_be_set(small_set: tuple[Path, Path]) -> None:
    dataset = CocoInstances(*small_set, categories=CATEGORIES[::-1])
    assert dataset.metainfo["classes"] == ("box", "disc")
    assert [i["bbox_label"] for i in dataset.get_data_info(1)["instances"]] == [1, 0]
    with pytest.raises(UsageError, match="different categories"):
        CocoInstances(*small_set, categories=[{"id": 1, "name": "box"}])


def test_labels_do_not_depend_on_the_order_in_the_file(small_set: tuple[Path, Path]) -> None:
    def labels() -> list[list[int]]:
        dataset = CocoInstances(*small_set, categories=CATEGORIES)
        infos = [dataset.get_data_info(place) for place in range(len(dataset))]
        return [[instance["bbox_label"] for instance in info["instances"]] for info in infos]

    expected = [[{3: 0, 1: 1}[key] for key, _ in boxes_of(number)] for number in range(6)]
    content = coco_content()
    for categories in (CATEGORIES, CATEGORIES[::-1]):
        content["categories"] = categories
        write_json(small_set[0], content)
        assert labels() == expected


def test_excluded_images_are_left_out(small_set: tuple[Path, Path]) -> None:
    dataset = CocoInstances(*small_set, exclude=[10, 50, 7])
    assert [dataset.get_data_info(k)["img_id"] for k in range(len(dataset))] == [0, 20, 30, 40]
    assert len(dataset.get_data_info(1)["instances"]) == len(boxes_of(2))
    with pytest.raises(UsageError, match="no labelled image is left"):
        CocoInstances(*small_set, exclude=range(0, 60, 10))


def test_crowds_are_ignored_instances(small_set: tuple[Path, Path]) -> None:
    content = coco_content()
    content["annotations"][0]["iscrowd"] = 1
    write_json(small_set[0], content)
    sample = CocoInstances(*small_set, pipeline=[*PIPELINE[:2], PIPELINE[-1]])[0]["data_samples"]
    assert len(sample.ignored_instances.labels) == 1
    assert len(sample.gt_instances.labels) == len(boxes_of(0)) - 1


def test_refined_instances(small_set: tuple[Path, Path], refine_artifact: Path) -> None:
    dataset = RefinedInstances(refine_artifact, _source(small_set), CATEGORIES)
    ids = [dataset.get_data_info(index)["img_id"] for index in range(len(dataset))]
    assert ids == [0, 10, 20, 30, 40]  # 50 was set aside; 30 and 40 are background
    assert [len(dataset.get_data_info(k)["instances"]) for k in range(5)] == [3, 2, 3, 0, 0]
    info = dataset.get_data_info(1)
    _, (x, y, w, h) = boxes_of(1)[0]
    assert info["instances"][0]["bbox"] == [x + 1, y, x + 1 + w, y + h]
    assert info["class_probs"].tolist() == [[0.25, 0.75]] * 2
    assert info["branch"] == "unlabelled"
    without = RefinedInstances(refine_artifact, _source(small_set), CATEGORIES, keep_empty=False)
    assert len(without) == 3
    excluded = RefinedInstances(refine_artifact, _source(small_set), CATEGORIES, exclude=[0, 30])
    assert len(excluded) == 3


def test_class_probs_follow_the_order_of_categories(
    small_set: tuple[Path, Path], refine_artifact: Path
) -> None:
    dataset = RefinedInstances(refine_artifact, _source(small_set), CATEGORIES[::-1])
    info = dataset.get_data_info(1)
    assert info["class_probs"].tolist() == [[0.75, 0.25]] * 2
    assert [instance["bbox_label"] for instance in info["instances"]] == [1, 0]


def test_what_does_not_fit_the_artifact(
    small_set: tuple[Path, Path], refine_artifact: Path, tmp_path: Path
) -> None:
    source = _source(small_set)
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="different categories"):
        RefinedInstances(refine_artifact, source, [{"id": 1, "name": "cat"}])
    with pytest.raises(UsageError, match=r"other images: image 0 is picture 0\.png"):
        # a folder's ids count from 1
        RefinedInstances(refine_artifact, {"images": str(small_set[1])}, CATEGORIES)
    with pytest.raises(UsageError, match="no unlabelled image"):
        RefinedInstances(tmp_path / "none", source, CATEGORIES, keep_empty=False)
    (refine_artifact / "refined/part-0.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(ArtifactError):
        RefinedInstances(refine_artifact, source, CATEGORIES)
    load = [{"type": "LoadStructure"}]
    structured = CocoInstances(*small_set, structure=tmp_path / "none", pipeline=load)
    with pytest.raises(ArtifactError, match="no structural targets"):
        structured[0]


def test_items_are_seeded_by_draw_and_leave_the_generators_alone(
    small_set: tuple[Path, Path],
) -> None:
    dataset = CocoInstances(*small_set, pipeline=PIPELINE)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = dataset[(0, 5)]["inputs"]
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    np.random.seed(99)
    assert torch.equal(dataset[(0, 5)]["inputs"], first)
    others = [dataset[(0, draw)]["inputs"] for draw in range(6, 10)]
    assert any(o.shape != first.shape or not torch.equal(o, first) for o in others)
    reseeded = CocoInstances(*small_set, pipeline=PIPELINE, seed=1)
    differing = [
        reseeded[(0, d)]["inputs"].shape != dataset[(0, d)]["inputs"].shape for d in range(8)
    ]
    assert any(differing)


def test_a_cache_file_changes_no_item_and_holds_what_workers_read(
    small_set: tuple[Path, Path], refine_artifact: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "work/labels.arrow"
    settings: dict[str, Any] = {
        "pipeline": [*PIPELINE[:2], PIPELINE[-1]],
        "losses": StudentLosses(quality_weight=True),
    }
    source = (refine_artifact, _source(small_set), CATEGORIES)
    plain = RefinedInstances(*source, **settings)
    cached = RefinedInstances(*source, **settings, cache=cache)
    assert cache.is_file()
    assert len(pickle.dumps(cached._labels)) < 1000, "a worker gets the file's name"
    loader: DataLoader = DataLoader(cached, batch_size=1, num_workers=2, collate_fn=list)
    for place, [item] in enumerate(loader):
        first, second = (d["data_samples"].gt_instances for d in (plain[place], item))
        assert torch.equal(plain[place]["inputs"], item["inputs"])
        assert np.array_equal(first.masks.masks, second.masks.masks)
        for key in ("labels", "class_probs", "quality"):
            assert torch.equal(first[key], second[key])
        assert torch.equal(first.bboxes.tensor, second.bboxes.tensor)
        info, same = plain.get_data_info(place), cached.get_data_info(place)
        assert info.keys() == same.keys()
        assert info["instances"] == same["instances"]


def _mixed(small_set: tuple[Path, Path], refine_artifact: Path) -> MixedDataset:
    return MixedDataset(
        {
            "type": "CocoInstances",
            "annotations": str(small_set[0]),
            "images": str(small_set[1]),
            "pipeline": PIPELINE,
        },
        {
            "type": "RefinedInstances",
            "artifact": str(refine_artifact),
            "images": _source(small_set),
            "categories": CATEGORIES,
            "pipeline": PIPELINE,
        },
    )


def _batches(dataset: MixedDataset, workers: int, start: int, count: int) -> list[list[dict]]:
    sampler = MixedSampler(dataset, batch_size=4, unlabelled=2, seed=3, start=start)
    loader = DataLoader(
        dataset, batch_size=4, sampler=sampler, num_workers=workers, collate_fn=list
    )
    iterator = iter(loader)
    return [next(iterator) for _ in range(count)]


def test_data_do_not_depend_on_workers_or_a_restart(
    small_set: tuple[Path, Path], refine_artifact: Path
) -> None:
    dataset = _mixed(small_set, refine_artifact)
    assert (len(dataset), dataset.labelled_count) == (11, 6)
    alone = _batches(dataset, 0, 0, 5)
    for batch in alone:
        branches = [item["data_samples"].metainfo["branch"] for item in batch]
        assert branches == ["labelled"] * 2 + ["unlabelled"] * 2
        with_probs = ["class_probs" in item["data_samples"].gt_instances for item in batch]
        assert with_probs == [False, False, True, True]
    resumed = _batches(dataset, 2, 8, 3)
    for other, one in ((_batches(dataset, 2, 0, 5), alone), (resumed, alone[2:])):
        for batch_a, batch_b in zip(other, one, strict=True):
            for a, b in zip(batch_a, batch_b, strict=True):
                assert torch.equal(a["inputs"], b["inputs"])
                x, y = a["data_samples"].gt_instances, b["data_samples"].gt_instances
                assert torch.equal(x.bboxes.tensor, y.bboxes.tensor)
                assert np.array_equal(x.masks.masks, y.masks.masks)


def test_a_worker_passes_the_users_message_on(small_set: tuple[Path, Path]) -> None:
    (small_set[1] / "picture 2.png").write_bytes(b"broken")
    dataset = CocoInstances(*small_set, pipeline=[PIPELINE[0]])
    loader: DataLoader = DataLoader(dataset, batch_size=1, num_workers=1, collate_fn=list)
    with pytest.raises(UsageError) as raised:
        list(loader)
    message = str(unwrap(raised.value))
    assert len(message.splitlines()) == 1
    assert message.endswith("(cannot identify image file '%s')" % (small_set[1] / "picture 2.png"))
    plain = UsageError("plain")
    assert unwrap(plain) is plain


def test_mixed_needs_the_same_classes(
    small_set: tuple[Path, Path], refine_artifact: Path, tmp_path: Path
) -> None:
    content = coco_content()
    content["categories"][0]["name"] = "ring"
    other = write_json(tmp_path / "other.json", content)
    with pytest.raises(UsageError, match="the labelled images and the unlabelled images"):
        MixedDataset(CocoInstances(*small_set), CocoInstances(other, small_set[1]))
    turned = CocoInstances(*small_set, categories=CATEGORIES[::-1])
    with pytest.raises(UsageError, match="in another order"):
        MixedDataset(CocoInstances(*small_set), turned)
