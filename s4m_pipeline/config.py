"""A run's settings: one validated model.

Every setting but the paths has a default. Settings that only change speed or place (``device``,
``workers``, ``batch_size`` of an inference stage) are marked ``PLACE`` and do not count towards an
artifact's fingerprint.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from s4m_pipeline.config_data import DataSection
from s4m_pipeline.config_prompts import prompt_name
from s4m_pipeline.config_section import PLACE, Section
from s4m_pipeline.config_views import IMAGE, view_words

MEGABYTE = 1 << 20
RANDOM = "random"
"""Given instead of a file of weights: start from random ones."""
CROSS_FIT, ROUNDS = "cross-fit", "rounds"
"""Given instead of a checkpoint in ``pseudo_label.teachers``: models of the run itself."""


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0, lt=2**31)]
Weight = Annotated[float, Field(ge=0)]


class SegmenterSection(Section):
    """The promptable segmenter.

    ``checkpoint`` is a file (SAM 2), a folder (MobileSAM), a Hugging Face id, or none (demo).
    ``precision`` is the image encoder's: ``auto`` takes bfloat16 on a GPU and float32 elsewhere.
    ``compile`` compiles the encoder. Both are compared with float32 on the set's first images and
    given up, with a warning, where the mean IoU of the masks is below 0.995. So they do not count
    towards a fingerprint. ``batch_size`` is 16 on a GPU and 1 elsewhere unless it is set.
    """

    name: str = "sam2.1_hiera_large"
    checkpoint: str | None = None
    image_size: Positive | None = None
    batch_size: Positive | None = Field(None, json_schema_extra=PLACE)
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", json_schema_extra=PLACE)
    compile: bool = Field(False, json_schema_extra=PLACE)


class StructureSection(Section):
    """Structural targets (docs/method.md, "Structural distillation")."""

    points: Positive = 256
    grid: Positive = 64


class TrainingSection(Section):
    """What teacher and student share.

    ``weights`` is a file to start from (ImageNet's, COCO's, another run's) or ``random``. Without
    it, the model config's own weights are taken. ``keep`` says which weights a training leaves:
    the ``last``, or the ``best`` of its validations, which then are inputs. ``precision`` ``auto``
    takes bfloat16 on a GPU that has it and float32 elsewhere. As ``auto`` follows the device, it
    does not count towards a fingerprint; a precision that is set does.
    """

    model: str = "mask2former_r50"
    weights: str | None = None
    iterations: Positive = 90000
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    structure_weight: Weight = 1.0
    validation_interval: Positive = Field(5000, json_schema_extra=PLACE)
    checkpoint_interval: Positive = Field(1000, json_schema_extra=PLACE)
    keep: Literal["best", "last"] = "last"
    workers: Annotated[int, Field(ge=0)] = Field(2, json_schema_extra=PLACE)


class TeacherSection(TrainingSection):
    """Teacher training, of ``batch_size`` labelled images a step."""

    batch_size: Positive = 4


class PseudoLabelSection(Section):
    """What is kept of the teacher's predictions, and what of it becomes a label.

    ``min_score`` and ``points`` shape the stored predictions; ``score`` and ``min_area`` (the sum
    of mask probabilities, in cells of the soft mask) choose among them when they are refined.
    ``thresholds`` says how a class's score is set: ``fixed`` (``score`` for all), ``rate`` (so
    that pseudo-instances an image follow the labelled set's rate), ``precision`` (the lowest
    score that reaches ``precision`` on the labelled images, predicted by teachers that did not
    see them) or ``auto`` (for all classes the score with the best F1 on these predictions).

    Each of ``views`` is a pass of the network over the picture: ``image`` is the picture as it is,
    ``flip`` mirrors it, a number is a scale, ``flip 1.35`` both. ``teachers`` label beside the
    round's own: checkpoints or folders of trainings, ``cross-fit`` for the calibration's teachers,
    ``rounds`` for the models of all rounds before. What all of them see becomes one table.
    """

    min_score: Share = 0.05
    score: Share = 0.7
    thresholds: Literal["fixed", "rate", "precision", "auto"] = "fixed"
    precision: Share = 0.8
    min_area: Weight = 5.0
    points: Positive = 16
    views: Annotated[list[str], view_words()] = Field(default_factory=lambda: [IMAGE])
    teachers: list[str] = Field(default_factory=list)
    batch_size: Positive = Field(4, json_schema_extra=PLACE)

    @property
    def judged(self) -> bool:
        """Whether thresholds are measured on predictions of the labelled images."""
        return self.thresholds in ("precision", "auto")

    @field_validator("teachers")
    @classmethod
    def _named_once(cls, value: list[str]) -> list[str]:
        for place, name in enumerate(value):
            if not name.strip():
                raise ValueError("names nothing")
            if name in value[:place]:
                raise ValueError(f"lists '{name}' twice")
        return value


class RefineSection(Section):
    """How the segmenter is prompted and which mask is taken.

    Policy ``none`` keeps every teacher's mask and needs no segmenter: plain pseudo-labels.
    ``auto`` takes what ``s4m calibrate`` measured to be best, and keeps the teacher's
    masks of the classes and sizes where that made them worse.

    ``negative_points`` are drawn from neighbouring instances. ``candidate`` ``fuse`` takes the
    weighted mean of the teacher's probability (``fuse_weight``) and the segmenter's. The
    segmenter's is the mean over the prompts of ``policy`` and ``fuse_policies``, with
    ``fuse_prompt_weights``, one each. The mask is where that is above ``fuse_threshold``.
    ``fuse_space`` says whether the means are of probabilities or of logits. ``second_pass``
    prompts again with the first mask.

    A mask is not taken when its IoU with the teacher's is below ``min_agreement``, or its area is
    more than ``max_area_ratio`` times larger or smaller: then ``gate`` keeps the teacher's mask or
    drops the instance. Among an image's final masks of a class, the one with the lower score is a
    duplicate when their IoU is above ``duplicate_iou`` or more than ``duplicate_containment`` of
    the smaller one lies in the larger; 1 switches a rule off. ``overlaps`` ``score`` gives pixels
    that several masks claim to the highest score, and drops a mask of which less than
    ``min_agreement`` is left. Predictions from ``min_score`` up are refined even if they become no
    label, so that ``s4m rethreshold`` can lower a threshold that far without the segmenter.

    ``view`` says what the segmenter looks at: the whole ``image``, overlapping ``tiles``,
    ``windows`` about the instances (neighbours share one), or with ``auto`` windows about those
    alone that have fewer than ``view_cells`` cells along a side of the segmenter's mask. A closer
    view holds ``view_context`` times an instance's box, and there are at most ``view_passes``
    encoder passes an image.
    """

    policy: Annotated[str, prompt_name("none", "auto")] = "points"
    points: Positive = 3
    negative_points: Annotated[int, Field(ge=0)] = 0
    candidate: Literal["argmax-iou", "single", "closest", "fuse"] = "fuse"
    min_score: Share = 0.3
    fuse_policies: list[Annotated[str, prompt_name()]] = Field(default_factory=list)
    fuse_prompt_weights: list[Weight] = Field(default_factory=list)
    fuse_weight: Share = 0.5
    fuse_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    fuse_space: Literal["probabilities", "logits"] = "probabilities"
    second_pass: bool = False
    min_agreement: Share = 0.3
    max_area_ratio: Annotated[float, Field(gt=1)] | None = None
    gate: Literal["keep", "drop"] = "keep"
    view: Literal["image", "tiles", "windows", "auto"] = "image"
    view_cells: Positive = 16
    view_context: Annotated[float, Field(ge=1)] = 1.5
    view_passes: Positive = 6
    overlaps: Literal["leave", "score"] = "leave"
    duplicate_iou: Share = 1.0
    duplicate_containment: Share = 1.0


class CalibrationSection(Section):
    """How refinement is measured on the labelled images (``s4m calibrate``).

    ``folds`` teachers are trained, each for ``iterations`` (None takes the teacher's) and each
    without the part of the labelled images that it then predicts.
    """

    folds: Annotated[int, Field(ge=2)] = 2
    iterations: Positive | None = None


class StudentSection(TrainingSection):
    """Student training, of ``labelled_batch`` and ``unlabelled_batch`` images a step.

    A labelled image comes sqrt(``repeat_threshold`` / f) times as often as once a pass, f the share
    of labelled images that have its rarest class, and never less; 0 draws all equally often.
    ``class_weight`` and ``class_temperature`` belong to the distillation of class distributions.
    ``paste`` trades refined instances between unlabelled images (docs/method.md, "Augmentation
    with refined pseudo-labels"): ``static`` in place, ``dynamic`` rescaled and moved. Only masks
    of at least ``paste_min_area``, a share of the model config's crop, move. ``quality_weight``
    weights each pseudo-label's loss by score times agreement, divided by the labels' mean of it.
    ``ignore_score`` makes ignore regions, where nothing is penalised, of the predictions from this
    score up that became no label and of those that the gate dropped; ``auto`` is 0.3 for a model
    whose config names this package's Mask2Former head, and None (no regions) for others.
    ``start`` says whose weights the student starts from, the ``teacher``'s or the ``model``
    config's; ``auto`` takes the teacher's where both have the same model and the student names no
    weights of its own.
    From ``refresh`` above 0 on, the averaged weights label the unlabelled images anew each so many
    iterations, and the same training goes on with these labels; first at iteration ``burn_in``
    (None takes ``refresh``).
    """

    labelled_batch: Positive = 8
    unlabelled_batch: Positive = 8
    repeat_threshold: Weight = 0.0
    structure_weight: Weight = 0.0
    class_weight: Weight = 0.0
    class_temperature: Annotated[float, Field(gt=0)] = 1.0
    paste: Literal["off", "static", "dynamic"] = "off"
    paste_min_area: Share = 0.00286
    quality_weight: bool = False
    ignore_score: Share | Literal["auto"] | None = "auto"
    unlabelled_weight: Weight = 2.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.9996
    start: Literal["auto", "teacher", "model"] = "auto"
    refresh: Annotated[int, Field(ge=0, lt=2**31)] = 0
    burn_in: Positive | None = None

    @property
    def refreshes(self) -> list[int]:
        """The iterations at which labels are made anew, all before the training's end."""
        first = self.burn_in or self.refresh
        return list(range(first, self.iterations, self.refresh)) if self.refresh else []


class ExecutionSection(Section):
    """Where the inference stages run.

    ``engine`` is ``local``: this machine's processes, ``workers`` of them. ``decoded_mb`` bounds
    the memory of decoded pictures that wait, of all workers together.
    """

    engine: str = Field("local", json_schema_extra=PLACE)
    workers: Positive = Field(1, json_schema_extra=PLACE)
    decoded_mb: Positive = Field(1024, json_schema_extra=PLACE)


class RunConfig(Section):
    """A whole run."""

    work_dir: Path
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: str = Field("auto", json_schema_extra=PLACE)
    data: DataSection
    segmenter: SegmenterSection = SegmenterSection()
    structure: StructureSection = StructureSection()
    teacher: TeacherSection = TeacherSection()
    pseudo_label: PseudoLabelSection = PseudoLabelSection()
    refine: RefineSection = RefineSection()
    calibration: CalibrationSection = CalibrationSection()
    student: StudentSection = StudentSection()
    execution: ExecutionSection = ExecutionSection()

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", value) is None:
            raise ValueError("expected auto, cpu, cuda, or one GPU by its number, such as cuda:1")
        return value

    @model_validator(mode="after")
    def _enough_points(self) -> RunConfig:
        if self.refine.points > self.pseudo_label.points:
            raise ValueError(
                f"refine.points is {self.refine.points}, but pseudo_label.points stores only "
                f"{self.pseudo_label.points} an instance"
            )
        if self.student.start == "teacher" and self.student.weights is not None:
            raise ValueError("student.start is 'teacher' and student.weights is set: choose one")
        if self.pseudo_label.min_score > self.pseudo_label.score:
            raise ValueError("pseudo_label.min_score is above pseudo_label.score")
        return self


def starts_from_teacher(config: RunConfig) -> bool:
    """Whether the student's training starts from the teacher's weights."""
    student = config.student
    same = student.model == config.teacher.model and student.weights is None
    return student.start == "teacher" or (student.start == "auto" and same)
