"""The work of ``evaluate``: a model detects on images, and its detections are scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.manifest import file_entry
from s4m_pipeline.artifacts.sealed import write_json
from s4m_pipeline.config import MEGABYTE
from s4m_pipeline.data.image_set import (
    Category,
    ImageSet,
    check_same_categories,
    require_instances,
)
from s4m_pipeline.data.levels import Levels
from s4m_pipeline.data.reading import Reading
from s4m_pipeline.engine.reading import in_batches, load_prepared
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Outcome
from s4m_pipeline.errors import S4MError
from s4m_pipeline.late import load
from s4m_pipeline.metrics.cityscapes_metric import read_void
from s4m_pipeline.metrics.scoring import score_detections, wants_cityscapes
from s4m_pipeline.stages.detections import DETECTIONS, stored_detections
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.training import own_models

BATCH = 4
PREDICTOR = "s4m_pipeline.models.predictor:Predictor"


def evaluate(run: Run, stage: Evaluate, folder: Path) -> Outcome:
    """Detect on every image, unless the detections are stored already, then score.

    Args:
        run: The run.
        stage: The evaluation.
        folder: The artifact's folder.

    Raises:
        S4MError: None of the images can be read, or none that can has an instance to find.
    """
    truth = stage.truth(run)
    aside: list[dict[str, Any]] = []
    warnings: list[str] = []
    detections = stored_detections(run, stage) if stage.reuse else None
    if detections is None:
        detections = list(_detect(run, stage, truth, aside, warnings))
    for row in aside:
        run.reporter.warn(f"{row['file_name']} is set aside: {row['error']}")
    truth = truth.without({row["image_id"] for row in aside})
    if not truth.images:
        raise S4MError(f"none of the {len(aside)} images can be read: {aside[0]['error']}")
    require_instances(truth, f"what can be read of data.{stage.split}")
    metrics = score_detections(truth, detections, stage.metric, _void(run, stage, truth))
    if warnings:
        metrics["warnings"] = warnings
    if stage.chosen_here(run):
        metrics["chosen_here"] = True
    write_json(folder / DETECTIONS, detections)
    counts = {
        "images": len(truth.images),
        "instances": truth.instance_count,
        "quarantined": len(aside),
    }
    return Outcome([file_entry(folder, folder / DETECTIONS)], counts, metrics)


def _void(run: Run, stage: Evaluate, truth: ImageSet) -> dict[int, bytes]:
    """The pixels without a label, where Cityscapes' metric is asked for."""
    if not wants_cityscapes(stage.metric, truth):
        return {}
    annotations = stage.section(run.config).annotations
    void = read_void(annotations)
    if not void:
        run.reporter.warn(
            f"{annotations.name} marks no void pixels: for Cityscapes' metric, detections "
            "there count as false"
        )
    return void


def _detect(
    run: Run,
    stage: Evaluate,
    truth: ImageSet,
    aside: list[dict[str, Any]],
    warnings: list[str],
) -> Iterator[dict[str, Any]]:
    """COCO's result dicts of all images; what cannot be read goes to ``aside``."""
    # scoring alone, of stored detections, needs no torch
    predictor = load(PREDICTOR)(
        stage.checkpoint(run), run.device, stage.averaged, own_models(run.config)
    )
    categories = [Category(int(c["id"]), str(c["name"])) for c in predictor.categories]
    check_same_categories(categories, truth.categories, "the checkpoint", f"data.{stage.split}")
    ids = [category.id for category in categories]
    truth = truth.read_by(read_as_learned(run, predictor.levels))
    with run.reporter.progress(stage.name, len(truth.images)) as advance:
        decoded = run.config.execution.decoded_mb * MEGABYTE
        images = load_prepared(truth.images, stage.name, aside, predictor.scaled, decoded)
        for batch in in_batches(images, BATCH):
            detections = predictor.detect([image for _, image in batch])
            for (record, image), of_image in zip(batch, detections, strict=True):
                yield from _results(record.id, image.original, of_image, ids)
            advance(len(batch), "")
    for warning in predictor.warnings:
        run.reporter.warn(warning)
    warnings += predictor.warnings


def read_as_learned(run: Run, learned: Levels | None) -> Reading:
    """How a model's pictures are read: by the levels that it learned from, where it has some."""
    return run.images.reading if learned is None else replace(run.images.reading, levels=learned)


def _results(
    image_id: int, size: tuple[int, int], detections: Any, ids: list[int]
) -> Iterator[dict[str, Any]]:
    """One image's detections as COCO's result dicts."""
    for label, score, box, rle in zip(
        detections.labels, detections.scores, detections.boxes, detections.rles, strict=True
    ):
        x0, y0, x1, y1 = (float(value) for value in box)
        yield {
            "image_id": image_id,
            "category_id": ids[int(label)],
            "score": float(score),
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "segmentation": {"size": list(size), "counts": rle.decode("ascii")},
        }
