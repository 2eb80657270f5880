"""What a training reads, written from scenes or true labels: a COCO file and pseudo-labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from made_instances import Scene
from PIL import Image

from s4m_pipeline.artifacts.tables import write_table
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.refinement.rle import bbox_area


class Label(NamedTuple):
    """An instance: its category and COCO's compressed counts of its mask."""

    category_id: int
    rle: bytes


def write_images(folder: Path, scenes: Sequence[Scene]) -> list[ImageRecord]:
    """Write scenes as JPEG files; ids count from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number, scene in enumerate(scenes, 1):
        path = folder / f"{number}.jpg"
        Image.fromarray(scene.image).save(path, quality=90)
        records.append(ImageRecord(number, path.name, path, *scene.image.shape[:2]))
    return records


def labels_of(scene: Scene, categories: Sequence[Mapping[str, Any]]) -> list[Label]:
    """A scene's instances, its categories in turn."""
    return [
        Label(int(categories[place % len(categories)]["id"]), one.mask_rle)
        for place, one in enumerate(scene.instances)
    ]


def write_coco(
    path: Path,
    records: Sequence[ImageRecord],
    labels: Mapping[int, Sequence[Label]],
    categories: Sequence[Mapping[str, Any]],
) -> None:
    """Write images with their instances, by image id, as a COCO file."""
    images = [
        {"id": one.id, "file_name": one.file_name, "height": one.height, "width": one.width}
        for one in records
    ]
    annotations: list[dict[str, Any]] = []
    for one in records:
        for category_id, rle in labels[one.id]:
            bbox, area = bbox_area(rle, one.height, one.width)
            mask = {"size": [one.height, one.width], "counts": rle.decode()}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": one.id,
                    "category_id": category_id,
                    "bbox": list(bbox),
                    "area": area,
                    "iscrowd": 0,
                    "segmentation": mask,
                }
            )
    content = {"images": images, "annotations": annotations, "categories": list(categories)}
    path.write_text(json.dumps(content))


def write_refined(
    folder: Path,
    records: Sequence[ImageRecord],
    labels: Mapping[int, Sequence[Label]],
    categories: Sequence[Mapping[str, Any]],
) -> None:
    """Write a refine artifact's table: the labels of each image, by its id."""
    rows = [
        _row(record, place, label, len(categories))
        for record in sorted(records, key=lambda one: one.id)
        for place, label in enumerate(labels.get(record.id, []))
    ]
    write_table(folder / "refined" / "00000.parquet", "refined", rows, list(categories))


def _row(record: ImageRecord, place: int, label: Label, classes: int) -> dict[str, Any]:
    bbox, area = bbox_area(label.rle, record.height, record.width)
    return {
        "image_id": record.id,
        "file_name": record.file_name,
        "height": record.height,
        "width": record.width,
        "instance_id": place,
        "category_id": label.category_id,
        "score": 0.9,
        "class_probs": np.full(classes, 1 / classes, np.float32).tolist(),
        "bbox": bbox,
        "area": area,
        "mask_rle": label.rle,
        "prompt_points": [],
        "soft_mask": b"",
        "soft_mask_box": [0, 0, 0, 0],
        "soft_mask_stride": 4.0,
        "teacher_mask_rle": label.rle,
        "candidate_ious": [],
        "candidate": -1,
        "agreement": 1.0,
        "area_ratio": 1.0,
        "decision": "refined",
        "reason_code": "",
        "reason": "",
    }


def labelled_config(folder: Path, categories: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Config of the dataset of images in ``labelled`` and their COCO file, ``labelled.json``."""
    return {
        "type": "CocoInstances",
        "annotations": str(folder / "labelled.json"),
        "images": str(folder / "labelled"),
        "categories": list(categories),
        "branch": "labelled",
    }


def refined_config(
    folder: Path, records: Sequence[ImageRecord], categories: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Config of the dataset of pseudo-labelled images, as the student's stage writes it."""
    return {
        "type": "RefinedInstances",
        "artifact": str(folder),
        "images": [(r.id, r.file_name, str(r.path), r.height, r.width) for r in records],
        "categories": list(categories),
        "structure": None,
        "branch": "unlabelled",
    }
