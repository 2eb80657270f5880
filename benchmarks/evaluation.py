"""COCO's figures of 500 images: the package's evaluation against ``pycocotools.COCOeval`` (row 9).

Truth and detections are made: seven instances of natural outline on an image of 480 x 640 of COCO's
80 classes, one in fifty a crowd; each is found up to three times, moved, or with another class, and
there are two false detections of lower scores for each. Both ways start from the same lists in
memory and score masks and boxes. The naive way is COCO's own: `loadRes`, `evaluate`, `accumulate`,
`summarize`. Compared are the figures that it prints, and those of every class from its tables.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import rlemasklib
from harness import in_turn, report_times
from made_labels import SIZE, made_rows
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.data.formats.coco.writer import to_coco_dict
from s4m_pipeline.data.image_set import Category, ImageRecord, ImageSet, Instance
from s4m_pipeline.metrics.average_precision import coco_ap
from s4m_pipeline.metrics.coco_engine import default_engine, engine_version
from s4m_pipeline.refinement.rle import bbox_area

IMAGES = 500
CLASSES = 80
GOAL, TOLERANCE = 4, 1e-12
SUMMARY = {
    "AP": 0,
    "AP50": 1,
    "AP75": 2,
    "AP_small": 3,
    "AP_medium": 4,
    "AP_large": 5,
    "AR": 8,
    "AR_small": 9,
    "AR_medium": 10,
    "AR_large": 11,
}
"""Places of the figures in what `summarize` gives."""
AREAS = {"": 0, "_small": 1, "_medium": 2, "_large": 3}

Figures = dict[str, float | None]


def main() -> None:
    """Score both ways in turn and compare every figure."""
    truth, detections = _made()
    naive, ours, slow, fast = in_turn(
        lambda: _naive(truth, detections), lambda: _ours(truth, detections), repeats=3
    )
    if naive.keys() != ours.keys():
        raise SystemExit(f"other figures: {sorted(naive.keys() ^ ours.keys())}")
    largest = 0.0
    for name, value in naive.items():
        other = ours[name]
        if value is None or other is None:
            difference = 0.0 if value is other else np.inf
        else:
            difference = abs(value - other)
        if difference > TOLERANCE:
            raise SystemExit(f"{name} is {other} here and {value} in pycocotools")
        largest = max(largest, difference)
    segm = [f"{name} {naive[f'segm {name}']:.3f}" for name in ("AP", "AP50", "AR")]
    print(f"{len(detections)} detections of {truth.instance_count} instances; {', '.join(segm)}")
    equal = f"{len(naive)} figures, largest difference {largest:.1g}"
    report_times("evaluation", GOAL, slow, fast, equal, engine=engine_version(default_engine()))


def _ours(truth: ImageSet, detections: list[dict[str, Any]]) -> Figures:
    """The package's figures under flat names."""
    found: Figures = {}
    for kind, figures in coco_ap(truth, detections).items():
        for name in SUMMARY:
            found[f"{kind} {name}"] = figures[name]
            for label, own in figures["per_class"].items():
                found[f"{kind} {label} {name}"] = own[name]
    return found


def _naive(known: ImageSet, detections: list[dict[str, Any]]) -> Figures:
    """COCO's own figures under the same names."""
    found: Figures = {}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = to_coco_dict(known)
        truth.createIndex()
        for kind in ("segm", "bbox"):
            keys = ["image_id", "category_id", "score", "segmentation" if kind == "segm" else kind]
            results = truth.loadRes([{key: one[key] for key in keys} for one in detections])
            evaluation = COCOeval(truth, results, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            for name, place in SUMMARY.items():
                found[f"{kind} {name}"] = _known(float(evaluation.stats[place]))
            for place, one in enumerate(truth.loadCats(truth.getCatIds())):
                for name, value in _of_class(evaluation.eval, place).items():
                    found[f"{kind} {one['name']} {name}"] = value
    return found


def _of_class(tables: dict[str, Any], place: int) -> Figures:
    """The figures of one class from COCO's tables, at 100 detections an image."""
    found: Figures = {}
    for area, number in AREAS.items():
        precision = tables["precision"][:, :, place, number, 2]
        found[f"AP{area}"] = _mean(precision)
        found[f"AR{area}"] = _mean(tables["recall"][:, place, number, 2])
        if not area:
            found["AP50"], found["AP75"] = _mean(precision[0]), _mean(precision[5])
    return found


def _mean(values: np.ndarray) -> float | None:
    return float(values[values > -1].mean()) if (values > -1).any() else None


def _known(value: float) -> float | None:
    return None if value == -1 else value


def _made() -> tuple[ImageSet, list[dict[str, Any]]]:
    """Truth, and detections as COCO's result dicts."""
    records = [ImageRecord(k, f"{k}.jpg", Path(f"{k}.jpg"), *SIZE) for k in range(1, IMAGES + 1)]
    truth = ImageSet([Category(k + 1, f"class {k + 1}") for k in range(CLASSES)], records)
    detections = []
    for number, row in enumerate(made_rows(IMAGES)):
        draw = rng(0, "evaluation", number)
        label, image = 1 + row["category_id"] % CLASSES, row["image_id"]
        found = Instance(label, row["mask_rle"], row["bbox"], row["area"], draw.random() < 0.02)
        truth.instances.setdefault(image, []).append(found)
        for _ in range(int(draw.choice([0, 1, 1, 1, 2, 3]))):
            reach = 0.15 * min(row["bbox"][2:])
            named = label if draw.random() < 0.9 else 1 + label % CLASSES
            detections += _detection(image, named, row["mask_rle"], draw, reach)
        for _ in range(2):
            named = int(draw.integers(1, CLASSES + 1))
            detections += _detection(image, named, row["mask_rle"], draw, 60.0, 0.3)
    return truth, detections


def _detection(
    image: int,
    label: int,
    rle: bytes,
    draw: np.random.Generator,
    reach: float,
    highest: float = 1.0,
) -> list[dict[str, Any]]:
    """A detection of a mask, moved up to about ``reach`` pixels; none where it leaves the image."""
    moved = rlemasklib.shift(
        {"size": list(SIZE), "counts": rle}, np.round(draw.normal(size=2) * reach).astype(int)
    )
    bbox, area = bbox_area(moved["counts"], *SIZE)
    if not area:
        return []
    coded = {"size": list(SIZE), "counts": moved["counts"].decode()}
    score = round(float(draw.random()) * highest, 3)
    one = {"image_id": image, "category_id": label, "score": score}
    return [{**one, "bbox": list(bbox), "segmentation": coded}]


if __name__ == "__main__":
    main()
