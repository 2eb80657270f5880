"""The views of a batch of images: who is drawn in which, and what the encoder makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from s4m_pipeline.refinement.instances import TeacherInstance
from s4m_pipeline.refinement.policies import PolicyChoice, RefinePolicy, policy_of
from s4m_pipeline.refinement.resampling import Window
from s4m_pipeline.refinement.views import plan_views
from s4m_pipeline.segmenter.base import Embeddings, Frame, Segmenter

ViewPlace = tuple[int, Window]
"""A view: the image's number in its batch, and the view's pixels."""


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """Who is drawn how, and in which views.

    Attributes:
        groups: For each policy, the places of its instances among their image's, by view.
    """

    groups: Sequence[tuple[RefinePolicy, Mapping[ViewPlace, Sequence[int]]]]

    def places(self) -> set[ViewPlace]:
        """Every view that somebody is drawn in."""
        return {place for _, members in self.groups for place in members}


def plan_batch(
    segmenter: Segmenter,
    instances: Sequence[Sequence[TeacherInstance]],
    sizes: Sequence[tuple[int, int]],
    policy: PolicyChoice,
) -> ViewPlan:
    """Plan the views of a batch of images.

    Args:
        segmenter: The segmenter.
        instances: B entries, each the teacher's instances of that image, perhaps none.
        sizes: Height and width of each image in pixels.
        policy: For all, by class (and size), or by a function; see `policies.policy_of`.

    Raises:
        UsageError: A mapping has no policy for an instance.
    """
    choice = policy_of(policy)
    policies = [[choice(instance) for instance in some] for some in instances]
    groups = []
    for rules in dict.fromkeys(p for some in policies for p in some if p is not None):
        members: dict[ViewPlace, Sequence[int]] = {}
        for image, (some, theirs) in enumerate(zip(instances, policies, strict=True)):
            rows = [n for n, p in enumerate(theirs) if p == rules]
            for view in plan_views(segmenter, some, rows, rules, *sizes[image]):
                members[image, view.window] = view.members
        groups.append((rules, members))
    return ViewPlan(groups)


def in_views_alone(plan: ViewPlan) -> ViewPlan:
    """A plan whose policies no longer say how the views were found; its masks are the same."""
    return ViewPlan([(replace(policy, view="image"), members) for policy, members in plan.groups])


def whole(image: int, height: int, width: int) -> ViewPlace:
    """The view of a whole image."""
    return image, Window(0, 0, width, height)


@dataclass(frozen=True, slots=True)
class EncodedViews:
    """Views that the segmenter has encoded.

    Attributes:
        embeddings: Of V views, with their frames in their images.
        places: The views, in the order of the embeddings.
    """

    embeddings: Embeddings
    places: Sequence[ViewPlace]

    def index(self, place: ViewPlace) -> int:
        """Where a view is among the embeddings."""
        return self.places.index(place)


def encode_views(
    segmenter: Segmenter, images: Sequence[np.ndarray], places: set[ViewPlace], most: int
) -> EncodedViews:
    """Encode views of a batch of images.

    Args:
        segmenter: The segmenter.
        images: uint8 (H, W, 3) RGB arrays.
        places: The views, at least one.
        most: Views in an encoder pass at most.
    """
    ordered = sorted(places, key=_order)
    sizes = [image.shape[:2] for image in images]
    parts = []
    for start in range(0, len(ordered), most):
        crops = [images[image][window.cells] for image, window in ordered[start : start + most]]
        parts.append(segmenter.encode([np.ascontiguousarray(crop) for crop in crops]))
    frames = [frame for part in parts for frame in part.frames]
    placed = tuple(
        _placed(frame, window, *sizes[image])
        for frame, (image, window) in zip(frames, ordered, strict=True)
    )
    return EncodedViews(_joined(parts, placed), ordered)


def _order(place: ViewPlace) -> tuple[int, ...]:
    """Image by image, larger views first: a whole image is before its parts."""
    image, window = place
    return (image, -window.width * window.height, window.y, window.x, window.width)


def _placed(frame: Frame, window: Window, height: int, width: int) -> Frame:
    return frame.placed(window.x, window.y, height, width)


def _joined(parts: Sequence[Embeddings], frames: tuple[Frame, ...]) -> Embeddings:
    """All passes' embeddings as one; those of one pass are not copied."""
    if len(parts) == 1:
        return Embeddings(parts[0].image, parts[0].high_res, frames)
    levels = zip(*(part.high_res for part in parts), strict=True)
    return Embeddings(
        torch.cat([part.image for part in parts]),
        tuple(torch.cat(level) for level in levels),
        frames,
    )
