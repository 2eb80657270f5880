"""Which of an image's predictions are prompted, and what becomes of their masks.

A prediction is prompted when it is to become a label, or when its score reaches
``refine.min_score``: the mask of such a spare prediction lets a later threshold make a label of it
without the segmenter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from s4m_pipeline.artifacts.decision import Decision
from s4m_pipeline.artifacts.shards import Shard
from s4m_pipeline.artifacts.tables import read_rows
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.labels.rule import drop_cause
from s4m_pipeline.refinement.conflicts import settle_conflicts
from s4m_pipeline.refinement.instances import RefinedMask, TeacherInstance, kept_mask
from s4m_pipeline.refinement.reasons import Cause, Reason
from s4m_pipeline.stages.refine.refine_task import RefineTask
from s4m_pipeline.stages.refine.rows import Row, refined, segmented, teacher_instance, unrefined


@dataclass(slots=True)
class ImagePredictions:
    """An image's predictions: those that are prompted, and those that are dropped without a prompt.

    Attributes:
        record: The image.
        rows: Rows of ``predictions`` that are prompted, N of them.
        instances: The same predictions, as refinement takes them.
        causes: Why each of them becomes no label; None for a label.
        dropped: Finished rows of ``refined`` for the other predictions.
    """

    record: ImageRecord
    rows: list[Row] = field(default_factory=list)
    instances: list[TeacherInstance] = field(default_factory=list)
    causes: list[Cause | None] = field(default_factory=list)
    dropped: list[Row] = field(default_factory=list)


def read_images(task: RefineTask, shard: Shard) -> dict[int, ImagePredictions]:
    """A shard's predictions by image, in the shard's order."""
    images = {key: ImagePredictions(task.records[key]) for key in shard.image_ids}
    for row in read_rows(task.predictions, "predictions", shard.image_ids):
        image = images[row["image_id"]]
        cause = drop_cause(row, task.score_of(row["category_id"]), task.min_area)
        if cause and (task.policy is None or row["score"] < task.min_score):
            image.dropped.append(unrefined(row, cause))
        else:
            image.rows.append(row)
            # by min_score, not by thresholds, so that moving those changes nobody's mask
            likely = row["score"] >= task.min_score
            image.instances.append(teacher_instance(row, is_neighbour=likely))
            image.causes.append(cause)
    return images


def decided_rows(
    task: RefineTask, image: ImagePredictions, masks: Sequence[RefinedMask] | None = None
) -> dict[str, list[Row]]:
    """Make the rows of one image, with the conflicts between its labels settled.

    Args:
        task: Rules and policy.
        image: Its predictions.
        masks: The refined mask of each prompted prediction; None where nothing was prompted.

    Returns:
        Rows of ``refined`` and, unless the policy is none, of ``segmented``: the masks as they were
        before conflicts were settled, with those of spare predictions.
    """
    if masks is None:
        kept = Cause.of(Reason.POLICY_NONE if task.policy is None else Reason.NOT_HELPED)
        masks = [kept_mask(instance, kept) for instance in image.instances]
    rows = list(image.dropped)
    labels = [n for n, cause in enumerate(image.causes) if cause is None]
    if labels:
        height, width = image.rows[0]["height"], image.rows[0]["width"]
        instances = [image.instances[n] for n in labels]
        final = settle_conflicts(instances, [masks[n] for n in labels], height, width, task.rules)
        rows += [refined(image.rows[n], mask) for n, mask in zip(labels, final, strict=True)]
    spare = zip(image.rows, image.causes, strict=True)
    rows += [unrefined(row, cause) for row, cause in spare if cause]
    rows.sort(key=lambda row: row["instance_id"])
    if task.policy is None:
        return {"refined": rows}
    raw = [segmented(row, mask) for row, mask in zip(image.rows, masks, strict=True)]
    return {"refined": rows, "segmented": raw}


def likely_masks(
    task: RefineTask, image: ImagePredictions, masks: Sequence[RefinedMask] | None = None
) -> list[bytes]:
    """The masks that structural points are drawn from: of all predictions from ``min_score`` up.

    They do not depend on the thresholds, so that structural targets stay when those are moved.

    Args:
        task: Has the score.
        image: The image's predictions.
        masks: The refined mask of each prompted prediction; None for the teacher's.

    Returns:
        COCO's compressed RLE counts.
    """
    own = [row["mask_rle"] for row in image.rows] if masks is None else [m.mask_rle for m in masks]
    prompted = [
        rle for row, rle in zip(image.rows, own, strict=True) if row["score"] >= task.min_score
    ]
    return prompted + [row["mask_rle"] for row in image.dropped if row["score"] >= task.min_score]


def decided_counts(tables: Mapping[str, Sequence[Row]]) -> dict[str, int]:
    """Labels (refined, kept, both), dropped predictions and images set aside."""
    decisions = Counter(Decision(row["decision"]) for row in tables["refined"])
    return {
        "instances": decisions[Decision.REFINED] + decisions[Decision.KEPT],
        **{decision.value: decisions[decision] for decision in Decision},
        "quarantined": len(tables["quarantine"]),
    }
