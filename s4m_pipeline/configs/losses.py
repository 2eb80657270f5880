"""The losses of a training beside the network's own: their weights and what belongs to them.

A new loss of the student is a setting in ``config.StudentSection``, a field of the same name here,
and the lines in ``models/training_wrapper.py`` that compute it. All that lies between hands a
`StudentLosses` on as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from s4m_pipeline.config import TrainingSection
from s4m_pipeline.configs import names_module
from s4m_pipeline.configs.limits import MASK2FORMER_HEAD

RULE = 2
"""Number of the rule by which Mask2Former's losses are computed; every change of it raises it."""
IGNORE_SCORE = 0.3
"""What ``student.ignore_score: auto`` stands for where the model is a Mask2Former."""
OFF = {"class_weight": "0", "quality_weight": "false", "ignore_score": "null"}
"""Settings that only a Mask2Former head carries out, with the value that switches each off."""


@dataclass(frozen=True, slots=True)
class StudentLosses:
    """Weights and settings of a training's losses. Of these, a teacher has the structural loss.

    Attributes:
        unlabelled_weight: Weight of the loss on pseudo-labelled images.
        structure_weight: Weight of structural distillation; 0 leaves it out.
        class_weight: Weight of class distillation on pseudo-labelled images; 0 leaves it out.
        class_temperature: Temperature of class distillation.
        quality_weight: Whether each pseudo-label's losses are multiplied by its quality, the
            teacher's score times the agreement of both masks.
        ignore_score: Predictions of at least this score that did not become labels are ignore
            regions: nothing costs anything there. None for no ignore regions.
    """

    unlabelled_weight: float = 2.0
    structure_weight: float = 0.0
    class_weight: float = 0.0
    class_temperature: float = 1.0
    quality_weight: bool = False
    ignore_score: float | None = None

    @classmethod
    def of(cls, section: TrainingSection) -> StudentLosses:
        """Take the losses' settings from a section of the run's file, each by its name.

        Args:
            section: The student's section, or the teacher's, which has fewer of them.
        """
        known = type(section).model_fields
        settings: dict[str, Any] = {
            field.name: getattr(section, field.name) for field in fields(cls) if field.name in known
        }
        if settings.get("ignore_score") == "auto":
            is_mask2former = names_module(section.model, MASK2FORMER_HEAD)
            settings["ignore_score"] = IGNORE_SCORE if is_mask2former else None
        return cls(**settings)

    @property
    def ignore_regions(self) -> bool:
        """Whether there are regions in which nothing costs anything."""
        return self.ignore_score is not None

    def for_mask2former(self) -> list[str]:
        """Names of the settings in use that only a Mask2Former head carries out."""
        in_use = {
            "class_weight": self.class_weight > 0,
            "quality_weight": self.quality_weight,
            "ignore_score": self.ignore_regions,
        }
        return [name for name in OFF if in_use[name]]
