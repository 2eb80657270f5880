"""Where not one prediction becomes a label: how many were lost to which setting, and what to do.

Reasons are counted by their codes. The advice is about the one that takes predictions last: those
that it took have passed all the others.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.manifest import read_manifest
from s4m_pipeline.artifacts.tables import table_rows
from s4m_pipeline.data.check.model_limits import misfits
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.labels.choose import labelled_counts
from s4m_pipeline.labels.rule import drop_cause, mask_cells
from s4m_pipeline.refinement.reasons import GATE, Reason
from s4m_pipeline.wording import counted

WITHOUT_PIXEL = "without_pixel"
"""In the counts of a manifest: predictions that are not stored because their masks are empty."""


@dataclass(slots=True)
class Losses:
    """What became of predictions of which none is a label.

    Attributes:
        images: Number of images that were predicted.
        without_pixel: Predictions that are not stored because their masks are empty.
        codes: How many were dropped for each `Reason`, by its value.
        scores: Scores of those dropped for their score.
        areas: Of those dropped for their area, the cells and the score.
    """

    images: int
    without_pixel: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    scores: list[float] = field(default_factory=list)
    areas: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Losses:
        """Begin with the counts of the predictions' manifest."""
        return cls(counts["images"], counts.get(WITHOUT_PIXEL, 0))

    def add(self, code: str, row: Mapping[str, Any]) -> None:
        """Count a row."""
        self.codes[code] += 1
        if code == Reason.SCORE.value:
            self.scores.append(row["score"])
        elif code == Reason.AREA.value:
            self.areas.append((mask_cells(row["soft_mask"]), row["score"]))


def warn_of_no_label(run: Run, predictions: Path, counts: Mapping[str, int], of: Stage) -> None:
    """Warn, once a run, where no prediction can become a label, before masks are refined.

    With thresholds other than fixed ones, those may be labels that are above the least threshold.

    Args:
        run: The run.
        predictions: The artifact's folder; its manifest may not be written yet.
        counts: The counts of its manifest.
        of: The stage that asks, for its round and refresh.
    """
    section = run.config.pseudo_label
    score = section.score if section.thresholds == "fixed" else run.config.refine.min_score
    losses = Losses.of(counts)
    for row in table_rows(predictions, "predictions", ["score", "soft_mask"]):
        cause = drop_cause(row, score, section.min_area)
        if cause is None:
            return
        losses.add(cause.code.value, row)
    why = explained(run, losses, round=of.round, refresh=of.refresh)
    run.reporter.warn_once(f"not one prediction becomes a label{_at(of)}: {why}")


def warn_of_no_label_left(run: Run, refined: Path, counts: Mapping[str, int], of: Stage) -> None:
    """Warn where the gate dropped all that could have become labels.

    Args:
        run: The run.
        refined: The artifact's folder; its manifest may not be written yet.
        counts: The counts of the manifest of the predictions that were refined.
        of: The stage that asks, for its round and refresh.
    """
    losses = _losses_of(refined, counts)
    if losses.codes.keys() - {Reason.SCORE.value, Reason.AREA.value}:
        why = explained(run, losses, round=of.round, refresh=of.refresh)
        run.reporter.warn_once(f"not one label is left{_at(of)}: {why}")


def _at(stage: Stage) -> str:
    """Where in a run labels belong that are not its first ones."""
    place = stage.title.removeprefix(stage.name)
    return f" at{place}" if place else ""


def no_label_message(
    run: Run, refined: Path, predictions: Path, round: int = 1, refresh: int = 0
) -> str:
    """Why a refine artifact has no label, and the command that makes some."""
    losses = _losses_of(refined, read_manifest(predictions).counts)
    why = explained(run, losses, is_refined=True, round=round, refresh=refresh)
    return f"there is not one pseudo-label to learn from: {why}"


def _losses_of(refined: Path, counts: Mapping[str, int]) -> Losses:
    losses = Losses.of(counts)
    for row in table_rows(refined, "refined", ["score", "soft_mask", "reason_code"]):
        losses.add(row["reason_code"], row)
    return losses


def explained(
    run: Run, losses: Losses, is_refined: bool = False, round: int = 1, refresh: int = 0
) -> str:
    """Two or three lines: the counts with their settings, and the commands to run.

    Args:
        run: The run.
        losses: What became of its predictions.
        is_refined: Whether they have been refined, so that thresholds can be moved in seconds.
        round: The round that they belong to.
        refresh: The refresh in it; no such labels are taken there, so that no command is needed.
    """
    found = f"of {counted(losses.codes.total(), 'prediction', 'predictions')}"
    on = f"{found} on {counted(losses.images, 'image', 'images')}"
    if not losses.codes:
        return _nothing_stored(run, losses, round, refresh)
    if refresh:
        return f"{on}, {', '.join(_parts(run, losses))}.\n{NOT_TAKEN}"
    last = next(code for code in _LAST_FIRST if code.value in losses.codes)
    advice, command, overrides = _advice(run, losses, last)
    lines = f"{on}, {', '.join(_parts(run, losses))}.\n{advice}: "
    if round > 1:
        return lines + _line(run, _again(run, round), overrides)
    if command == "rethreshold" and is_refined:
        then = f"\nThen go on with: {_line(run, run.called_as, overrides)}"
        return lines + _line(run, command, overrides) + (then if run.called_as else "")
    return lines + _line(run, run.called_as or "refine", overrides)


def _again(run: Run, round: int) -> str:
    """The command that makes a later round's labels."""
    return run.called_as or f"run --rounds {round}"


NOT_TAKEN = (
    "No refresh without labels is taken: the training goes on with those before. A later first "
    "refresh\n(student.burn_in) comes when the student has learned more."
)

_LAST_FIRST = (
    *(code for code in Reason if code not in (*GATE, Reason.AREA, Reason.SCORE)),
    Reason.EMPTY,
    Reason.AGREEMENT,
    Reason.AREA_RATIO,
    Reason.AREA,
    Reason.SCORE,
)
"""The reasons from the one that is asked last."""


def _parts(run: Run, losses: Losses) -> Iterator[str]:
    """What each reason took, with its setting."""
    section, refine = run.config.pseudo_label, run.config.refine
    texts = {
        Reason.AREA: f"have masks of no more than pseudo_label.min_area {section.min_area:g} cells",
        Reason.EMPTY: "have masks without a pixel from the segmenter (refine.gate is drop)",
        Reason.AGREEMENT: f"agree with the teacher's masks less than refine.min_agreement "
        f"{refine.min_agreement:g} (refine.gate is drop)",
        Reason.AREA_RATIO: f"differ in area from the teacher's masks by more than "
        f"refine.max_area_ratio {refine.max_area_ratio} (refine.gate is drop)",
    }
    if section.thresholds == "fixed":
        texts[Reason.SCORE] = f"score no more than pseudo_label.score {section.score:g}"
    else:
        texts[Reason.SCORE] = (
            f"score no more than their class's threshold (pseudo_label.thresholds is "
            f"{section.thresholds}, refine.min_score {refine.min_score:g})"
        )
    most = {
        Reason.AREA: f" (the largest {max((a for a, _ in losses.areas), default=0):.1f})",
        Reason.SCORE: f" (the highest {max(losses.scores, default=0):.3g})",
    }
    for code in reversed(_LAST_FIRST):
        if count := losses.codes.get(code.value, 0):
            text = texts.get(code, f"gave way to others of their image ({code.value})")
            yield f"{count:,} {text}{most.get(code, '')}"


def _advice(run: Run, losses: Losses, code: Reason) -> tuple[str, str, list[str]]:
    """What to do about a reason: in words, the command's name, and the settings for it."""
    section, floor = run.config.pseudo_label, run.config.refine.min_score
    if code not in (Reason.AREA, Reason.SCORE):
        return "Keep the teacher's masks instead", "refine", ["refine.gate=keep"]
    wanted = _wanted(run, losses.images)
    if code is Reason.AREA:
        ranked = sorted(losses.areas, reverse=True)[:wanted]
        command = "rethreshold" if all(score >= floor for _, score in ranked) else "refine"
        value = _below(ranked[-1][0])
        return "Lower pseudo_label.min_area", command, [f"pseudo_label.min_area={value:g}"]
    score = sorted(losses.scores, reverse=True)[:wanted][-1]
    value = max(_below(score), section.min_score)
    advice = "Train the teacher for longer, or lower pseudo_label.score"
    overrides = [f"pseudo_label.score={value:g}"]
    if section.thresholds != "fixed":
        if max(losses.scores) <= floor:
            advice = "Train the teacher for longer, or lower refine.min_score"
            return advice, "refine", [f"refine.min_score={value:g}"]
        overrides = ["pseudo_label.thresholds=fixed", *overrides]
    return advice, "rethreshold" if value >= floor else "refine", overrides


def _wanted(run: Run, images: int) -> int:
    """How many labels there would be at the labelled set's rate; at least one."""
    rate = sum(labelled_counts(run).values()) / max(len(run.images.labelled.images), 1)
    return max(1, round(rate * images))


def _below(value: float) -> float:
    """A number of two digits that a value is above."""
    if value <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round((math.ceil(value / step - 1e-9) - 1) * step, 12)


def _nothing_stored(run: Run, losses: Losses, round: int, refresh: int) -> str:
    least = f"pseudo_label.min_score {run.config.pseudo_label.min_score:g}"
    images = counted(losses.images, "image", "images")
    if losses.without_pixel:
        found = counted(losses.without_pixel, "prediction scores", "predictions score")
        why = f"{found} {least} or more on {images}, but all their masks are without a pixel."
    else:
        why = f"not one query of the model scores {least} or more on {images}."
    if refresh:
        return f"{why}\n{NOT_TAKEN}"
    name = "teacher" if round == 1 else "student"
    if losses.without_pixel:  # where the model cannot find them, no longer training mends it
        for misfit in misfits(run.images.labelled, getattr(run.config, name).model):
            return f"{why}\n{misfit.message}"
    command = (run.called_as or "train-teacher") if round == 1 else _again(run, round)
    longer = f"{name}.iterations={2 * getattr(run.config, name).iterations}"
    return f"{why}\nTrain the model for longer: {_line(run, command, [longer])}"


def _line(run: Run, command: str, overrides: Sequence[str]) -> str:
    """A command line as it can be pasted; overrides take the place of those of the same setting."""
    keys = {override.partition("=")[0] for override in overrides}
    given: Iterable[str] = shlex.split(run.called_with)
    words = [word for word in given if word.partition("=")[0] not in keys]
    return f"s4m {command} {shlex.join([*words, *overrides])}"
