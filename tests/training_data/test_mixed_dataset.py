"""Unlabelled images of a batch trade instances, whoever loads them and wherever one begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from s4m_pipeline.models.openmmlab import prepare

prepare()

from s4m_pipeline.artifacts.tables import write_table  # noqa: E402
from s4m_pipeline.training_data.batches import trading_pairs  # noqa: E402
from s4m_pipeline.training_data.datasets import CocoInstances, RefinedInstances  # noqa: E402
from s4m_pipeline.training_data.mixed_dataset import MixedDataset  # noqa: E402
from s4m_pipeline.training_data.samplers import MixedSampler  # noqa: E402
from tests.small_sets import CATEGORIES, rectangle, refined_row  # noqa: E402

COUNT = 8
SIZE = (48, 60)
LOAD: list[dict[str, Any]] = [
    {"type": "LoadImage"},
    {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
    {"type": "LoadStructure"},
]
END: list[dict[str, Any]] = [
    {
        "type": "FilterInstances",
        "min_gt_bbox_wh": (1e-5, 1e-5),
        "by_mask": True,
        "keep_empty": False,
    },
    {"type": "PackInstances"},
]
GEOMETRY: list[dict[str, Any]] = [
    {"type": "RandomFlip", "prob": 0.5},
    {"type": "RandomResize", "scale": (64, 64), "ratio_range": (0.7, 1.5), "keep_ratio": True},
    {
        "type": "RandomCrop",
        "crop_size": (50, 50),
        "allow_negative_crop": True,
        "recompute_bbox": True,
    },
]
JITTER: list[dict[str, Any]] = [{"type": "ColourJitter"}, {"type": "GaussianBlur"}]


def paste(mode: str) -> list[dict[str, Any]]:
    return [{"type": "PasteInstances", "mode": mode, "min_area": 0.0}]


@pytest.fixture
def unlabelled(tmp_path: Path) -> dict[str, Any]:
    """Eight black images, each with a square in its own grey and place; and their structure."""
    rows, targets = [], []
    for number in range(COUNT):
        mask = rectangle(*SIZE, 4 + 5 * number, 10, 5, 20)
        pixels = np.zeros((*SIZE, 3), np.uint8)
        pixels[mask] = 20 * (number + 1)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        probs = [number / 20, 1 - number / 20]
        rows.append(refined_row(number, f"{number}.png", SIZE, 3, probs, (mask, mask)))
        targets.append(
            {
                "image_id": number,
                "file_name": f"{number}.png",
                "height": SIZE[0],
                "width": SIZE[1],
                "grid": 4,
                "points": [1.0, 1.0, 30.0, 30.0],
                "similarity": bytes(32),
                "scale": [1.0] * 2,
                "offset": [0.0] * 2,
            }
        )
    write_table(tmp_path / "refine/refined/part-0.parquet", "refined", rows, CATEGORIES)
    write_table(tmp_path / "refine/structure/part-0.parquet", "structure", targets, CATEGORIES)
    images = [(k, f"{k}.png", str(tmp_path / f"{k}.png"), *SIZE) for k in range(COUNT)]
    return {
        "artifact": tmp_path / "refine",
        "images": images,
        "categories": CATEGORIES,
        "structure": tmp_path / "refine",
        "seed": 5,
    }


def mixed(
    small_set: tuple[Path, Path], unlabelled: dict[str, Any], steps: list[dict[str, Any]]
) -> MixedDataset:
    labelled = CocoInstances(*small_set, pipeline=[*LOAD, *GEOMETRY, *END], seed=5)
    return MixedDataset(labelled, RefinedInstances(**unlabelled, pipeline=[*LOAD, *steps, *END]))


def batches(dataset: MixedDataset, workers: int, start: int, count: int) -> list[list[Any]]:
    sampler = MixedSampler(dataset, batch_size=10, unlabelled=8, seed=5, start=start)
    loader = DataLoader(
        dataset, batch_size=10, sampler=sampler, num_workers=workers, collate_fn=list
    )
    iterator = iter(loader)
    return [next(iterator) for _ in range(count)]


def greys(item: dict[str, Any]) -> set[int]:
    """Which squares are in an image, by number."""
    return {int(value) // 20 - 1 for value in np.unique(item["inputs"].numpy()) if value}


def test_pairs_trade_both_ways(small_set: tuple[Path, Path], unlabelled: dict[str, Any]) -> None:
    dataset = mixed(small_set, unlabelled, paste("static"))
    for number, batch in enumerate(batches(dataset, 0, 0, 6)):
        own = [item["data_samples"].metainfo["img_id"] for item in batch[2:]]
        expected = [{k} for k in own]
        for a, b in trading_pairs(8, 5, 10 * number + 2):
            expected[a], expected[b] = {own[a], own[b]}, {own[a], own[b]}
        assert sum(len(pair) == 2 for pair in expected) == 4, "a quarter and another quarter"
        assert [greys(item) for item in batch[2:]] == expected
        for item, numbers in zip(batch[2:], expected, strict=True):
            sample = item["data_samples"]
            instances = sample.gt_instances
            assert sorted((instances.class_probs[:, 0] * 20).round().tolist()) == sorted(numbers)
            masks = instances.masks.masks.any(0)
            assert np.array_equal(masks, item["inputs"].numpy()[0] > 0)
            if len(numbers) == 2:
                came = next(iter(numbers - {sample.metainfo["img_id"]}))
                hidden = sample.structure.hidden.numpy()
                assert np.array_equal(hidden, item["inputs"].numpy()[0] == 20 * (came + 1))
            else:
                assert "hidden" not in sample.structure


def same(first: list[list[Any]], second: list[list[Any]]) -> bool:
    for batch_a, batch_b in zip(first, second, strict=True):
        for a, b in zip(batch_a, batch_b, strict=True):
            x, y = a["data_samples"].gt_instances, b["data_samples"].gt_instances
            if a["inputs"].shape != b["inputs"].shape or not torch.equal(a["inputs"], b["inputs"]):
                return False
            if not np.array_equal(x.masks.masks, y.masks.masks):
                return False
    return True


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_trades_depend_neither_on_workers_nor_on_a_restart(
    small_set: tuple[Path, Path], unlabelled: dict[str, Any], mode: str
) -> None:
    dataset = mixed(small_set, unlabelled, [*GEOMETRY, *paste(mode), *JITTER])
    alone = batches(dataset, 0, 0, 5)
    np.random.seed(9)
    assert same(batches(dataset, 2, 0, 5), alone)
    assert same(batches(dataset, 2, 20, 3), alone[2:])
    other = mixed(small_set, {**unlabelled, "seed": 6}, [*GEOMETRY, *paste(mode), *JITTER])
    assert not same(batches(other, 0, 0, 5), alone)


def test_labelled_and_lone_images_are_as_without_paste(
    small_set: tuple[Path, Path], unlabelled: dict[str, Any]
) -> None:
    pasting = mixed(small_set, unlabelled, [*GEOMETRY, *paste("dynamic")])
    plain = mixed(small_set, unlabelled, GEOMETRY)
    with_paste, without = batches(pasting, 0, 0, 3), batches(plain, 0, 0, 3)
    for number, (a, b) in enumerate(zip(with_paste, without, strict=True)):
        traders = {2 + k for pair in trading_pairs(8, 5, 10 * number + 2) for k in pair}
        alone = [k for k in range(10) if k not in traders]
        assert same([[a[k] for k in alone]], [[b[k] for k in alone]])
        assert not same([[a[k] for k in sorted(traders)]], [[b[k] for k in sorted(traders)]])


def test_an_image_that_a_transform_refuses_is_replaced(
    small_set: tuple[Path, Path], unlabelled: dict[str, Any]
) -> None:
    refuse = [{"type": "RandomCrop", "crop_size": (12, 12), "allow_negative_crop": False}]
    dataset = mixed(small_set, unlabelled, [*refuse, *paste("static")])
    for batch in batches(dataset, 0, 0, 3):
        assert all(len(item["data_samples"].gt_instances) for item in batch[2:])
