"""How instances are refined: one policy for all, or one by class and size, and its rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from s4m_pipeline.errors import UsageError
from s4m_pipeline.object_sizes import size_of
from s4m_pipeline.refinement.instances import TeacherInstance

FUSE_SPACES = ("probabilities", "logits")
GATES = ("keep", "drop")
OVERLAPS = ("leave", "score")
VIEWS = ("image", "tiles", "windows", "auto")


@dataclass(frozen=True, slots=True)
class RefinePolicy:
    """How an instance is refined.

    Attributes:
        prompts: What is shown to the segmenter, a name in `config_prompts.PROMPTS`.
        points: How many points an instance, where points are used.
        candidate: What becomes the mask: argmax-iou, single, closest or fuse.
        min_agreement: The new mask is not taken where its IoU with the teacher's is below this.
        negative_points: At most how many points of neighbours are negative prompts, whatever else
            is shown.
        fuse_prompts: Further prompts; ``fuse`` takes the mean of their outputs and the first's.
        fuse_prompt_weights: The weights of their outputs in that mean, the first prompt's first;
            none for equal ones.
        fuse_weight: The teacher's share in ``fuse``, from 0 to 1.
        fuse_threshold: Probability above which a fused pixel is the mask's.
        fuse_space: Whether ``fuse`` averages probabilities or logits.
        second_pass: Whether the first mask's logits prompt again, beside the same points and box.
        max_area_ratio: The new mask is not taken where it is more than so many times larger or
            smaller than the teacher's; None for any size.
        gate: What becomes of an instance whose new mask is not taken: keep (the teacher's mask)
            or drop.
        view: What the segmenter looks at: the whole image, overlapping tiles, windows about the
            instances, or (auto) windows about those that are too small on the whole image.
        view_cells: The least side of an instance in cells of the segmenter's mask, the square root
            of its area, that is close enough.
        view_context: A closer view holds at least so many times an instance's box.
        view_passes: The most encoder passes an image that closer views may take.

    Raises:
        UsageError: ``fuse_space``, ``gate`` or ``view`` does not exist, or ``fuse_prompt_weights``
            are not one for each prompt, or all 0.
    """

    prompts: str
    points: int
    candidate: str
    min_agreement: float
    negative_points: int = 0
    fuse_prompts: tuple[str, ...] = ()
    fuse_prompt_weights: tuple[float, ...] = ()
    fuse_weight: float = 0.5
    fuse_threshold: float = 0.5
    fuse_space: str = "probabilities"
    second_pass: bool = False
    max_area_ratio: float | None = None
    gate: str = "keep"
    view: str = "image"
    view_cells: int = 16
    view_context: float = 1.5
    view_passes: int = 6

    def __post_init__(self) -> None:
        object.__setattr__(self, "fuse_prompts", tuple(self.fuse_prompts))
        object.__setattr__(self, "fuse_prompt_weights", tuple(self.fuse_prompt_weights))
        count, weights = 1 + len(self.fuse_prompts), self.fuse_prompt_weights
        if weights and (len(weights) != count or not sum(weights)):
            numbers = f"{count} number{'s' if count > 1 else ''}"
            raise UsageError(
                f"refine.fuse_prompt_weights {list(weights)} must be {numbers}, one for "
                "refine.policy and one for each of refine.fuse_policies, not all 0"
            )
        if self.fuse_space not in FUSE_SPACES:
            raise UsageError(
                f"unknown refine.fuse_space {self.fuse_space!r}; there are {', '.join(FUSE_SPACES)}"
            )
        if self.view not in VIEWS:
            raise UsageError(f"unknown refine.view {self.view!r}; there are {', '.join(VIEWS)}")
        if self.gate not in GATES:
            raise UsageError(f"unknown refine.gate {self.gate!r}; there are {', '.join(GATES)}")

    @property
    def all_prompts(self) -> tuple[str, ...]:
        """The prompts whose outputs are looked at; several only where they are fused."""
        return (self.prompts, *(self.fuse_prompts if self.candidate == "fuse" else ()))


@dataclass(frozen=True, slots=True)
class ConflictRules:
    """What is settled between the masks of an image.

    Attributes:
        overlaps: "leave", or "score": pixels that several masks claim go to the highest score.
        duplicate_iou: Of two masks of a class whose IoU is above this, the one with the lower
            score is dropped; 1 drops none.
        duplicate_containment: The same where the intersection is more than this share of the
            smaller mask; 1 drops none.
        min_agreement: A mask that lost pixels is dropped where its IoU with the teacher's falls
            below this: what is left of it is another shape.

    Raises:
        UsageError: ``overlaps`` is neither.
    """

    overlaps: str = "leave"
    duplicate_iou: float = 1.0
    duplicate_containment: float = 1.0
    min_agreement: float = 0.3

    def __post_init__(self) -> None:
        if self.overlaps not in OVERLAPS:
            raise UsageError(
                f"unknown refine.overlaps {self.overlaps!r}; there are {', '.join(OVERLAPS)}"
            )


PolicyOf = Callable[[TeacherInstance], RefinePolicy | None]
PolicyTable = Mapping[int | tuple[int, str], RefinePolicy | None]
PolicyChoice = RefinePolicy | PolicyTable | PolicyOf
"""One policy, or by category id or (category id, size), or a function; None keeps the teacher's."""


def policy_of(choice: PolicyChoice) -> PolicyOf:
    """The function that gives an instance's policy.

    In a mapping, ``(category_id, size)`` goes before ``category_id``. The function raises
    UsageError where a mapping has neither.
    """
    if isinstance(choice, RefinePolicy):
        return lambda instance: choice
    if not isinstance(choice, Mapping):
        return choice

    def look_up(instance: TeacherInstance) -> RefinePolicy | None:
        for key in ((instance.category_id, size_of(instance.area)), instance.category_id):
            if key in choice:
                return choice[key]
        raise UsageError(f"no refinement policy is known for category {instance.category_id}")

    return look_up
