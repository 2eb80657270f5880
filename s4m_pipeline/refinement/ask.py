"""Refinement: a teacher's instances in, sharp masks out, with the decision for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from s4m_pipeline.devices.transfers import HostCopy
from s4m_pipeline.refinement.choice import choose, wants_multimask
from s4m_pipeline.refinement.decisions import Answers, decide
from s4m_pipeline.refinement.instances import RefinedMask, TeacherInstance, kept_mask
from s4m_pipeline.refinement.negatives import negative_points
from s4m_pipeline.refinement.policies import PolicyChoice, RefinePolicy
from s4m_pipeline.refinement.prompts import build_prompts, parts_of, teacher_frame_logits
from s4m_pipeline.refinement.reasons import Cause, Reason
from s4m_pipeline.refinement.resampling import Window
from s4m_pipeline.refinement.view_plan import EncodedViews, ViewPlan, plan_batch, whole
from s4m_pipeline.segmenter.base import Embeddings, Frame, Prompts, Segmenter

__all__ = [
    "Asked",
    "RefinePolicy",
    "RefinedMask",
    "TeacherInstance",
    "ask",
    "ask_whole",
    "refine_images",
]

MASK_PROMPT_LIMIT = 32.0  # SAM 2's predictor clamps the logits that it prompts with again


@dataclass(frozen=True, slots=True)
class _Group:
    """Those instances of each view that share a policy, and what was answered for them."""

    policy: RefinePolicy
    rows: list[Sequence[int]]  # V entries, their places among the image's instances
    answers: list[list[Answers]]  # one entry for each of its prompts, and in it V entries


@dataclass(frozen=True, slots=True)
class Asked:
    """Instances of a batch of images that the segmenter has been prompted for.

    A GPU may still be working on the answers: only `masks` waits for them.
    """

    frames: tuple[Frame, ...]  # of V views
    images: Sequence[int]  # the image of each view
    instances: Sequence[Sequence[TeacherInstance]]  # of B images
    image_size: int
    groups: list[_Group]

    def masks(self) -> list[list[RefinedMask]]:
        """Masks and decisions; see `refine_images`."""
        no_policy = Cause.of(Reason.NOT_HELPED)
        out = [[kept_mask(instance, no_policy) for instance in some] for some in self.instances]
        for group in self.groups:
            for view, numbers in enumerate(group.rows):
                image = self.images[view]
                chosen = [self.instances[image][n] for n in numbers]
                answers = [kind[view] for kind in group.answers]
                frame = self.frames[view]
                masks = decide(chosen, frame, answers, self.image_size, group.policy)
                for n, mask in zip(numbers, masks, strict=True):
                    out[image][n] = mask
        return out


def refine_images(
    segmenter: Segmenter,
    embeddings: Embeddings,
    instances: Sequence[Sequence[TeacherInstance]],
    policy: PolicyChoice,
) -> list[list[RefinedMask]]:
    """Refine the instances of a batch of images that are encoded whole.

    Args:
        segmenter: The segmenter that encoded them.
        embeddings: Of B images.
        instances: B entries, each the teacher's instances of that image, perhaps none.
        policy: Prompts, choice and gate: for all, by class (and size), or by a function. An
            instance without a policy keeps the teacher's mask.

    Returns:
        B entries, one record for each instance, in the same order. Instances of one image know
        of one another only as neighbours; `conflicts.settle_conflicts` settles the rest.

    Raises:
        UsageError: A policy names what does not exist, or wants more points than are stored.
        ValueError: There are not as many entries as images, or a policy wants closer views.
    """
    return ask_whole(segmenter, embeddings, instances, policy).masks()


def ask_whole(
    segmenter: Segmenter,
    embeddings: Embeddings,
    instances: Sequence[Sequence[TeacherInstance]],
    policy: PolicyChoice,
) -> Asked:
    """The first half of `refine_images`, with its arguments, which does not wait for a GPU."""
    if len(instances) != len(embeddings.frames):
        raise ValueError(f"{len(instances)} entries for {len(embeddings.frames)} images")
    sizes = [(frame.height, frame.width) for frame in embeddings.frames]
    plan = plan_batch(segmenter, instances, sizes, policy)
    places = [whole(image, *size) for image, size in enumerate(sizes)]
    if not plan.places() <= set(places):
        raise ValueError("closer views need the images, not what was made of them whole")
    return ask(segmenter, EncodedViews(embeddings, places), instances, plan)


def ask(
    segmenter: Segmenter,
    encoded: EncodedViews,
    instances: Sequence[Sequence[TeacherInstance]],
    plan: ViewPlan,
) -> Asked:
    """Prompt the segmenter for the instances of a batch of images, without waiting for a GPU.

    So the next batch can be given to the device before this one's masks are made on the host.

    Args:
        segmenter: The segmenter.
        encoded: At least the views of the plan.
        instances: B entries, each the teacher's instances of that image.
        plan: Who is prompted how, and in which view.

    Raises:
        UsageError: A policy names what does not exist, or wants more points than are stored.
    """
    images = [image for image, _ in encoded.places]
    of_views = [instances[image] for image in images]
    groups = []
    for rules, members in plan.groups:
        rows = [members.get(place, ()) for place in encoded.places]
        answers = _ask_group(segmenter, encoded.embeddings, of_views, rows, rules)
        groups.append(_Group(rules, rows, answers))
    return Asked(encoded.embeddings.frames, images, instances, segmenter.image_size, groups)


def _ask_group(
    segmenter: Segmenter,
    embeddings: Embeddings,
    instances: Sequence[Sequence[TeacherInstance]],
    rows: Sequence[Sequence[int]],
    policy: RefinePolicy,
) -> list[list[Answers]]:
    """Prompt for those instances of each view that share a policy."""
    frames = embeddings.frames
    size = 4 * embeddings.image.shape[-1]
    masks = any(parts_of(prompts).mask for prompts in policy.all_prompts)
    needs_teacher = masks or policy.candidate == "closest"
    groups = [[some[n] for n in numbers] for some, numbers in zip(instances, rows, strict=True)]
    teacher = [
        teacher_frame_logits(group, frame, segmenter.image_size, size) if needs_teacher else None
        for group, frame in zip(groups, frames, strict=True)
    ]
    views = [Window(f.x, f.y, f.view_width, f.view_height) for f in frames]
    negatives = [
        _negatives(some, numbers, policy.negative_points, frame, view)
        for some, numbers, frame, view in zip(instances, rows, frames, views, strict=True)
    ]
    answers: dict[str, list[Answers]] = {}
    for kind in dict.fromkeys(policy.all_prompts):
        prompts = [
            build_prompts(group, kind, policy.points, logits, points, view)
            for group, logits, points, view in zip(groups, teacher, negatives, views, strict=True)
        ]
        answers[kind] = _answer(segmenter, embeddings, prompts, teacher, policy)
    return [answers[kind] for kind in policy.all_prompts]


def _negatives(
    instances: Sequence[TeacherInstance],
    rows: Sequence[int],
    count: int,
    frame: Frame,
    view: Window,
) -> tuple[np.ndarray, np.ndarray] | None:
    if not count:
        return None
    points, labels = negative_points(instances, count, frame.height, frame.width, view)
    return points[list(rows)], labels[list(rows)]


def _answer(
    segmenter: Segmenter,
    embeddings: Embeddings,
    prompts: Sequence[Prompts],
    teacher: Sequence[Tensor | None],
    policy: RefinePolicy,
) -> list[Answers]:
    """Prompt once, or once more with the mask taken first."""
    answers = segmenter.decode(embeddings, prompts, wants_multimask(policy.candidate))
    picks = [
        choose(answer, policy.candidate, logits)
        for answer, logits in zip(answers, teacher, strict=True)
    ]
    if policy.second_pass:
        limit = MASK_PROMPT_LIMIT
        again = [
            replace(prompt, masks=answer.picked(pick).clamp(-limit, limit))
            for prompt, answer, pick in zip(prompts, answers, picks, strict=True)
        ]
        answers = segmenter.decode(embeddings, again, False)
        picks = [torch.zeros_like(pick) for pick in picks]
    return [
        Answers(
            HostCopy(answer.picked(pick).float()),
            HostCopy(answer.ious.float()),
            HostCopy(pick),
        )
        for answer, pick in zip(answers, picks, strict=True)
    ]
