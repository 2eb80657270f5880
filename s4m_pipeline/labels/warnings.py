"""Checks of pseudo-labels before a student spends days on them.

The number of pseudo-instances an image, in all and class by class, is compared with the labelled
set's, and a warning names those that are almost none or far off. The shares of refined, kept and
dropped predictions are reported as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.artifacts.manifest import read_manifest
from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.errors import S4MError
from s4m_pipeline.labels.choose import labelled_counts
from s4m_pipeline.labels.none_left import no_label_message

FAR = 4.0
"""A rate that is this many times larger or smaller than the labelled one is far off."""
NEAR_ZERO = 0.05
"""A rate below this share of the labelled one is near zero."""
ENOUGH = 5.0
"""Fewer labelled or expected pseudo-instances prove nothing about a class."""

IN_A_LINE = 10
"""Classes in one line of the log."""


@dataclass(frozen=True, slots=True)
class ClassRate:
    """How many instances a class has.

    Attributes:
        name: The class, or "all classes".
        labelled: Number of labelled instances.
        pseudo: Number of pseudo-instances.
        labelled_rate: Labelled instances an image.
        pseudo_rate: Pseudo-instances an image.
    """

    name: str
    labelled: int
    pseudo: int
    labelled_rate: float
    pseudo_rate: float

    @property
    def ratio(self) -> float | None:
        """Pseudo-label rate over labelled rate; None where the class is not labelled."""
        return self.pseudo_rate / self.labelled_rate if self.labelled_rate else None

    def fault(self, images: int) -> str:
        """What is wrong with the rate over a number of images; empty where nothing is.

        Few labelled instances do not prove that a rate is too high, and few expected ones do not
        prove that it is too low.
        """
        expected = self.labelled_rate * images
        if self.ratio is None:
            return "not labelled" if self.pseudo >= ENOUGH else ""
        if self.ratio < NEAR_ZERO and expected >= ENOUGH:
            return "almost none"
        if self.ratio * FAR < 1 and expected >= ENOUGH:
            return "far too few"
        if self.ratio > FAR and self.labelled >= ENOUGH:
            return "far too many"
        return ""


@dataclass(frozen=True, slots=True)
class LabelRates:
    """Rates of a refine artifact's labels.

    Attributes:
        total: Over all classes.
        classes: Class by class, in label order.
        images: Number of images that the model labelled.
        shares: Shares of all predictions that are refined, kept and dropped.
    """

    total: ClassRate
    classes: list[ClassRate]
    images: int
    shares: dict[str, float]

    def faults(self) -> list[tuple[ClassRate, str]]:
        """The rates that are near zero or far off, with what is wrong in words."""
        rates = [self.total, *self.classes] if len(self.classes) > 1 else [self.total]
        return [(rate, fault) for rate in rates if (fault := rate.fault(self.images))]


def rates_of(
    pseudo: Mapping[int, int],
    images: int,
    labelled: Mapping[int, int],
    labelled_images: int,
    names: Mapping[int, str],
    decisions: Mapping[str, int],
) -> LabelRates:
    """Make rates from counts.

    Args:
        pseudo: Number of pseudo-instances by category id; 0 where a category is missing.
        images: Number of images with pseudo-labels.
        labelled: Number of labelled instances by category id.
        labelled_images: Number of labelled images.
        names: Class names by category id, in label order.
        decisions: Number of predictions by decision.
    """

    def rate(name: str, pseudo: int, labelled: int) -> ClassRate:
        rates = labelled / max(labelled_images, 1), pseudo / max(images, 1)
        return ClassRate(name, labelled, pseudo, *rates)

    classes = [rate(name, pseudo.get(key, 0), labelled.get(key, 0)) for key, name in names.items()]
    total = rate("all classes", sum(pseudo.values()), sum(labelled.values()))
    predictions = max(sum(decisions.values()), 1)
    shares = {key.value: decisions.get(key, 0) / predictions for key in Decision}
    return LabelRates(total, classes, images, shares)


def label_rates(run: Run, refined: Path) -> LabelRates:
    """Rates of a refine artifact's labels, with those of the run's labelled images."""
    table = read_table(refined, "refined", ["category_id", "decision"])
    pseudo: dict[int, int] = {}
    decisions: dict[str, int] = {}
    columns = (table[name].to_pylist() for name in ("category_id", "decision"))
    for key, decision in zip(*columns, strict=True):
        decisions[decision] = decisions.get(decision, 0) + 1
        if decision != Decision.DROPPED:
            pseudo[key] = pseudo.get(key, 0) + 1
    labelled = run.images.labelled
    return rates_of(
        pseudo,
        read_manifest(refined).counts["images"],
        labelled_counts(run),
        len(labelled.images),
        {category.id: category.name for category in labelled.categories},
        decisions,
    )


def messages(rates: LabelRates) -> list[str]:
    """A warning for each rate that is near zero or far off."""
    return [
        f"{rate.name}: {fault}, {rate.pseudo_rate:.2f} pseudo-instances an image against "
        f"{rate.labelled_rate:.2f} labelled"
        for rate, fault in rates.faults()
    ]


def check_labels(run: Run, refined: Path, stage: str, round: int = 1, refresh: int = 0) -> None:
    """Say what the labels are like before they are learned from.

    Args:
        run: The run.
        refined: The refine artifact.
        stage: Name of the stage that asks, for the messages.
        round: The round that the labels belong to.
        refresh: The refresh in it; 0 for the round's first labels.

    Raises:
        S4MError: There is no pseudo-label at all.
    """
    rates = label_rates(run, refined)
    if not rates.total.pseudo:
        predictions = run.require(stage_named("pseudo-label", round, refresh=refresh))
        raise S4MError(no_label_message(run, refined, predictions, round, refresh))
    shares = ", ".join(f"{100 * share:.0f} % {key}" for key, share in rates.shares.items())
    run.reporter.say(
        f"{stage}: {rates.total.pseudo_rate:.2f} pseudo-instances an image, "
        f"{rates.total.labelled_rate:.2f} labelled ones; of all predictions {shares}"
    )
    classes = [rate for rate in rates.classes if rate.labelled or rate.pseudo]
    parts = [f"{r.name} {r.pseudo_rate:.2f}/{r.labelled_rate:.2f}" for r in classes]
    for start in range(0, len(parts), IN_A_LINE):
        line = ", ".join(parts[start : start + IN_A_LINE])
        run.reporter.say(f"{stage}: pseudo/labelled an image: {line}")
    for message in messages(rates):
        run.reporter.warn(message)
    if rates.faults():
        run.reporter.warn(_what_to_do(run, round, refresh))


def _what_to_do(run: Run, round: int, refresh: int) -> str:
    """How to look at labels and to have others: only a run's first ones come of thresholds alone.

    Later ones are of models that learned from the first.
    """
    of = (f"--round {round} " if round > 1 else "") + (f"--refresh {refresh} " if refresh else "")
    look = f"look at the labels with 's4m report {of}{run.called_with}'"
    rate = f"{run.called_with} pseudo_label.thresholds=rate"
    if not of:
        return f"{look}; 's4m rethreshold {rate}' follows the labelled rate in seconds"
    again = run.called_as or (f"run --rounds {round}" if round > 1 else "run")
    return (
        f"{look}; 's4m {again} {rate}' follows the labelled rate, with students that learn anew "
        "from the first labels on"
    )


def rate_rows(rates: LabelRates) -> Sequence[Sequence[Any]]:
    """Rows of the page's table: class, instances, rates, ratio, what is wrong."""
    return [
        [
            rate.name,
            rate.labelled,
            rate.pseudo,
            rate.labelled_rate,
            rate.pseudo_rate,
            rate.ratio,
            rate.fault(rates.images),
        ]
        for rate in (rates.total, *rates.classes)
    ]
