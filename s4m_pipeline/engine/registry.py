"""The one list of stages, a row each. A stage's code is imported when the stage is asked for.

Commands, their help, ``run``, ``status``, ``report`` and the message after Ctrl-C all follow this
list, in its order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s4m_pipeline.errors import UsageError
from s4m_pipeline.late import load

if TYPE_CHECKING:
    from s4m_pipeline.engine.stage import Stage


@dataclass(frozen=True, slots=True)
class StageRow:
    """What is known of a stage without importing it.

    Attributes:
        name: Its name: the folder of its artifacts, and its command where it has one.
        where: Its class, as ``package.module:class``.
        help: Its command's help; empty for a stage that other commands make.
        example: What follows the command in the example of its help.
        resumes: Whether its command resumes where it was interrupted.
        page: What writes the page of ``report`` about it, as ``package.module:function``: it takes
            the run, the artifact's folder, the file to write and the most images to show. Empty
            for a stage without a page.
        refreshed: Whether a refresh of a round has one of its own, which ``--refresh`` names.
        rule: The reason to give where an artifact has another number in its setting ``rule``.
    """

    name: str
    where: str
    help: str = ""
    example: str = "-c run.yaml"
    resumes: bool = True
    page: str = ""
    refreshed: bool = False
    rule: str = "this version of s4m counts differently"


LOSSES = "this version of s4m computes the losses of a training differently"

_ROWS = (
    StageRow(
        "structure",
        "s4m_pipeline.stages.structure:Structure",
        "Make structural targets of the labelled images.",
    ),
    StageRow(
        "train-teacher",
        "s4m_pipeline.stages.train_teacher:TrainTeacher",
        "Train the teacher on the labelled images; resumes from its last checkpoint.",
        "-c run.yaml teacher.iterations=20000",
        rule=LOSSES,
        page="s4m_pipeline.stages.training_page:write_training_page",
    ),
    StageRow("cross-fit", "s4m_pipeline.stages.calibration.cross_fit:CrossFit", rule=LOSSES),
    StageRow(
        "calibrate",
        "s4m_pipeline.stages.calibration.calibrate:Calibrate",
        "Measure on the labelled images which way of refining makes masks better.",
        rule="this version of s4m chooses differently",
    ),
    StageRow(
        "pseudo-label",
        "s4m_pipeline.stages.pseudo_label:PseudoLabel",
        "Let the teacher predict the unlabelled images; all above a low score is kept.",
        "-c run.yaml --dry-run",
        page="s4m_pipeline.labels.page:write_prediction_page",
        refreshed=True,
    ),
    StageRow(
        "refine",
        "s4m_pipeline.stages.refine.stage:Refine",
        "Let the segmenter redraw the teacher's masks, one encoder pass an image.",
        "-c run.yaml refine.policy=box",
        page="s4m_pipeline.labels.page:write_label_page",
        refreshed=True,
    ),
    StageRow(
        "train-student",
        "s4m_pipeline.stages.train_student:TrainStudent",
        "Train the student on labelled images and refined labels.",
        "-c run.yaml student.iterations=20000",
        refreshed=True,
        rule=LOSSES,
        page="s4m_pipeline.stages.training_page:write_training_page",
    ),
    StageRow(
        "evaluate",
        "s4m_pipeline.stages.evaluate:Evaluate",
        "AP of a checkpoint, or of all of them, on an image set.",
        "-c run.yaml --compare",
        resumes=False,
    ),
    StageRow(
        "held-out",
        "s4m_pipeline.stages.calibration.held_out:HeldOut",
        "Measure the labels of the model that labels, on the validation images.",
        refreshed=True,
    ),
    StageRow(
        "compare-labels",
        "s4m_pipeline.stages.comparison.stage:CompareLabels",
        "Compare the labels of a refresh with those before, and decide whether they are taken.",
        "-c run.yaml --refresh 1",
        rule="this version of s4m compares differently",
        refreshed=True,
    ),
)

STAGES: dict[str, StageRow] = {row.name: row for row in _ROWS}
"""The rows by name, in the order in which ``run`` makes the stages."""


def stage_class(name: str) -> type[Stage]:
    """The class of a stage."""
    kind: type[Stage] = load(STAGES[name].where)
    return kind


def stage_named(name: str, round: int = 1, **fields: Any) -> Stage:
    """A stage of a round.

    Args:
        name: Its name in `STAGES`.
        round: From 1.
        **fields: Other fields of its class.
    """
    return stage_class(name)(round=round, **fields)


def stages_with_page() -> list[str]:
    """Names of the stages that ``report`` has a page about."""
    return [row.name for row in STAGES.values() if row.page]


def check_round(number: int) -> None:
    """Raise UsageError where a number is not a round's: rounds count from 1."""
    if number < 1:
        raise UsageError(f"there is no round {number}: rounds count from 1")
