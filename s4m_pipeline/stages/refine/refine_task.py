"""What a worker of ``refine`` needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.refinement.policies import ConflictRules, PolicyChoice
from s4m_pipeline.stages.segmenter_settings import SegmenterSettings
from s4m_pipeline.stages.structure_settings import TargetSettings


@dataclass(frozen=True, slots=True)
class RefineTask:
    """What a worker refines, and how.

    Attributes:
        predictions: Folder of the artifact that holds the teacher's predictions.
        records: The images by id.
        segmenter: What the segmenter is built with; None where none is needed.
        policy: How instances are refined; None keeps every teacher's mask.
        rules: How conflicts between an image's masks are settled.
        scores: The score that a label must be above, by category id.
        min_score: The score from which predictions are prompted even if they become no label.
        min_area: The least sum of a label's mask probabilities, in cells.
        targets: How structural targets are made; None for none.
        stored_masks: Folder of an earlier refinement that has the masks; None to prompt the
            segmenter for them.
    """

    predictions: Path
    records: Mapping[int, ImageRecord]
    segmenter: SegmenterSettings | None
    policy: PolicyChoice | None
    rules: ConflictRules
    scores: Mapping[int, float]
    min_score: float
    min_area: float
    targets: TargetSettings | None
    stored_masks: Path | None = None

    @property
    def views_a_pass(self) -> int:
        """Views in an encoder pass at most: as many as images in a batch."""
        return self.segmenter.batch_size if self.segmenter else 1

    def score_of(self, category_id: int) -> float:
        """The score that a label of a class must be above.

        Raises:
            ArtifactError: The predictions are of a class that the run does not have.
        """
        if category_id not in self.scores:
            raise ArtifactError(
                f"{self.predictions}: has predictions of category {category_id}, which the run's "
                "labelled images do not have"
            )
        return self.scores[category_id]
