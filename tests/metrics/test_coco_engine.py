"""The figures are those of COCO's own evaluation of a file, whatever it tells of its masks."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from s4m_pipeline.data.formats.coco.reader import read_coco
from s4m_pipeline.metrics import coco_ap
from s4m_pipeline.metrics.coco_engine import ENGINES, to_coco_dict
from s4m_pipeline.stages.evaluate_work import without_images
from tests.small_sets import coco_content, write_json

FIGURES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
"""In the order of COCO's summary."""
SIDE = 160
EMPTY = [[5.0, 5.0, 5.1, 5.0, 5.1, 5.1]]
"""A polygon that fills no pixel."""


def _blob(generator: np.random.Generator) -> list[float]:
    centre, radius = generator.uniform(30, SIDE - 30, 2), generator.choice([8, 25, 70])
    turns = np.sort(generator.uniform(0, 2 * np.pi, 12))
    points = centre + radius * np.stack([np.cos(turns), np.sin(turns)], 1)
    return points.clip(0, SIDE).round(2).ravel().tolist()


def _shoelace(polygon: list[float]) -> float:
    x, y = polygon[0::2], polygon[1::2]
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _annotation(kind: str, polygons: list[list[float]]) -> dict[str, Any]:
    """Polygons, or their mask as an RLE; box and area are the polygons' in any case."""
    every = [value for polygon in polygons for value in polygon]
    left, top = min(every[0::2]), min(every[1::2])
    entry: dict[str, Any] = {
        "iscrowd": 0,
        "area": sum(_shoelace(polygon) for polygon in polygons),
        "bbox": [left, top, max(every[0::2]) - left, max(every[1::2]) - top],
        "segmentation": polygons,
    }
    if kind == "polygons":
        return entry
    rle = mask_api.merge(mask_api.frPyObjects(polygons, SIDE, SIDE))
    if kind == "rle":
        return entry | {"segmentation": {**rle, "counts": rle["counts"].decode()}}
    flat = mask_api.decode(rle).flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    counts = [0, *runs] if flat[0] else runs
    return entry | {"segmentation": {"size": [SIDE, SIDE], "counts": counts}, "iscrowd": 1}


def _detections(image_id: int, category_id: int, polygons: Any, generator: Any) -> list[Any]:
    found = []
    for _ in range(int(generator.choice([0, 1, 1, 2]))):
        moved = [(np.array(p) + generator.normal(0, 1.5, len(p))).tolist() for p in polygons]
        rle = mask_api.merge(mask_api.frPyObjects(moved, SIDE, SIDE))
        found.append(
            {
                "image_id": image_id,
                "category_id": category_id,
                "score": round(float(generator.random()), 2),
                "bbox": (mask_api.toBbox(rle) + generator.normal(0, 0.3, 4)).tolist(),
                "segmentation": {**rle, "counts": rle["counts"].decode()},
            }
        )
    return found


def _case(seed: int, images: int = 15) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO file of every kind of mask, some of them without a pixel, and detections of it."""
    generator = np.random.default_rng(seed)
    content: dict[str, Any] = {
        "images": [
            {"id": 7 * n, "file_name": f"{n}.png", "height": SIDE, "width": SIDE}
            for n in range(images)
        ],
        "categories": [{"id": 2, "name": "a"}, {"id": 9, "name": "b"}],
        "annotations": [],
    }
    detections = []
    for image in content["images"][:-1]:
        for _ in range(int(generator.integers(5, 40))):
            kind = str(generator.choice(["polygons", "polygons", "rle", "crowd"]))
            polygons = [_blob(generator) for _ in range(int(generator.integers(1, 3)))]
            category_id = int(generator.choice([2, 9], p=[0.8, 0.2]))
            entry = _annotation(kind, polygons)
            if generator.random() < 0.15:
                entry |= {"segmentation": EMPTY, "iscrowd": 0}
            content["annotations"].append(
                {"image_id": image["id"], "category_id": category_id, **entry}
            )
            detections += _detections(image["id"], category_id, polygons, generator)
    generator.shuffle(content["annotations"])
    for number, entry in enumerate(content["annotations"], 1):
        entry["id"] = number
    return content, detections


def _official(path: Path, detections: list[dict[str, Any]], kind: str) -> list[float | None]:
    """COCO's summary; detections of masks go without a box, which would stand for their size."""
    dropped = "segmentation" if kind == "bbox" else "bbox"
    results = [{k: v for k, v in found.items() if k != dropped} for found in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [None if value < 0 else float(value) for value in evaluation.stats]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("seed", [0, 1])
def test_all_twelve_figures_are_cocos_own_of_the_file(
    tmp_path: Path, engine: str, kind: str, seed: int
) -> None:
    if engine == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    content, detections = _case(seed)
    path = write_json(tmp_path / "truth.json", content)
    assert sum(entry["segmentation"] == EMPTY for entry in content["annotations"]) > 10
    figures = coco_ap(read_coco(path, tmp_path), detections, kinds=(kind,), engine=engine)[kind]
    official = _official(path, detections, kind)
    assert [figures[name] for name in FIGURES] == pytest.approx(official, abs=1e-9)
    assert len({round(value or 0, 6) for value in official}) == len(FIGURES)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("animals7/valid/_annotations.coco.json", "animals7/valid"),
        ("tiny_coco/annotations/instances_train2017.json", "tiny_coco/images/train2017"),
    ],
)
def test_figures_of_real_files_are_cocos_own(
    shared_dir: Path, tmp_path: Path, annotations: str, images: str, engine: str
) -> None:
    if engine == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    from tests.metrics.random_detections import shifted

    path, folder = shared_dir / "data" / annotations, shared_dir / "data" / images
    truth = read_coco(path, folder)
    detections = shifted(truth, 3)
    for found in detections:
        found["segmentation"]["counts"] = found["segmentation"]["counts"].decode()
    given = COCO(str(path)).dataset
    for number, entry in enumerate(given["annotations"], 1):
        entry["id"] = number  # pycocotools takes a match with the id 0 for none
    renumbered = write_json(tmp_path / "truth.json", given)
    for kind in ("segm", "bbox"):
        figures = coco_ap(truth, detections, kinds=(kind,), engine=engine)[kind]
        official = _official(renumbered, detections, kind)
        assert [figures[name] for name in FIGURES] == pytest.approx(official, abs=1e-9)


@pytest.mark.parametrize("limit", [1, 3, 10, 40])
@pytest.mark.parametrize("engine", ENGINES)
def test_no_more_detections_count_than_asked_for(tmp_path: Path, engine: str, limit: int) -> None:
    if engine == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    content, detections = _case(3)
    truth = read_coco(write_json(tmp_path / "truth.json", content), tmp_path)
    figures = coco_ap(truth, detections, limit, ("segm",), engine)["segm"]
    best: list[dict[str, Any]] = []
    for image in truth.images:
        for category in truth.categories:
            own = [
                found
                for found in detections
                if (found["image_id"], found["category_id"]) == (image.id, category.id)
            ]
            best += sorted(own, key=lambda found: -found["score"])[:limit]
    alone = coco_ap(truth, best, 100, ("segm",), "pycocotools")["segm"]
    for name in FIGURES:
        assert figures[name] == pytest.approx(alone[name], abs=1e-9), name


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ({"area": 41.5, "bbox": [1.5, 2, 3, 4]}, (41.5, [1.5, 2.0, 3.0, 4.0])),
        ({"area": 0, "bbox": [0, 0, 0, 0]}, (0.0, [0.0] * 4)),
        ({"area": None, "bbox": None}, None),
        ({"area": -1, "bbox": [0, 0, -1, 5]}, None),
        ({"area": float("nan"), "bbox": [0, 0, float("inf"), 5]}, None),
        ({"area": True, "bbox": [0, 0, True, 5]}, None),
        ({"area": "12", "bbox": ["0", 0, 1, 5]}, None),
        ({"area": 10**400, "bbox": [0, 0, 10**400, 5]}, None),
        ({"area": [], "bbox": [0, 0, 1]}, None),
    ],
)
def test_area_and_bbox_are_the_files_where_they_can_be_used_else_the_masks(
    small_set: tuple[Path, Path], told: dict[str, Any], kept: Any
) -> None:
    content = coco_content()
    content["annotations"][0].update(told)
    write_json(small_set[0], content)
    truth = read_coco(*small_set)
    first = to_coco_dict(truth)["annotations"][0]
    of_mask = (truth.instances[0][0].area, list(truth.instances[0][0].bbox))
    assert of_mask == (120, [4.0, 5.0, 12.0, 10.0])  # whatever the file tells
    assert (first["area"], first["bbox"]) == (of_mask if kept is None else kept)


def test_an_annotation_without_a_pixel_is_missed_and_no_label(small_set: tuple[Path, Path]) -> None:
    content = coco_content()
    content["annotations"][1]["segmentation"] = EMPTY
    write_json(small_set[0], content)
    truth = read_coco(*small_set)
    assert truth.instance_count == len(content["annotations"]) - 1
    counted = to_coco_dict(truth)["annotations"]
    assert [a["category_id"] for a in counted] == [a["category_id"] for a in content["annotations"]]
    assert [a["id"] for a in counted] == list(range(1, len(counted) + 1))
    rest = to_coco_dict(without_images(truth, {0}))["annotations"]
    assert [a["image_id"] for a in rest] == [a["image_id"] for a in counted if a["image_id"]]
