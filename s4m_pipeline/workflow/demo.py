"""The demo: all stages on generated scenes, and what refinement gains, in a table and a page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.config import starts_from_teacher
from s4m_pipeline.config_data import LabelledSet
from s4m_pipeline.config_file import load_config
from s4m_pipeline.configs import RUNS, model_config_path
from s4m_pipeline.console.reporter import Reporter
from s4m_pipeline.data.folders import require_folder
from s4m_pipeline.data.image_set import Category, ImageSet
from s4m_pipeline.data.images import read_image
from s4m_pipeline.data.scenes.scenes import generate_scenes
from s4m_pipeline.engine.image_sets import read_labelled
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.errors import UsageError
from s4m_pipeline.late import load
from s4m_pipeline.review.demo_page import DemoSample, write_demo_page
from s4m_pipeline.stages.trainings import training_of_round
from s4m_pipeline.workflow.label_quality import label_quality_of_run
from s4m_pipeline.workflow.pipeline import stages_of

SCENES = {"labelled": 48, "unlabelled": 240, "validation": 100}
"""Scenes in each set."""
PREDICTOR = "s4m_pipeline.models.predictor:Predictor"
SHOWN = 8
"""Scenes on the page."""
SHOWN_SCORE = 0.5
"""Detections on the page have at least this score."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The result of the demo.

    Attributes:
        rows: A row for each model: ``name`` and its figures, for the table.
        page: The HTML page.
        seconds: Wall time.
    """

    rows: list[dict[str, Any]]
    page: Path
    seconds: float


def prepare_demo(folder: Path, seed: int) -> Path:
    """Write the demo's scenes and run file.

    Args:
        folder: A folder of an earlier demo, or one that does not exist yet.
        seed: Seed of scenes and run.

    Returns:
        The run's file.

    Raises:
        UsageError: The folder holds other things, or is a file.
    """
    path = folder / "demo.yaml"
    if folder.exists():
        require_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not path.is_file():
        raise UsageError(f"{folder} is not empty and holds no demo; choose another with --out")
    text = (RUNS / "demo.yaml").read_text().replace("seed: 0", f"seed: {seed}", 1)
    if path.is_file() and path.read_text() != text:
        raise UsageError(
            f"{folder} holds a demo of another seed or version; choose another folder with --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text)  # before the scenes: it marks the folder as the demo's
    for split, count in SCENES.items():
        if not (folder / "scenes" / f"{split}.json").is_file():
            generate_scenes(folder / "scenes", count, seed, split)
    return path


def run_demo(
    folder: Path,
    seed: int = 0,
    overrides: list[str] | None = None,
    reporter: Reporter | None = None,
) -> DemoResult:
    """Run the demo, and resume where an earlier try stopped.

    Three models start from the teacher and train for the same number of iterations: one on the
    labelled scenes alone, a student on the teacher's own labels, and a student on the refined ones.

    Args:
        folder: The demo's folder.
        seed: Seed of scenes and run.
        overrides: Settings to override, ``section.key=value``.
        reporter: Where messages go.
    """
    start = time.monotonic()
    _check_overrides(overrides or [])
    path = prepare_demo(folder, seed)
    refined = Run(load_config(path, overrides or []), reporter)
    plain = Run(load_config(path, [*(overrides or []), "refine.policy=none"]), reporter)
    ap = {
        "teacher": _train_and_evaluate(refined, "teacher"),
        "teacher, trained on": _train_and_evaluate(_teacher_trained_on(refined), "teacher"),
        "student, unrefined labels": _train_and_evaluate(plain, "student"),
        "student, refined labels": _train_and_evaluate(refined, "student"),
    }
    quality = label_quality_of_run(refined, folder / "scenes" / "unlabelled.json")
    labels = {"teacher": quality["teacher"], "student, unrefined labels": quality["teacher"]}
    labels["student, refined labels"] = quality["refined"]
    rows = [_row(name, ap[name], labels[name] if "labels" in name else None) for name in ap]
    seconds = time.monotonic() - start
    page = folder / "index.html"
    _write_page(refined, rows, page, seconds)
    return DemoResult(rows, page, seconds)


def _check_overrides(overrides: list[str]) -> None:
    """Refuse wrong settings before a scene is drawn (UsageError)."""
    config = load_config(RUNS / "demo.yaml", overrides)
    for section in (config.teacher, config.student):
        model_config_path(section.model)


def _teacher_trained_on(run: Run) -> Run:
    """A run whose teacher starts from this run's and trains for as long again."""
    start = run.require(training_of_round(0)) / CHECKPOINT
    config = run.config.model_copy(deep=True)
    config.teacher.weights = str(start)
    return Run(config, run.reporter)


def _train_and_evaluate(run: Run, of: str) -> Mapping[str, Any]:
    """Make all stages that one model needs and evaluate it."""
    for stage in stages_of(run.config):
        if stage.name == "evaluate":
            continue
        perform(run, stage)
        if of == "teacher" and stage.name == "train-teacher":
            break
    return perform(run, stage_named("evaluate", of=of)).metrics


def _row(name: str, ap: Mapping[str, Any], quality: Mapping[str, Any] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name}
    for key, title in (("AP", "mask AP"), ("AP50", "mask AP50")):
        row[title] = 100 * float(ap["segm"][key])
    row["labels: mean IoU"] = None if quality is None else quality["mean_best_iou"]
    row["precision"] = None if quality is None else quality["precision"]
    row["recall"] = None if quality is None else quality["recall"]
    return row


def _write_page(run: Run, rows: list[dict[str, Any]], page: Path, seconds: float) -> None:
    truth = _truth_of_unlabelled(page.parent)
    samples = _samples(run, truth)
    config = run.config
    start = "teacher's" if starts_from_teacher(config) else "model config's"
    notes = [
        f"{SCENES['labelled']} labelled, {SCENES['unlabelled']} unlabelled and "
        f"{SCENES['validation']} validation scenes of 128 x 128 pixels, seed {config.seed}.",
        f"Each model trains for {config.teacher.iterations} iterations of "
        f"{config.teacher.batch_size} images; the students start from the {start} weights.",
        f"All of it took {seconds / 60:.1f} minutes (less where parts were already there).",
    ]
    write_demo_page(page, rows, samples, notes, [c.name for c in truth.categories])


def _truth_of_unlabelled(folder: Path) -> ImageSet:
    """The unlabelled scenes with their truth, for the page."""
    scenes = folder / "scenes"
    section = LabelledSet(images=scenes / "unlabelled", annotations=scenes / "unlabelled.json")
    return read_labelled(section, "the demo's scenes")


def _samples(run: Run, truth: ImageSet) -> list[Any]:
    """Scenes for the page: the first ones with several instances."""
    names = {category.id: category.name for category in truth.categories}
    columns = ["file_name", "category_id", "mask_rle", "teacher_mask_rle", "decision"]
    rows = read_table(run.require(stage_named("refine")), "refined", columns).to_pylist()
    labels = [row for row in rows if row["decision"] != Decision.DROPPED]
    student = load(PREDICTOR)(run.require(training_of_round(1)) / CHECKPOINT, run.device)
    crowded = [i for i in truth.images if len(truth.instances.get(i.id, [])) >= 3]
    samples = []
    for record in crowded[:SHOWN]:
        image = read_image(record.path, run.images.reading)
        own = [row for row in labels if row["file_name"] == record.file_name]
        samples.append(
            DemoSample(
                record.file_name,
                image,
                [(i.rle, names[i.category_id]) for i in truth.instances[record.id]],
                [(row["teacher_mask_rle"], names[row["category_id"]]) for row in own],
                [(row["mask_rle"], names[row["category_id"]]) for row in own],
                _detections(student, image, truth.categories),
            )
        )
    return samples


def _detections(student: Any, image: Any, categories: list[Category]) -> list[tuple[bytes, str]]:
    """A student's masks on an image, as COCO's compressed RLE counts, with their classes' names."""
    detections = student.detect([image])[0]
    columns = zip(detections.labels, detections.scores, detections.rles, strict=True)
    return [
        (rle, categories[int(label)].name) for label, score, rle in columns if score >= SHOWN_SCORE
    ]
