"""The run's segmenter: its settings, its digest, and how a worker builds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s4m_pipeline.artifacts.fingerprint import content_digest
from s4m_pipeline.config import RunConfig
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.engine.reading import load_images
from s4m_pipeline.engine.run import Run
from s4m_pipeline.late import load
from s4m_pipeline.segmenter import build
from s4m_pipeline.segmenter.spec import SegmenterChoice

if TYPE_CHECKING:
    from s4m_pipeline.segmenter.base import Segmenter

GPU_IMAGES = 16
"""Images in an encoder pass on a GPU unless the run says otherwise; elsewhere one is faster."""
PROOF_IMAGES = "s4m_pipeline.segmenter.proof:PROOF_IMAGES"
NO_WEIGHTS = "none"
"""Stands for the weights of a segmenter that needs a checkpoint and was given none."""


@dataclass(frozen=True, slots=True)
class SegmenterSettings:
    """What a worker needs to build the segmenter."""

    name: str
    checkpoint: str | None
    image_size: int | None
    batch_size: int
    device: str
    precision: str = "float32"
    compile: bool = False

    @classmethod
    def of(cls, config: RunConfig, device: str) -> SegmenterSettings:
        """Take them from a run's configuration."""
        section = config.segmenter
        return cls(
            section.name,
            section.checkpoint,
            section.image_size,
            section.batch_size or (GPU_IMAGES if device.startswith("cuda") else 1),
            device,
            section.precision,
            section.compile,
        )

    def build(self, device: str, records: Mapping[int, ImageRecord]) -> Segmenter:
        """Build the segmenter on a device and settle how it runs.

        Args:
            device: Where.
            records: The stage's images by id. A faster way is proved on the first of them, so that
                all workers come to the same result, in a resumed run too.
        """
        segmenter = build.build_segmenter(
            self.name, self.checkpoint, self.image_size, device, self.precision, self.compile
        )
        if not segmenter.proved:
            images = load_images([records[key] for key in sorted(records)], "", [])
            first = [image for _, image in islice(images, load(PROOF_IMAGES))]
            if first:
                segmenter.prove(first, self.batch_size)
        return segmenter


def segmenter_settings(config: RunConfig) -> dict[str, Any]:
    """The segmenter settings that can change a result (its weights go by digest)."""
    return {"name": config.segmenter.name, "image_size": config.segmenter.image_size}


def check_segmenter_section(config: RunConfig) -> None:
    """Refuse a segmenter that cannot be built (UsageError), before anything heavy is loaded."""
    section = config.segmenter
    build.check_segmenter(
        SegmenterChoice(
            section.name, section.checkpoint, section.image_size, section.precision, section.compile
        )
    )


def segmenter_digest(run: Run) -> str:
    """Digest of the segmenter's weights: the run's checkpoint, or else the segmenter's own.

    A Hugging Face id stands for itself.
    """
    section = run.config.segmenter
    weights = section.checkpoint
    if weights is None:
        own = build.own_weights(section.name)
        return NO_WEIGHTS if own is None else content_digest(own, run.store.facts)
    path = Path(weights)
    return content_digest(path, run.store.facts) if path.exists() else weights
