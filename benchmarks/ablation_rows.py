"""The rows of the ablation, in the order of what they decide."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        name: Its name on the command line and in the table.
        settings: Overrides on top of the base; ``{half}``, ``{double}``, ``{triple}`` and
            ``{quadruple}`` are so many times a training's iterations.
        of: Whose AP it reports, ``student`` or ``teacher``.
        all_labels: Train on all images with their true masks.
        rounds: Rounds to go; each student labels for the next.
    """

    name: str
    settings: tuple[str, ...] = ()
    of: str = "student"
    all_labels: bool = False
    rounds: int = 1


LONGER = ("student.ignore_score=0.3", "student.iterations={double}")
LONGEST = ("student.ignore_score=0.3", "student.iterations={quadruple}")
REFRESH = ("student.refresh={half}",)
RATE = "pseudo_label.thresholds=rate"
VIEWS = ("pseudo_label.views=[image, flip, 1.35, flip 1.35]", "pseudo_label.score=0.5")
TEACHERS = ("pseudo_label.teachers=[cross-fit]",)
S4M_RULE = ("refine.candidate=argmax-iou", "refine.min_agreement=0")

ROWS = (
    Row("supervised", of="teacher"),
    Row("supervised, twice as long", ("teacher.iterations={double}",), of="teacher"),
    Row("plain pseudo-labels", ("refine.policy=none",)),
    Row("refinement, ignore regions", ("student.ignore_score=0.3",)),
    Row("refinement"),
    Row("plain, ignore regions", ("refine.policy=none", "student.ignore_score=0.3")),
    Row("all labels", of="teacher", all_labels=True),
    Row("all labels, twice as long", ("teacher.iterations={double}",), "teacher", True),
    Row("supervised, three times as long", ("teacher.iterations={triple}",), of="teacher"),
    Row("two rounds", ("student.ignore_score=0.3",), rounds=2),
    Row("student twice as long", LONGER),
    Row("longer student, refresh", (*LONGER, *REFRESH)),
    Row("longer student, refresh by rate", (*LONGER, *REFRESH, RATE)),
    Row("longer student, views", (*LONGER, *VIEWS)),
    Row("longer student, teachers", (*LONGER, *TEACHERS)),
    Row("longer student, views and teachers", (*LONGER, *VIEWS, *TEACHERS)),
    Row("longer student, views and refresh", (*LONGER, *VIEWS, *REFRESH)),
    Row("student four times as long", (*LONGEST,)),
    Row("four times as long, refresh", (*LONGEST, "student.refresh={double}")),
    Row("all labels, four times as long", ("teacher.iterations={quadruple}",), "teacher", True),
    Row("S4M's rule", S4M_RULE),
    Row("no gate", ("refine.min_agreement=0",)),
    Row("closest candidate", ("refine.candidate=closest",)),
    Row("single output", ("refine.candidate=single",)),
    Row("box", ("refine.policy=box",)),
    Row("box+mask", ("refine.policy=box+mask",)),
    Row("box+points", ("refine.policy=box+points",)),
    Row("calibrated", ("refine.policy=auto",)),
    Row("paste, static", ("student.paste=static",)),
    Row("paste, dynamic", ("student.paste=dynamic",)),
    Row("class distributions", ("student.class_weight=1.0",)),
    Row("structure, teacher", ("teacher.structure_weight=1.0",)),
    Row("structure, student", ("student.structure_weight=1.0",)),
    Row(
        "structure, both",
        ("teacher.structure_weight=1.0", "student.structure_weight=1.0"),
    ),
)
