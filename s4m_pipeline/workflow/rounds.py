"""``s4m run --rounds N``: each round's student labels for the next, as long as labels get better.

Round 1 is the plain run. Another round is worth its days only if the last student labels better
than its teacher did. That is measured on the validation images (stage ``held-out``), and the first
round without a gain is the last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from s4m_pipeline.artifacts.manifest import Manifest
from s4m_pipeline.config import RunConfig, starts_from_teacher
from s4m_pipeline.engine.perform import check_stage, perform
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.stages.refine.stage import wants_segmenter
from s4m_pipeline.stages.teachers import passes_of
from s4m_pipeline.wording import counted
from s4m_pipeline.workflow.pipeline import run_all, stages_of_round, stages_of_rounds


@dataclass(frozen=True, slots=True)
class RoundResult:
    """The result of a round.

    Attributes:
        number: From 1.
        before: Label quality, on the validation images, of the model that labelled; None without
            validation images.
        after: Label quality of the round's student.
        labels: Precision, recall and mean IoU of the student's labels.
        average_precision: Mask AP of the student on the validation images, 0 to 1.
        chosen: Whether its weights were chosen by these images, which then cannot judge.
    """

    number: int
    before: float | None = None
    after: float | None = None
    labels: tuple[float | None, float | None, float | None] = (None, None, None)
    average_precision: float | None = None
    chosen: bool = False

    @property
    def rose(self) -> bool:
        """Whether the student labels better than its teacher did; True where it is not known."""
        return self.before is None or self.after is None or self.after > self.before

    def __str__(self) -> str:
        if self.before is None or self.after is None:
            return f"round {self.number}: done (no data.validation to measure labels on)"
        named = zip(("precision", "recall", "mean IoU"), self.labels, strict=True)
        parts = [f"{name} {value:.3f}" for name, value in named if value is not None]
        if self.average_precision is not None:
            parts.append(f"mask AP {100 * self.average_precision:.1f}")
        note = "; validation that chooses weights cannot judge them" if self.chosen else ""
        return (
            f"round {self.number}: label quality on held-out labels {self.before:.3f} -> "
            f"{self.after:.3f} ({', '.join(parts)}){note}"
        )


def run_rounds(
    run: Run,
    rounds: int,
    force: bool = False,
    on_round: Callable[[RoundResult], None] = lambda result: None,
) -> dict[str, Manifest]:
    """Make up to ``rounds`` rounds, each with the student of the one before as its teacher.

    Args:
        run: The run.
        rounds: How many rounds at most; 1 is the plain run and measures nothing.
        force: Make new versions.
        on_round: Called with the result of each round.

    Returns:
        Manifests by the stages' titles.

    Raises:
        UsageError: Fewer than one round.
    """
    tell_start(run, rounds)
    for stage in stages_of_rounds(run.config, rounds):
        run.fingerprint(stage)
        check_stage(run, stage, force)
    manifests: dict[str, Manifest] = {}
    for number in range(1, rounds + 1):
        manifests |= run_all(run, stages_of_round(run.config, number), force)
        if rounds == 1:
            break
        result = _measure(run, number, manifests, force)
        on_round(result)
        if not result.rose:
            _report_end(run, result, rounds)
            break
    return manifests


def tell_start(run: Run, rounds: int) -> None:
    """Warn where later students learn nothing of the ones before but through their labels."""
    student = run.config.student
    if rounds > 1 and not starts_from_teacher(run.config):
        start = student.weights or f"the weights of model '{student.model}'"
        run.reporter.warn(
            f"the student of each round starts from {start}, not from the model that labelled for "
            "it: rounds do not add up to one longer training; set student.start to teacher, and no "
            "student.weights, for students that go on"
        )


def planned_stages(config: RunConfig, rounds: int) -> list[Stage]:
    """All stages of up to ``rounds`` rounds, with those that measure labels between them."""
    stages = stages_of_rounds(config, rounds)
    if rounds > 1 and config.data.validation is not None:
        stages += [stage_named("held-out", number) for number in range(1, rounds + 2)]
    return list({stage.title: stage for stage in stages}.values())


def refresh_costs(run: Run, rounds: int) -> str:
    """How many images refreshes label and refine again, in words; empty where there are none.

    Each refresh also measures its labels and the student on the validation images.
    """
    config = run.config
    refreshes = rounds * len(config.student.refreshes)
    if not refreshes:
        return ""
    images = len(run.images.unlabelled.images)
    found = counted(refreshes, "refresh", "refreshes")
    most, validation = passes_of(config, rounds), run.images.validation
    looks = "a pass of the student" if most == 1 else f"up to {most} passes of networks"
    if wants_segmenter(config):
        looks += " and of the segmenter" if most == 1 else " and one of the segmenter"
    each = "" if validation is None else f"; each measures on {len(validation.images):,} images"
    return (
        f"{found}, each {looks} over {images:,} images: "
        f"{refreshes * images:,} images more than without{each}"
    )


def _report_end(run: Run, result: RoundResult, rounds: int) -> None:
    """Say why a round is the last one, and whose labels were the best."""
    before, end = _model_before(result.number), f"stopping after round {result.number} of {rounds}"
    if result.after or result.before:
        run.reporter.say(f"labels no longer get better: {end}; those of the {before} were the best")
    else:
        run.reporter.warn(
            f"neither the {before} nor the round's student has a usable label: none above the "
            f"thresholds fits an instance of the validation images; {end}"
        )


def _model_before(number: int) -> str:
    """The name, as in ``evaluate --of``, of the model that labels in a round."""
    return {1: "teacher", 2: "student"}.get(number, f"student-{number - 1}")


def _measure(run: Run, number: int, manifests: dict[str, Manifest], force: bool) -> RoundResult:
    """Measure label quality before and after a round."""
    if run.config.data.validation is None:
        return RoundResult(number)
    first = stage_named("held-out", number)
    before = perform(run, first, force and number == 1 and first.title not in manifests)
    after = perform(run, stage_named("held-out", number + 1), force)
    labels = after.metrics["labels"]
    evaluation = manifests[stage_named("evaluate", number).title]
    return RoundResult(
        number,
        before.metrics["quality"],
        after.metrics["quality"],
        (labels["precision"], labels["recall"], labels["mean_iou"]),
        evaluation.metrics["segm"]["AP"],
        bool(evaluation.metrics.get("chosen_here")),
    )
