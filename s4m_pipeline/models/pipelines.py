"""Data pipelines of training and validation, put together around a model config's transforms.

A model config says how an image is scaled, flipped and cropped (``train_pipeline``), what is done
to the colours of labelled images on top (``weak_pipeline``; nothing where a config does not have
it), what to those of unlabelled images (``strong_pipeline``; S4M's colour changes where a config
does not have it, none where it is empty), and the scale at which it is tested (``test_scale``).
Loading, filtering and packing are the same for all and stand here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from s4m_pipeline.configs import MODELS

Pipeline = list[dict[str, Any]]

OWN_STEPS = frozenset(
    {
        "LoadImage",
        "LoadImageFromFile",
        "LoadAnnotations",
        "LoadInstances",
        "LoadStructure",
        "PasteInstances",
        "FilterAnnotations",
        "FilterInstances",
        "PackDetInputs",
        "PackInstances",
    }
)
"""Transforms that are left out of a config's pipeline, because they are added here."""

STRONG = MODELS / "_base_" / "strong_augmentation.py"
"""The config with S4M's strong augmentation of unlabelled images."""

TEST_META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "instances")


def train_pipeline(config: Config, strong: bool, paste: Pipeline | None = None) -> Pipeline:
    """The training pipeline.

    Args:
        config: The model config.
        strong: Whether to add the strong augmentation, as for unlabelled images, and not the weak
            one of labelled images.
        paste: Transforms that trade instances between images; they come before the strong
            augmentation.
    """
    return [
        dict(type="LoadImage"),
        dict(type="LoadInstances", with_bbox=True, with_mask=True),
        dict(type="LoadStructure"),
        *_inner(config.train_pipeline),
        *(paste or []),
        *_inner(_strong(config) if strong else config.get("weak_pipeline", [])),
        # Images from which every instance was cropped away stay, as background.
        dict(type="FilterInstances", min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True, keep_empty=False),
        dict(type="PackInstances"),
    ]


def crop_pixels(config: Config) -> int | None:
    """Area of the fixed crop that a config's training images end with; None where there is none."""
    crops = [
        step["crop_size"]
        for step in config.train_pipeline
        if step["type"] == "RandomCrop" and step.get("crop_type", "absolute") == "absolute"
    ]
    return math.prod(crops[-1]) if crops else None


def test_pipeline(config: Config) -> Pipeline:
    """The validation pipeline; the true instances stay in the sample under ``instances``."""
    return [
        dict(type="LoadImage"),
        dict(type="Resize", scale=tuple(config.test_scale), keep_ratio=True),
        dict(type="PackInstances", meta_keys=TEST_META),
    ]


def _strong(config: Config) -> Sequence[Any]:
    """A config's strong augmentation; S4M's, as the shipped configs have it, where it says none."""
    if "strong_pipeline" not in config:
        config = Config.fromfile(STRONG)
    steps: Sequence[Any] = config.strong_pipeline
    return steps


def _inner(pipeline: Sequence[Any]) -> Pipeline:
    """A config's transforms without those that load, filter or pack."""
    return [dict(step) for step in pipeline if step["type"] not in OWN_STEPS]
