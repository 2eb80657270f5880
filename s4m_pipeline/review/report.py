"""A stage's report: one page about what an artifact holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.artifacts.manifest import Manifest, read_manifest
from s4m_pipeline.artifacts.tables import read_table, table_files
from s4m_pipeline.artifacts.training_files import LOG
from s4m_pipeline.errors import UsageError
from s4m_pipeline.review import refine_figures as counted
from s4m_pipeline.review.ap_tables import ap_table
from s4m_pipeline.review.charts import Figure
from s4m_pipeline.review.curves import last_value, read_log, training_figures
from s4m_pipeline.review.page import Extras, Gallery, write_page
from s4m_pipeline.review.report_gallery import Picture, label_galleries, prediction_galleries
from s4m_pipeline.review.table import Cell, Table

DEFAULT_SCORE = 0.3


def stage_report(
    artifact_folder: Path,
    images: Mapping[int, Picture],
    out: Path,
    limit: int = 24,
    seed: int = 0,
    score: float | None = None,
    rates: Sequence[Table] = (),
    title: str = "Training",
) -> None:
    """Write a page about a finished artifact of labels, of predictions, or with a training's log.

    Args:
        artifact_folder: The artifact's folder, with its manifest.
        images: Each image by id. Images that are missing or unreadable are not shown, and
            the page says how many these are. Not used for trainings.
        out: The HTML file to write.
        limit: Images to show at most: half of them drawn at random, half those of lowest agreement
            (for predictions: of lowest best score).
        seed: Fixes the random draw.
        score: Predictions up to it are not drawn; None takes the run's own label threshold where
            the manifest has it, else 0.3. Only for pseudo-label.
        rates: Tables of the labels' rates, shown first on a page about refined labels.
        title: Of a page about a training.

    Raises:
        ArtifactError: The artifact is unfinished, damaged or of another format version.
        UsageError: There is no report of such a stage, or ``out`` cannot be written.
    """
    manifest = read_manifest(artifact_folder)
    if table_files(artifact_folder, "refined"):
        _refine_report(artifact_folder, manifest, images, out, limit, seed, rates)
    elif table_files(artifact_folder, "predictions"):
        shown = _label_score(manifest) if score is None else score
        _prediction_report(artifact_folder, manifest, images, out, limit, seed, shown)
    elif (artifact_folder / LOG).is_file():
        _training_report(artifact_folder, manifest, out, title)
    else:
        raise UsageError(
            f"{artifact_folder}: no report of stage '{manifest.stage}':\n"
            "it holds neither labels nor predictions nor a training's log."
        )


def _refine_report(
    folder: Path,
    manifest: Manifest,
    images: Mapping[int, Picture],
    out: Path,
    limit: int,
    seed: int,
    rates: Sequence[Table],
) -> None:
    figures = counted.read_figures(folder, "refined")
    total = len(figures.decision)
    count = _image_count(manifest, figures)
    facts = [("images", f"{count:,}"), ("instances", f"{total:,}")]
    for decision in Decision:
        share = 100 * figures.decided(decision) / max(total, 1)
        facts.append((decision.value, f"{share:.1f} %"))
    facts.append(("set aside", f"{manifest.counts.get('quarantined', 0):,}"))
    charts = [
        counted.agreement_chart(figures),
        counted.per_image_chart(figures, figures.labels, count),
        counted.per_class_chart(figures, np.ones(total, dtype=bool)),
    ]
    tables = [*rates, counted.decision_table(figures), counted.class_table(figures)]
    summary = (
        f"{total:,} masks of the teacher on {count:,} images went through the segmenter: "
        f"{figures.decided(Decision.REFINED):,} were redrawn, "
        f"{figures.decided(Decision.KEPT):,} stayed as they were, "
        f"and {figures.decided(Decision.DROPPED):,} were dropped."
    )
    galleries = label_galleries(folder, figures, images, limit, seed)
    _write(
        out,
        manifest,
        "Refined labels",
        summary,
        [*tables, *_set_aside(folder)],
        galleries,
        Extras(facts=facts, figures=charts),
    )


def _prediction_report(
    folder: Path,
    manifest: Manifest,
    images: Mapping[int, Picture],
    out: Path,
    limit: int,
    seed: int,
    score: float,
) -> None:
    figures = counted.read_figures(folder, "predictions")
    total = len(figures.score)
    above = figures.score > score
    count = _image_count(manifest, figures)
    with_any = len(set(figures.image_id[above].tolist()))
    facts = [
        ("images", f"{count:,}"),
        ("predictions stored", f"{total:,}"),
        (f"score > {score:g}", f"{int(above.sum()):,}"),
        ("images with any of these", f"{100 * with_any / max(count, 1):.1f} %"),
        ("set aside", f"{manifest.counts.get('quarantined', 0):,}"),
    ]
    charts = _prediction_charts(figures, above, count, score)
    summary = (
        f"The teacher's predictions on {count:,} images: {total:,} are stored, "
        f"{int(above.sum()):,} of them with a score above {score:g}."
    )
    galleries = prediction_galleries(folder, figures, images, limit, seed, score)
    tables = [counted.prediction_class_table(figures, score), *_set_aside(folder)]
    _write(
        out,
        manifest,
        "Pseudo-labels",
        summary,
        tables,
        galleries,
        Extras(facts=facts, figures=charts),
    )


def _prediction_charts(
    figures: counted.InstanceFigures, above: np.ndarray, count: int, score: float
) -> list[Figure]:
    """Scores of all predictions, and of those above a score the instances per image and class."""
    note = f"Instances with a score above {score:g}."
    per_image = counted.per_image_chart(figures, above, count)
    per_class = counted.per_class_chart(figures, above)
    per_image.note = per_class.note = note
    return [counted.score_chart(figures), per_image, per_class]


def _training_report(folder: Path, manifest: Manifest, out: Path, title: str) -> None:
    log = read_log(folder / LOG)
    last = max((i for values in log.values.values() for i in values), default=0)
    table = ap_table(manifest.metrics, "Validation")
    if not table.rows:
        logged = {key: pair[1] for key in log.values if (pair := last_value(log, key))}
        table = ap_table(logged, "Validation")
    facts = [("iterations", f"{last:,}")]
    if loss := last_value(log, "loss"):
        facts.append(("last loss", f"{loss[1]:.3f}"))
    _write(
        out,
        manifest,
        title,
        f"The log of {last:,} iterations and the validation along them.{_choice(manifest)}",
        [table] if table.rows else [],
        [],
        Extras(facts=facts, figures=training_figures(log)),
    )


def _choice(manifest: Manifest) -> str:
    """Which weights were kept and what that means for the figures; nothing for the last ones."""
    kept = manifest.metrics.get("kept")
    if not isinstance(kept, Mapping):
        return ""
    return (
        f" The weights of iteration {kept['iteration']:,} were kept, {kept['measure']} "
        f"{100 * kept['value']:.1f}. Validation that chooses cannot judge."
    )


def _write(
    out: Path,
    manifest: Manifest,
    title: str,
    summary: str,
    tables: Sequence[Table],
    galleries: Sequence[Gallery],
    extras: Extras,
) -> None:
    """Write the page with the artifact's name at its end."""
    extras.footer = (
        f"Artifact {manifest.stage} {manifest.fingerprint}, made {manifest.created}, "
        f"format version {manifest.format_version}."
    )
    write_page(out, title, summary, tables, galleries, extras)


def _image_count(manifest: Manifest, figures: counted.InstanceFigures) -> int:
    """Images that the stage worked on: the manifest's count, which includes those without rows."""
    return max(manifest.counts.get("images", 0), len(set(figures.image_id.tolist())))


def _label_score(manifest: Manifest) -> float:
    """The score from which the run takes predictions as labels, where its manifest has it."""
    for settings in (manifest.config.get("pseudo_label"), manifest.config):
        if isinstance(settings, Mapping) and isinstance(settings.get("score"), (int, float)):
            return float(settings["score"])
    return DEFAULT_SCORE


def _set_aside(folder: Path) -> list[Table]:
    """A table of the images that were set aside, at most 20; none where there are none."""
    data = read_table(folder, "quarantine", ["file_name", "error", "attempts"])
    if not data.num_rows:
        return []
    rows: list[list[Cell]] = [
        [row["file_name"], row["error"], row["attempts"]] for row in data.slice(0, 20).to_pylist()
    ]
    note = f"The first 20 of {data.num_rows:,}." if data.num_rows > 20 else ""
    return [Table("Images set aside", ["image", "error", "attempts"], rows, note)]
