"""Points of structural targets go where the shipped configs' transforms take their pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from s4m_pipeline.models.openmmlab import prepare

prepare()

from s4m_pipeline.artifacts.tables import write_table  # noqa: E402
from s4m_pipeline.models.model_config import read_model_config  # noqa: E402
from s4m_pipeline.models.pipelines import train_pipeline  # noqa: E402
from s4m_pipeline.training_data.datasets import CocoInstances  # noqa: E402

CATEGORIES = [{"id": 1, "name": "thing"}]
HEIGHT, WIDTH = 180, 250
CONFIGS = [
    "mask2former_demo",
    "mask2former_lite0",
    "mask2former_r50_coco",  # large-scale jitter
    "mask2former_r50_cityscapes",  # one of many scales, then a crop
    "mask2former_dinov2_s_coco",
    "mask_rcnn_lite0",
]


@pytest.fixture
def coordinates(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A folder with an image whose red is x and green y, and the points of its targets, (P, 2)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([x, y, np.zeros_like(x)], 2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    points = np.stack(np.meshgrid(np.arange(10, 240, 20), np.arange(10, 170, 20)), -1)
    points = points.reshape(-1, 2)
    row = {
        "image_id": 0,
        "file_name": "0.png",
        "height": HEIGHT,
        "width": WIDTH,
        "grid": 2,
        "points": points.astype(np.float32).flatten().tolist(),
        "similarity": bytes(4 * len(points)),
        "scale": [1.0] * len(points),
        "offset": [0.0] * len(points),
    }
    write_table(tmp_path / "targets/structure/0.parquet", "structure", [row], CATEGORIES)
    image = {"id": 0, "file_name": "0.png", "height": HEIGHT, "width": WIDTH}
    content = {"images": [image], "annotations": [], "categories": CATEGORIES}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    return tmp_path, points


@pytest.mark.parametrize("name", CONFIGS)
def test_a_points_pixel_has_the_colour_it_had(
    coordinates: tuple[Path, np.ndarray], name: str
) -> None:
    folder, points = coordinates
    pipeline = train_pipeline(read_model_config(name, 1), strong=False)
    pipeline = [one for one in pipeline if one["type"] != "SsdColours"]  # colours are looked at
    dataset = CocoInstances(
        folder / "labels.json", folder, structure=folder / "targets", pipeline=pipeline
    )
    compared, shapes = 0, set()
    for seed in range(6):
        np.random.seed(seed)
        torch.manual_seed(seed)
        packed = dataset[0]
        image = packed["inputs"].numpy()
        sample = packed["data_samples"]
        height, width = sample.metainfo["img_shape"][:2]
        shapes.add((height, width))
        moved = sample.structure.points.numpy()
        pixel = max(sample.metainfo["scale_factor"])  # augmented pixels an original one takes
        inside = (moved > 1).all(1) & (moved < [width - 2, height - 2]).all(1)
        for (x, y), (u, v) in zip(points[inside], moved[inside], strict=True):
            colours = image[:, int(v), int(u)].astype(float)
            error = min(np.hypot(colours[a] - x, colours[1] - y) for a in (0, 2))  # RGB or BGR
            assert error <= 1.5 + 1 / pixel
            compared += 1
    assert compared > 20
    assert len(shapes) > 1 or name != "mask2former_lite0"
