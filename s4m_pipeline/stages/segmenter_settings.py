"""The run's segmenter: its settings, its digest, its making in a worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s4m_pipeline import segmenter
from s4m_pipeline.config import RunConfig
from s4m_pipeline.stages.base import Run

if TYPE_CHECKING:
    from s4m_pipeline.segmenter.base import Segmenter

PACKAGED_WEIGHTS = Path(segmenter.__file__).parent / "weights" / "demo.safetensors"
"""The weights of the segmenter that needs no checkpoint."""


GPU_IMAGES = 16
"""Images an encoder pass takes on a GPU unless the run says otherwise; elsewhere one is faster."""


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

    def build(self, device: str) -> Segmenter:
        """Build the segmenter on a device."""
        from s4m_pipeline.segmenter.build import build_segmenter

        return build_segmenter(
            self.name, self.checkpoint, self.image_size, device, self.precision, self.compile
        )


def segmenter_settings(config: RunConfig) -> dict[str, Any]:
    """The segmenter settings that can change a result (its weights go by digest)."""
    return {"name": config.segmenter.name, "image_size": config.segmenter.image_size}


def check_segmenter_section(config: RunConfig) -> None:
    """Refuse a segmenter that cannot be built (UsageError), before anything heavy is loaded."""
    from s4m_pipeline.segmenter.build import check_segmenter

    section = config.segmenter
    faster = ["precision bfloat16"] if section.precision == "bfloat16" else []
    faster += ["compile"] if section.compile else []
    check_segmenter(section.name, section.checkpoint, section.image_size, faster)


def segmenter_digest(run: Run) -> str:
    """Digest of the segmenter's weights; a Hugging Face id stands for itself."""
    checkpoint = run.config.segmenter.checkpoint
    if checkpoint is None:
        return run.store.digests.file(PACKAGED_WEIGHTS)
    path = Path(checkpoint)
    return run.store.digests.file(path) if path.exists() else checkpoint
