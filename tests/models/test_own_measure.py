"""The figure that weights are chosen by is the one that the data set's evaluation reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_api

from s4m_pipeline.data.formats.cityscapes.reader import CLASSES
from s4m_pipeline.metrics.scoring import score_detections
from s4m_pipeline.models.openmmlab import prepare

prepare()

from s4m_pipeline.data.formats import coco  # noqa: E402
from s4m_pipeline.metrics.cityscapes_metric import read_void  # noqa: E402
from s4m_pipeline.models.own_measure import OwnMeasure  # noqa: E402

SIDE, IMAGES = 64, 6


def rle_of(mask: np.ndarray) -> dict[str, Any]:
    coded = mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": coded["size"], "counts": coded["counts"].decode()}


def box(random: np.random.Generator) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    y, x = random.integers(0, 30, 2)
    mask[y : y + random.integers(12, 30), x : x + random.integers(12, 30)] = True
    return mask


@pytest.fixture(params=["cityscapes", "coco"])
def validation(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """A COCO file of random boxes with void pixels, in Cityscapes' classes or others."""
    names = list(CLASSES.values()) if request.param == "cityscapes" else ["a", "b"]
    categories = [{"id": 24 + k, "name": name} for k, name in enumerate(names)]
    random = np.random.default_rng(0)
    images, annotations = [], []
    for image in range(1, IMAGES + 1):
        void = rle_of(np.ones((SIDE, SIDE), bool))
        size = {"height": SIDE, "width": SIDE}
        images.append({"id": image, "file_name": f"{image}.png", **size, "void": void})
        for _ in range(3):
            mask = box(random)
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image, "iscrowd": 0,
                    "category_id": int(random.choice([24, 25])), "segmentation": rle_of(mask),
                    "area": int(mask.sum()), "bbox": [0, 0, 1, 1],
                }
            )  # fmt: skip
    path = tmp_path / "valid.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return {"annotations": path, "images": tmp_path, "categories": categories, "exclude": [3]}


def samples(validation: dict[str, Any]) -> list[dict[str, Any]]:
    """Detections as a network gives them: true boxes, some moved, and wrong ones."""
    random = np.random.default_rng(1)
    content = json.loads(Path(validation["annotations"]).read_text())
    made = []
    for image in content["images"]:
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        masks = [np.roll(mask_api.decode(a["segmentation"]), 2, 1) > 0 for a in own]
        masks += [box(random) for _ in range(2)]
        labels = [a["category_id"] - 24 for a in own] + [0, 1]
        found = {
            "labels": torch.tensor(labels),
            "scores": torch.from_numpy(random.random(len(masks)).astype(np.float32)),
            "bboxes": torch.zeros(len(masks), 4),
            "masks": torch.from_numpy(np.stack(masks)),
        }
        made.append({"pred_instances": found, "img_id": image["id"], "ori_shape": (SIDE, SIDE)})
    return [sample for sample in made if sample["img_id"] not in validation["exclude"]]


def test_it_is_what_evaluate_scores(validation: dict[str, Any]) -> None:
    measure = OwnMeasure(validation)
    found = samples(validation)
    detections = [
        {
            "image_id": sample["img_id"],
            "category_id": 24 + int(sample["pred_instances"]["labels"][place]),
            "score": float(sample["pred_instances"]["scores"][place]),
            "segmentation": rle_of(mask.numpy()),
        }
        for sample in found
        for place, mask in enumerate(sample["pred_instances"]["masks"])
    ]
    measure.process(None, found[:2])
    measure.process(None, found[2:])
    ((name, value),) = measure.evaluate(len(found)).items()
    truth = coco.load(validation["annotations"], validation["images"]).without([3])
    void = read_void(validation["annotations"])
    scored = score_detections(truth, detections, "both", void)
    if len(validation["categories"]) == 8:
        assert (name, value) == ("cityscapes/AP", scored["cityscapes"]["AP"])
        assert value != score_detections(truth, detections, "both")["cityscapes"]["AP"], "void"
    else:
        assert (name, value) == ("coco/segm_AP", scored["segm"]["AP"])
    assert 0.1 < value < 0.9


def test_no_detection_is_a_figure_too(validation: dict[str, Any]) -> None:
    measure = OwnMeasure(validation)
    assert list(measure.evaluate(5).values()) == [0.0]
