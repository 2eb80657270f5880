"""Quality and doubt of pseudo-labels, as the dataset hands them to the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.models.openmmlab import prepare

prepare()

from s4m_pipeline.artifacts.tables import write_table  # noqa: E402
from s4m_pipeline.training_data.datasets import RefinedInstances  # noqa: E402
from tests.small_sets import CATEGORIES, rectangle, refined_row  # noqa: E402

SIZE = (40, 60)
LOAD = [
    {"type": "LoadImage"},
    {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
]
# image, decision, code of the reason, score, agreement
ROWS: list[tuple[int, str, str, float, float]] = [
    (1, "refined", "", 0.9, 0.8),
    (1, "dropped", "score", 0.6, 1.0),
    (1, "kept", "agreement", 0.8, 0.1),
    (1, "dropped", "score", 0.2, 1.0),
    (2, "refined", "", 0.75, 0.4),
    (2, "dropped", "agreement", 0.9, 0.1),
    (2, "dropped", "area_ratio", 0.85, 0.4),
    (2, "dropped", "area", 0.85, 1.0),
    (2, "dropped", "duplicate", 0.72, 0.9),
    (3, "dropped", "score", 0.3, 1.0),
]


def box_of(place: int) -> tuple[int, int, int, int]:
    return 2 + 10 * (place % 5), 3 + 18 * (place // 5), 8, 12


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    rows = []
    for place, (image, decision, code, score, agreement) in enumerate(ROWS):
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / f"{image}.png")
        x, y, w, h = box_of(place)
        masks = rectangle(*SIZE, x, y, w, h // 2), rectangle(*SIZE, x, y + 3, w, h - 3)
        other: dict[str, Any] = {"reason_code": code, "score": score, "agreement": agreement}
        row = refined_row(image, f"{image}.png", SIZE, 3, [0.5, 0.5], masks, decision, **other)
        rows.append({**row, "instance_id": place})
    write_table(tmp_path / "refine/refined/part-0.parquet", "refined", rows, CATEGORIES)
    return tmp_path / "refine"


def dataset_of(artifact: Path, pipeline: list[dict[str, Any]], **settings: Any) -> RefinedInstances:
    images = [(k, f"{k}.png", str(artifact.parent / f"{k}.png"), *SIZE) for k in (1, 2, 3)]
    return RefinedInstances(artifact, images, CATEGORIES, pipeline=pipeline, **settings)


def test_quality_is_score_times_agreement_over_the_mean_of_the_labels(artifact: Path) -> None:
    losses = StudentLosses(quality_weight=True, ignore_score=0.3)
    dataset = dataset_of(artifact, [*LOAD, {"type": "PackInstances"}], losses=losses)
    quality = [dataset[k]["data_samples"].gt_instances.quality.tolist() for k in range(3)]
    raw = [[0.9 * 0.8, 0.8 * 0.1], [0.75 * 0.4], []]
    mean = (0.72 + 0.08 + 0.3) / 3
    for values, expected in zip(quality, raw, strict=True):
        assert values == pytest.approx([value / mean for value in expected], rel=1e-5)
    assert np.mean([value for values in quality for value in values]) == pytest.approx(1)
    plain = dataset_of(artifact, [*LOAD, {"type": "PackInstances"}])
    assert "quality" not in plain[0]["data_samples"].gt_instances


@pytest.mark.parametrize(
    ("score", "ignored"),
    [(None, [[], [], []]), (0.3, [[1], [5, 6], [9]]), (0.1, [[1, 3], [5, 6], [9]])],
)
def test_uncertain_rows_are_ignored_instances(
    artifact: Path, score: float | None, ignored: list[list[int]]
) -> None:
    losses = StudentLosses(ignore_score=score)
    dataset = dataset_of(artifact, [*LOAD, {"type": "PackInstances"}], losses=losses)
    labels = [[0, 2], [4], []]
    for number in range(3):
        sample = dataset[number]["data_samples"]
        expected = [rectangle(*SIZE, *box_of(place)) for place in ignored[number]]
        masks = sample.ignored_instances.masks.masks.astype(bool)
        assert len(masks) == len(expected)
        assert all(np.array_equal(a, b) for a, b in zip(masks, expected, strict=True)), (
            "the union of the teacher's mask and the segmenter's"
        )
        boxes = sample.gt_instances.bboxes.tensor[:, :2].tolist()
        assert boxes == [list(box_of(place)[:2]) for place in labels[number]]
        assert len(sample.gt_instances.class_probs) == len(labels[number])


def test_ignored_instances_go_through_crop_flip_and_scale(artifact: Path) -> None:
    geometry = [
        {"type": "RandomFlip", "prob": 1.0, "direction": "horizontal"},
        {"type": "Resize", "scale": (120, 80)},
        {
            "type": "RandomCrop",
            "crop_size": (70, 50),
            "allow_negative_crop": True,
            "recompute_bbox": True,
        },
        {
            "type": "FilterInstances",
            "min_gt_bbox_wh": (1e-5, 1e-5),
            "by_mask": True,
            "keep_empty": False,
        },
        {"type": "PackInstances"},
    ]
    losses = StudentLosses(ignore_score=0.1, quality_weight=True)
    dataset = dataset_of(artifact, [*LOAD, *geometry], losses=losses)
    seen = 0
    for draw in range(20):
        for number, places in enumerate([[1, 3], [5, 6], [9]]):
            sample = dataset[(number, draw)]["data_samples"]
            matrix = dataset_matrix(dataset, number, draw)
            left, top = -matrix[0, 2] + 120, -matrix[1, 2]
            whole = np.zeros((80, 120), bool)
            for place in places:
                x, y, w, h = box_of(place)
                whole[2 * y : 2 * (y + h), 2 * x : 2 * (x + w)] = True
            expected = whole[:, ::-1][int(top) : int(top) + 50, int(left) : int(left) + 70]
            masks = sample.ignored_instances.masks.masks.astype(bool)
            assert np.array_equal(
                masks.any(0) if len(masks) else np.zeros((50, 70), bool), expected
            )
            seen += expected.any()
            assert len(sample.gt_instances.quality) == len(sample.gt_instances.labels)
    assert seen > 30


def dataset_matrix(dataset: RefinedInstances, number: int, draw: int) -> np.ndarray:
    """From original to augmented pixels, taken before packing."""
    from s4m_pipeline.training_data.transforms import PackInstances

    results = dataset.prepare_until(number, draw, PackInstances)
    assert results is not None
    return np.asarray(results["homography_matrix"])
