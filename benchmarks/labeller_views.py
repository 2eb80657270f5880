"""What several views and teachers make of pseudo-labels: precision, recall and masks by threshold.

    OMP_NUM_THREADS=1 python benchmarks/labeller_views.py --data ../shared/data/animals7 \
        --unlabelled unlabelled-10.json --teacher train-teacher/FINGERPRINT/checkpoint.pth \
        --teacher OTHER/checkpoint.pth --photographs 150

The photographs are the first of a draw with ``--seed`` from those of the COCO file
``--unlabelled``; their true masks are in the data set's own file. Masks are the teachers', before
refinement. Each teacher looks at each view once, whatever the rows share. In the first table each
row has a line at the score 0.7 and one at its best score: that of the highest quality, the summed
IoU of the matched pairs over the mean of the numbers of labels and true instances. As scores shrink
where views disagree, the second table compares precision and mean IoU of the matched at the scores
that leave as many labels; recall goes with precision there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.config_data import LabelledSet
from s4m_pipeline.config_views import read_views
from s4m_pipeline.data.image_set import ImageSet
from s4m_pipeline.data.images import read_sized_image
from s4m_pipeline.engine.image_sets import read_labelled
from s4m_pipeline.metrics.label_quality import label_quality
from s4m_pipeline.metrics.matching import Label
from s4m_pipeline.models.labeller.labeller import Labeller
from s4m_pipeline.models.predictor import InstancePredictions, Predictor
from s4m_pipeline.models.scaled_image import ScaledImage
from s4m_pipeline.stages.calibration.held_out_quality import quality
from s4m_pipeline.stages.prediction_rows import prediction_rows
from s4m_pipeline.stages.prediction_settings import PredictionSettings

VIEWS = {
    "one view": ["image"],
    "flip": ["image", "flip"],
    "flip, 1 and 1.35": ["image", "flip", "1.35", "flip 1.35"],
    "flip, 0.75, 1 and 1.35": ["image", "flip", "0.75", "flip 0.75", "1.35", "flip 1.35"],
}
SETTINGS = PredictionSettings(seed=0, min_score=0.05, points=1)
SCORES = np.arange(2, 19) / 20
COMPARED = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
USUAL = 0.7
MIN_AREA = 5 * 255
"""The sum of a soft mask's bytes above which a prediction becomes a label."""


class Remembering(Predictor):
    """A teacher that looks at each picture once, in each view."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(checkpoint, "cpu")
        self._known: dict[bytes, InstancePredictions] = {}
        self.seconds = 0.0

    def predict(self, images: Sequence[Any], min_score: float = 0.0) -> list[InstancePredictions]:
        """As `Predictor.predict`, from memory where it is there."""
        return [self._of(image, min_score) for image in images]

    def _of(self, image: ScaledImage, min_score: float) -> InstancePredictions:
        key = image.tensor.numpy().tobytes()
        if key not in self._known:
            start = time.perf_counter()
            (self._known[key],) = super().predict([image], min_score)
            self.seconds += time.perf_counter() - start
        return self._known[key]

    def forget(self) -> None:
        """Make room for the next picture."""
        self._known.clear()


def main() -> None:
    """Predict all rows, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of animals7")
    parser.add_argument("--unlabelled", type=Path, required=True, help="COCO file of photographs")
    parser.add_argument("--teacher", type=Path, action="append", required=True)
    parser.add_argument("--photographs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    truth = photographs(args)
    teachers = [Remembering(path) for path in args.teacher]
    found = predict_all(truth, teachers)
    passes = {name: len(VIEWS[views]) * count for name, (views, count) in rows_of(teachers).items()}
    print(f"{len(truth.images)} photographs, {truth.instance_count} true instances")
    print("\n".join([*table(truth, found, passes), "", *as_many(truth, found)]))


def photographs(args: argparse.Namespace) -> ImageSet:
    """Some of the unlabelled photographs with their true masks."""
    images = args.data / "train"
    section = LabelledSet(images=images, annotations=images / "_annotations.coco.json")
    truth = read_labelled(section, "truth")
    names = {image["file_name"] for image in json.loads(args.unlabelled.read_text())["images"]}
    ids = [image.id for image in truth.images if image.file_name in names]
    drawn = rng(args.seed, "labeller views").permutation(len(ids))[: args.photographs]
    return truth.only([ids[place] for place in sorted(drawn)])


def rows_of(teachers: Sequence[Predictor]) -> dict[str, tuple[str, int]]:
    """The views, by their name, and the number of teachers of each row."""
    rows = {name: (name, 1) for name in VIEWS}
    if len(teachers) > 1:
        rows["two teachers, one view"] = ("one view", 2)
        rows["two teachers, flip, 1 and 1.35"] = ("flip, 1 and 1.35", 2)
        rows["second teacher, one view"] = ("one view", -1)
    return rows


def predict_all(
    truth: ImageSet, teachers: Sequence[Remembering]
) -> dict[str, dict[int, list[Label]]]:
    """The predictions of all rows that are large enough, by row and image."""
    rows = rows_of(teachers)
    labellers = {
        name: Labeller(teachers[:count] if count > 0 else teachers[1:], read_views(VIEWS[views]))
        for name, (views, count) in rows.items()
    }
    ids = [int(category["id"]) for category in teachers[0].categories]
    found: dict[str, dict[int, list[Label]]] = {name: {} for name in rows}
    for number, record in enumerate(truth.images):
        image = read_sized_image(record.path, record.height, record.width, record.reading)
        for name, labeller in labellers.items():
            (one,) = labeller.predict([labeller.scaled(image)], SETTINGS.min_score)
            size = (record.height, record.width)
            found[name][record.id] = [
                Label(row["category_id"], row["mask_rle"], row["score"])
                for row in prediction_rows(record, size, one, ids, SETTINGS)
                if np.frombuffer(row["soft_mask"], np.uint8).sum(dtype=int) > MIN_AREA
            ]
        for teacher in teachers:
            teacher.forget()
        if number % 10 == 9:
            spent = sum(teacher.seconds for teacher in teachers)
            print(f"{number + 1} photographs, {spent:.0f} s in networks", flush=True)
    return found


def at_score(
    truth: ImageSet, labels: dict[int, list[Label]], score: float
) -> tuple[float, dict[str, Any]]:
    """The quality of the predictions above a score, and their figures."""
    above = {key: [one for one in of if one.score > score] for key, of in labels.items()}
    figures = label_quality(truth, above)
    return quality(figures), figures


def table(
    truth: ImageSet, found: dict[str, dict[int, list[Label]]], passes: dict[str, int]
) -> list[str]:
    """The lines of the table at two scores a row."""
    heads = ("score", "labels", "precision", "recall", "mean IoU", "best overlap", "quality")
    lines = [f"| labels of | passes | {' | '.join(heads)} |", "| --- |" + " --- |" * 8]
    for name, labels in found.items():
        curve = {float(score): at_score(truth, labels, float(score)) for score in SCORES}
        best = max(curve, key=lambda score: curve[score][0])
        for score in dict.fromkeys((USUAL, best)):
            value, figures = curve[score]
            keys = ("precision", "recall", "mean_iou", "mean_best_iou")
            cells = [f"{figures[key]:.3f}" for key in keys]
            shown = [f"{score:.2f}", str(figures["labels"]), *cells, f"{value:.3f}"]
            lines.append(f"| {name} | {abs(passes[name])} | {' | '.join(shown)} |")
    return lines


def as_many(truth: ImageSet, found: dict[str, dict[int, list[Label]]]) -> list[str]:
    """The lines of the table of precision where each row keeps as many labels as one view does."""
    counts = {
        score: sum(one.score > score for of in found["one view"].values() for one in of)
        for score in COMPARED
    }
    heads = [f"{score:g} ({count})" for score, count in counts.items()]
    lines = [f"| as many labels as one view above | {' | '.join(heads)} |"]
    lines.append("| --- |" + " --- |" * len(heads))
    for name, labels in found.items():
        ranked = sorted((one.score for of in labels.values() for one in of), reverse=True)
        cells = []
        for count in counts.values():
            score = ranked[count] if count < len(ranked) else 0.0
            figures = at_score(truth, labels, score)[1]
            cells.append(f"{figures['precision'] or 0:.3f} / {figures['mean_iou'] or 0:.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
