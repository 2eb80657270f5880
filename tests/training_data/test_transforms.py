"""Transforms: points and maps follow the image, distributions follow the instances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.datasets.transforms import PackDetInputs  # noqa: E402
from mmdet.registry import TRANSFORMS  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

from s4m_pipeline.artifacts.tables import write_table  # noqa: E402
from s4m_pipeline.errors import UsageError  # noqa: E402
from s4m_pipeline.training_data.datasets import CocoInstances, RefinedInstances  # noqa: E402
from s4m_pipeline.training_data.seeding import seeded  # noqa: E402
from s4m_pipeline.training_data.strong_augmentation import (  # noqa: E402
    ColourJitter,
    GaussianBlur,
    RandomGrey,
    shift_hue,
)
from s4m_pipeline.training_data.transforms import LoadImage, PackInstances  # noqa: E402
from tests.small_sets import CATEGORIES, rectangle, refined_row, write_json  # noqa: E402

LOAD = [
    {"type": "LoadImage"},
    {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
    {"type": "LoadStructure"},
]
GEOMETRY = [
    {"type": "RandomFlip", "prob": 0.5, "direction": ["horizontal", "vertical"]},
    {
        "type": "RandomResize",
        "scale": (160, 160),
        "ratio_range": (0.6, 2.0),
        "keep_ratio": True,
    },
    {
        "type": "RandomCrop",
        "crop_size": (120, 110),
        "recompute_bbox": True,
        "allow_negative_crop": True,
    },
    {"type": "RandomFlip", "prob": 0.5},
    {"type": "FilterInstances", "min_gt_bbox_wh": (1, 1), "by_mask": True},
]
PACK = [{"type": "PackInstances"}]


def _structure_rows(path: Path, images: list[dict[str, Any]], points: np.ndarray) -> Path:
    """A structure artifact with the same points for every image; similarity tells the image."""
    count = len(points)
    rows = [
        {
            "image_id": image["id"],
            "file_name": image["file_name"],
            "height": image["height"],
            "width": image["width"],
            "grid": 4,
            "points": points.flatten().tolist(),
            "similarity": (np.arange(count * 16) + image["id"]).astype(np.uint8).tobytes(),
            "scale": [0.5] * count,
            "offset": np.arange(count).tolist(),
        }
        for image in images
    ]
    write_table(path / "structure" / "part-0.parquet", "structure", rows[:1], CATEGORIES)
    write_table(path / "structure" / "part-1.parquet", "structure", rows[1:], CATEGORIES)
    return path


@pytest.fixture
def marked(tmp_path: Path) -> tuple[Path, Path, Path, np.ndarray]:
    """Four black photographs with a bright disc of its own colour at each stored point."""
    points = np.array([[30, 40], [90, 20], [70, 80]], np.float32)
    height, width = 100, 130
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.zeros((height, width, 3), np.uint8)
    for channel, (x, y) in enumerate(points):
        near = (columns - x) ** 2 + (rows - y) ** 2 <= 5**2
        pixels[near, channel] = 255
    images = []
    for number in range(4):
        name = f"{number}.png"
        Image.fromarray(pixels).save(tmp_path / name)
        images.append({"id": number, "file_name": name, "height": height, "width": width})
    content = {"images": images, "annotations": [], "categories": CATEGORIES}
    labels = write_json(tmp_path / "labels.json", content)
    return labels, tmp_path, _structure_rows(tmp_path / "targets", images, points), points


def test_points_and_matrix_follow_the_image(marked: tuple[Path, Path, Path, np.ndarray]) -> None:
    labels, folder, targets, points = marked
    dataset = CocoInstances(labels, folder, structure=targets, pipeline=LOAD + GEOMETRY + PACK)
    seen = 0
    for draw in range(24):
        item = dataset[(draw % 4, draw)]
        sample = item["data_samples"]
        image = item["inputs"].numpy()[::-1]  # RGB
        moved = sample.structure.points.numpy()
        matrix = sample.structure.matrix.numpy()
        again = np.concatenate([points + 0.5, np.ones((3, 1))], 1) @ matrix.T
        assert np.allclose(moved, again[:, :2], atol=1e-3)
        for channel, (x, y) in enumerate(moved):
            margin = 12
            inside = margin < x < image.shape[2] - margin and margin < y < image.shape[1] - margin
            if not inside:
                continue
            seen += 1
            weight = image[channel].astype(float)
            weight[weight < 60] = 0
            ys, xs = np.mgrid[0 : image.shape[1], 0 : image.shape[2]] + 0.5
            near = np.hypot(xs - x, ys - y) < margin
            total = (weight * near).sum()
            centre = (weight * near * xs).sum() / total, (weight * near * ys).sum() / total
            assert np.hypot(centre[0] - x, centre[1] - y) < 0.4
    assert seen > 15


@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
@pytest.mark.parametrize(("side", "scale"), [(1, 1), (1, 2), (1, 3), (2, 0.5), (2, 1), (2, 3)])
def test_a_point_stays_on_its_pixel(
    tmp_path: Path, side: int, direction: str, scale: float
) -> None:
    """Each cell of ``side`` pixels is painted in its own colour, and every pixel is a point."""
    height, width = 20, 28
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([columns // side, rows // side, np.zeros_like(rows)], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    image = {"id": 0, "file_name": "0.png", "height": height, "width": width}
    content = {"images": [image], "annotations": [], "categories": CATEGORIES}
    points = np.stack([columns, rows], -1).reshape(-1, 2).astype(np.float32)
    to = (int(width * scale), int(height * scale))
    geometry = [
        {"type": "RandomFlip", "prob": 1.0, "direction": direction},
        {"type": "Resize", "scale": to, "interpolation": "nearest"},
        {"type": "RandomCrop", "crop_size": (to[0] - 5, to[1] - 3), "allow_negative_crop": True},
    ]
    dataset = CocoInstances(
        write_json(tmp_path / "labels.json", content),
        tmp_path,
        structure=_structure_rows(tmp_path / "targets", [image], points),
        pipeline=LOAD + geometry + PACK,
    )
    for draw in range(4):
        item = dataset[(0, draw)]
        augmented = item["inputs"].numpy()[::-1].transpose(1, 2, 0)  # RGB
        at = np.floor(item["data_samples"].structure.points.numpy()).astype(int)
        inside = ((at >= 0) & (at < [to[0] - 5, to[1] - 3])).all(1)
        assert inside.sum() >= (to[0] - 5) * (to[1] - 3) / max(1, scale) ** 2 * 0.7
        colours = augmented[at[inside, 1], at[inside, 0], :2]
        assert np.array_equal(colours, points[inside].astype(int) // side)


def test_structure_of_the_right_image(marked: tuple[Path, Path, Path, np.ndarray]) -> None:
    labels, folder, targets, points = marked
    dataset = CocoInstances(labels, folder, structure=targets, pipeline=LOAD + PACK)
    for index in (2, 0, 3, 1):
        structure = dataset[index]["data_samples"].structure
        expected = (np.arange(48) + index).astype(np.uint8).reshape(3, 4, 4)
        assert np.array_equal(structure.similarity.numpy(), expected)
        assert structure.similarity.dtype == torch.uint8
        assert structure.size.tolist() == [100, 130]
        assert structure.scale.tolist() == [0.5] * 3
        assert structure.offset.tolist() == [0.0, 1.0, 2.0]
        assert np.array_equal(structure.points.numpy(), points + 0.5)
        assert np.array_equal(structure.matrix.numpy(), np.eye(3))


def test_an_image_without_targets_has_none(
    marked: tuple[Path, Path, Path, np.ndarray], tmp_path: Path
) -> None:
    labels, folder, _, points = marked
    image = {"id": 0, "file_name": "0.png", "height": 100, "width": 130}
    targets = _structure_rows(tmp_path / "few", [image], points)
    dataset = CocoInstances(labels, folder, structure=targets, pipeline=LOAD + PACK)
    assert "structure" in dataset[0]["data_samples"]
    assert "structure" not in dataset[1]["data_samples"]


def _probs_set(folder: Path) -> RefinedInstances:
    """One image with 12 pseudo-labels whose distribution tells where they are."""
    height, width = 96, 128
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(folder / "a.png")
    rows = []
    for number in range(12):
        mask = rectangle(height, width, 4 + 32 * (number % 4), 4 + 32 * (number // 4), 20, 20)
        probs = [number / 20, 1 - number / 20]
        rows.append(
            refined_row(7, "a.png", (height, width), 1 + 2 * (number % 2), probs, (mask, mask))
        )
    write_table(folder / "refine/refined/part-0.parquet", "refined", rows, CATEGORIES)
    crop = {"type": "RandomCrop", "crop_size": (60, 50), "allow_negative_crop": True}
    keep = {"type": "FilterInstances", "min_gt_bbox_wh": (8, 8)}
    return RefinedInstances(
        folder / "refine",
        [(7, "a.png", str(folder / "a.png"), height, width)],
        CATEGORIES,
        pipeline=[*LOAD, crop, keep, *PACK],
    )


def test_class_probs_stay_with_their_instances(tmp_path: Path) -> None:
    dataset = _probs_set(tmp_path)
    dropped = 0
    for draw in range(20):
        sample = dataset[(0, draw)]["data_samples"]
        instances = sample.gt_instances
        assert (
            len(instances.class_probs)
            == len(instances.labels)
            == len(instances.bboxes)
            == len(instances.masks)
        )
        assert instances.class_probs.dtype == torch.float32
        numbers = (instances.class_probs[:, 0] * 20).round().long()
        dropped += 12 - len(numbers)
        # CATEGORIES puts id 3 at label 0 and id 1 at label 1
        assert torch.equal(instances.labels, 1 - numbers % 2)
        places = (numbers % 4, numbers // 4)
        order = numbers.argsort()
        assert torch.equal(order, torch.arange(len(numbers)))
        boxes = instances.bboxes.tensor
        for axis, place in enumerate(places):
            for k in range(1, len(numbers)):
                if place[k] > place[k - 1]:
                    assert boxes[k, axis + 2] > boxes[k - 1, axis]
    assert dropped > 60


def test_stock_filter_that_would_mix_up_the_probs_is_caught(tmp_path: Path) -> None:
    dataset = _probs_set(tmp_path)
    dataset.pipeline.transforms[4] = TRANSFORMS.build(
        {"type": "FilterAnnotations", "min_gt_bbox_wh": (18, 18)}
    )
    with pytest.raises(RuntimeError, match="FilterInstances"):
        [dataset[(0, draw)] for draw in range(20)]


def _results(seed: int = 0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 255, (24, 20, 3), dtype=np.uint8)
    return {"img": pixels, "gt_masks": object(), "gt_bboxes": object(), "img_shape": (24, 20)}


@pytest.mark.parametrize(
    "transform",
    [ColourJitter(prob=1.0), RandomGrey(prob=1.0), GaussianBlur(sigma=(1.0, 2.0), prob=1.0)],
    ids=lambda transform: type(transform).__name__,
)
def test_strong_augmentation_changes_pixels_only(transform: Any) -> None:
    before = _results()
    original = before["img"].copy()
    with seeded(0, 1):
        after = transform(dict(before))
    assert np.array_equal(before["img"], original), "the input was changed in place"
    assert after.keys() == before.keys()
    assert all(after[key] is before[key] for key in before if key != "img")
    assert after["img"].dtype == np.uint8
    assert after["img"].shape == original.shape
    assert not np.array_equal(after["img"], original)
    with seeded(0, 1):
        assert np.array_equal(transform(dict(before))["img"], after["img"])
    never = type(transform)(prob=0.0)
    assert never(dict(before))["img"] is before["img"]


def test_probabilities_and_ranges() -> None:
    flat = {"img": np.full((8, 8, 3), 100, np.uint8)}
    jitter = ColourJitter(brightness=0.4, contrast=0, saturation=0, hue=0, prob=0.8)
    with seeded(3, 0):
        values = [int(jitter(dict(flat))["img"][0, 0, 0]) for _ in range(600)]
    assert min(values) >= 60
    assert max(values) <= 140
    assert min(values) < 66
    assert max(values) > 134
    assert 0.72 < np.mean([value != 100 for value in values]) < 0.88
    with seeded(3, 0):
        grey = [RandomGrey()({"img": _results()["img"]})["img"] for _ in range(600)]
    share = np.mean([np.ptp(image, axis=2).max() == 0 for image in grey])
    assert 0.15 < share < 0.25


def test_grey_weights_and_hue() -> None:
    blue_green_red = np.array([[[10, 100, 200]]], np.uint8)
    grey = RandomGrey(prob=1.0)({"img": blue_green_red})["img"]
    assert grey[0, 0].tolist() == [round(0.114 * 10 + 0.587 * 100 + 0.299 * 200)] * 3
    red = np.array([[[0, 0, 255]]], np.uint8)
    assert shift_hue(red, 1 / 3)[0, 0].tolist() == [0, 255, 0]
    assert shift_hue(red, -1 / 3)[0, 0].tolist() == [255, 0, 0]


def test_loading_is_strict(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    loaded = LoadImage()({"img_path": str(path), "height": 9, "width": 7})
    assert np.array_equal(loaded["img"], pixels[..., ::-1])
    assert loaded["ori_shape"] == loaded["img_shape"] == (9, 7)
    assert np.array_equal(LoadImage("rgb")({"img_path": str(path)})["img"], pixels)
    with pytest.raises(UsageError, match=r"a\.png.*7 x 9 pixels.*9 x 7"):
        LoadImage()({"img_path": str(path), "height": 7, "width": 9})
    with pytest.raises(UsageError, match="no such image"):
        LoadImage()({"img_path": str(tmp_path / "b.png")})


@pytest.mark.parametrize("view", [np.s_[:, :], np.s_[:, ::-1], np.s_[1:, :3]])
def test_pixels_are_packed_as_mmdetection_packs_them(view: tuple[slice, slice]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 4, 3), dtype=np.uint8)[view]
    results = {"img": pixels, "img_id": 3}
    with DefaultScope.overwrite_default_scope("mmdet"):
        packed = PackInstances()(results)["inputs"]
        expected = PackDetInputs(meta_keys=("img_id",))(results)["inputs"]
    assert torch.equal(packed, expected)
    assert packed.is_contiguous()
    assert results["img"] is pixels


def test_branch_is_packed() -> None:
    results = {"img": np.zeros((4, 4, 3), np.uint8), "branch": "unlabelled", "img_id": 3}
    with DefaultScope.overwrite_default_scope("mmdet"):
        sample = PackInstances()(results)["data_samples"]
    assert sample.metainfo["branch"] == "unlabelled"
