"""Carried structural targets are those of features that are transformed as the image is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from s4m_pipeline.models.openmmlab import prepare

prepare()

from s4m_pipeline.artifacts.tables import write_table  # noqa: E402
from s4m_pipeline.models.structure_loss import Geometry, cells_of, warp_targets  # noqa: E402
from s4m_pipeline.training_data.datasets import CocoInstances  # noqa: E402

CATEGORIES = [{"id": 1, "name": "thing"}]
HEIGHT, WIDTH, LATTICE = 96, 128, 16
CELL = HEIGHT // LATTICE, WIDTH // LATTICE
"""Height and width in pixels of a lattice cell."""
FLIP = {"type": "RandomFlip", "prob": 1.0}
PIPELINES: dict[str, tuple[list[dict[str, Any]], float]] = {
    "as it is": ([], 1),
    "horizontal flip": ([{**FLIP, "direction": "horizontal"}], 1),
    "vertical flip": ([{**FLIP, "direction": "vertical"}], 1),
    "diagonal flip": ([{**FLIP, "direction": "diagonal"}], 1),
    "half the size": ([{"type": "Resize", "scale": (64, 48)}], 0.5),
    "three times the size": ([{"type": "Resize", "scale": (384, 288)}], 3),
    "crop": ([{"type": "Crop", "box": (24, 12, 72, 60)}], 1),
    "scale, crop and flip": (
        [
            {"type": "Resize", "scale": (256, 192)},
            {"type": "Crop", "box": (32, 60, 144, 96)},
            {**FLIP, "direction": "horizontal"},
        ],
        2,
    ),
    "flip, crop and scale": (
        [
            {**FLIP, "direction": "diagonal"},
            {"type": "Crop", "box": (40, 0, 64, 72)},
            {"type": "Resize", "scale": (128, 144)},
        ],
        2,
    ),
}


def on_lattice(steps: list[dict[str, Any]], cells: np.ndarray) -> np.ndarray:
    """Do with an array of cells (rows, columns, ...) what a pipeline does with pixels.

    Scaling leaves the cells what they are: they grow.
    """
    scale = 1.0
    for step in steps:
        if step["type"] == "RandomFlip":
            down = slice(None, None, -1 if step["direction"] in ("vertical", "diagonal") else 1)
            across = slice(None, None, -1 if step["direction"] in ("horizontal", "diagonal") else 1)
            cells = cells[down, across]
        elif step["type"] == "Resize":
            scale = step["scale"][0] / (cells.shape[1] * CELL[1])
        else:
            x, y, w, h = (value / scale for value in step["box"])
            top, bottom = round(y / CELL[0]), round((y + h) / CELL[0])
            left, right = round(x / CELL[1]), round((x + w) / CELL[1])
            cells = cells[top:bottom, left:right]
    return cells


class Crop:
    """A crop at a known place, in MMDetection's own terms."""

    def __new__(cls, box: tuple[int, int, int, int]) -> Any:
        from mmdet.datasets.transforms import RandomCrop

        x, y, w, h = box
        step = RandomCrop((w, h), allow_negative_crop=True)
        step._rand_offset = lambda margin: (y, x)
        return step


@pytest.fixture
def carried(tmp_path: Path) -> Callable[[list[dict[str, Any]], np.ndarray, np.ndarray], Any]:
    """Runs a pipeline over an image with given points and maps; gives its data sample."""
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "0.png")
    image = {"id": 0, "file_name": "0.png", "height": HEIGHT, "width": WIDTH}

    def run(steps: list[dict[str, Any]], points: np.ndarray, maps: np.ndarray) -> Any:
        low, high = maps.min((1, 2)), maps.max((1, 2))
        scale = (high - low) / 255
        codes = np.round((maps - low[:, None, None]) / scale[:, None, None]).astype(np.uint8)
        row = {
            "image_id": 0,
            "file_name": "0.png",
            "height": HEIGHT,
            "width": WIDTH,
            "grid": LATTICE,
            "points": points.astype(np.float32).flatten().tolist(),
            "similarity": codes.tobytes(),
            "scale": scale.tolist(),
            "offset": low.tolist(),
        }
        write_table(tmp_path / "targets/structure/0.parquet", "structure", [row], CATEGORIES)
        content = {"images": [image], "annotations": [], "categories": CATEGORIES}
        (tmp_path / "labels.json").write_text(json.dumps(content))
        built = [Crop(s["box"]) if s["type"] == "Crop" else s for s in steps]
        pipeline = [
            {"type": "LoadImage"},
            {"type": "LoadStructure"},
            *built,
            {"type": "PackInstances"},
        ]
        dataset = CocoInstances(
            tmp_path / "labels.json",
            tmp_path,
            structure=tmp_path / "targets",
            pipeline=pipeline,
        )
        return dataset[0]["data_samples"]

    return run


def cosine(features: np.ndarray, row: int, column: int) -> np.ndarray:
    """Similarity of one cell of (rows, columns, C) with all: (rows, columns)."""
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    return unit @ unit[row, column]


@pytest.mark.parametrize("name", PIPELINES)
def test_carried_maps_are_the_maps_of_transformed_features(
    carried: Callable[..., Any], name: str
) -> None:
    """Cells are whole before and after, so the two orders must agree to the stored precision."""
    steps, scale = PIPELINES[name]
    rng = np.random.default_rng(0)
    features = rng.normal(size=(LATTICE, LATTICE, 6))
    numbers = np.arange(LATTICE**2).reshape(LATTICE, LATTICE)
    points = np.stack([rng.integers(0, WIDTH, 40), rng.integers(0, HEIGHT, 40)], 1)
    cells = points[:, 1] // CELL[0], points[:, 0] // CELL[1]
    maps = np.stack([cosine(features, r, c) for r, c in zip(*cells, strict=True)])
    sample = carried(steps, points, maps)
    structure, shape = sample.structure, sample.metainfo["img_shape"][:2]

    moved, moved_numbers = on_lattice(steps, features), on_lattice(steps, numbers)
    rows, columns = moved_numbers.shape
    assert shape == (rows * CELL[0] * scale, columns * CELL[1] * scale)
    grid = max(rows, columns) + 2  # the rest is padding, below and to the right
    padded = round(grid * CELL[0] * scale), round(grid * CELL[1] * scale)
    geometry = Geometry(structure.matrix, (HEIGHT, WIDTH), shape, padded)
    warped, valid = warp_targets(structure.similarity.float(), geometry, grid)
    target = (structure.offset[:, None] + structure.scale[:, None] * warped).numpy()
    own = cells_of(structure.points, geometry, grid).numpy()

    expected_valid = np.zeros((grid, grid), bool)
    expected_valid[:rows, :columns] = True
    assert np.array_equal(valid.numpy().reshape(grid, grid), expected_valid)
    inside = 0
    for k, number in enumerate(numbers[cells]):
        at = np.argwhere(moved_numbers == number)
        x, y = structure.points[k].tolist()
        assert bool(len(at)) == (0 <= x < shape[1] and 0 <= y < shape[0])
        if len(at):
            inside += 1
            assert tuple(at[0]) == divmod(own[k], grid), "the point's cell went where its pixel did"
            expected = cosine(moved, *at[0])
            similarity = target[k].reshape(grid, grid)[:rows, :columns]
            assert np.abs(similarity - expected).max() <= 0.51 * structure.scale[k].item() + 1e-5
    assert inside >= 4


def test_odd_crops_and_scales_agree_where_features_are_smooth(carried: Callable[..., Any]) -> None:
    """A continuous field, read on the augmented image's own grid, against the carried map."""
    steps = [
        {"type": "Resize", "scale": (203, 149)},
        {**FLIP, "direction": "horizontal"},
        {"type": "Crop", "box": (31, 17, 150, 101)},
    ]
    rng = np.random.default_rng(1)
    waves, shifts = rng.uniform(-2.5, 2.5, (5, 2)), rng.uniform(0, 6, 5)

    def field(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Features at original continuous coordinates: (..., 6)."""
        at = np.stack([x / WIDTH, y / HEIGHT], -1)
        return np.concatenate([np.sin(at @ waves.T + shifts), np.ones_like(x)[..., None]], -1)

    def similarity(features: np.ndarray, point: np.ndarray) -> np.ndarray:
        unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
        return unit @ (point / np.linalg.norm(point))

    ys, xs = np.mgrid[0:LATTICE, 0:LATTICE] + 0.5
    lattice = field(xs * CELL[1], ys * CELL[0])
    points = np.stack([rng.integers(0, WIDTH, 12), rng.integers(0, HEIGHT, 12)], 1)
    here = field(points[:, 0] + 0.5, points[:, 1] + 0.5)
    sample = carried(steps, points, np.stack([similarity(lattice, p) for p in here]))
    geometry = Geometry(sample.structure.matrix, (HEIGHT, WIDTH), (101, 150), (128, 160))
    warped, valid = warp_targets(sample.structure.similarity.float(), geometry, 64)
    structure = sample.structure
    target = (structure.offset[:, None] + structure.scale[:, None] * warped).numpy()

    gy, gx = np.mgrid[0:64, 0:64] + 0.5
    ax, ay = gx * 160 / 64, gy * 128 / 64
    ox, oy = (203 - (ax + 31)) * WIDTH / 203, (ay + 17) * HEIGHT / 149
    on_image = (ax < 150) & (ay < 101)
    assert np.array_equal(valid.numpy().reshape(64, 64), on_image)
    # beyond the outermost cells' centres the stored lattice can only be repeated
    firm = on_image & (ox > 4) & (ox < WIDTH - 4) & (oy > 3) & (oy < HEIGHT - 3)
    for k, point in enumerate(here):
        expected = similarity(field(ox, oy), point)
        assert np.abs(target[k].reshape(64, 64) - expected)[firm].max() < 0.006
        assert np.ptp(expected[firm]) > 0.25, "the map is not flat"
