"""SAM 2 and 2.1 by name: their configurations, and what is wrong with a choice of one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from s4m_pipeline.config import RANDOM
from s4m_pipeline.errors import UsageError
from s4m_pipeline.segmenter.spec import SegmenterChoice, SegmenterSpec, check_multiple

STRIDE = 32
"""The side of the input must be a multiple of this many pixels."""


@dataclass(frozen=True, slots=True)
class Sam2Config:
    """Where a SAM 2 is described and published.

    Attributes:
        config: Its configuration, a path inside the ``sam2`` package.
        hub_id: Its repository on Hugging Face.
        hub_file: Its checkpoint there.
    """

    config: str
    hub_id: str
    hub_file: str


def _sam2_configs() -> dict[str, Sam2Config]:
    sizes = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
    return {
        f"{family}_hiera_{size}": Sam2Config(
            f"configs/{family}/{family}_hiera_{letter}.yaml",
            f"facebook/{family}-hiera-{size.replace('_', '-')}",
            f"{family}_hiera_{size}.pt",
        )
        for family in ("sam2", "sam2.1")
        for size, letter in sizes.items()
    }


SAM2_CONFIGS = _sam2_configs()
"""The official models by name."""


def _help(name: str) -> str:
    family, size = name.split("_hiera_")
    return f"{family.replace('sam', 'SAM ')} with a Hiera {size.replace('_', ' ')} encoder"


def _check(choice: SegmenterChoice) -> None:
    check_multiple(choice, STRIDE)
    name, checkpoint = choice.name, choice.checkpoint
    if checkpoint is None:
        raise UsageError(
            f"segmenter {name} needs segmenter.checkpoint, a file or a Hugging Face id such as "
            f"{SAM2_CONFIGS[name].hub_id}"
        )
    if str(checkpoint) == RANDOM or Path(checkpoint).is_file():
        return
    if not _is_hub_id(checkpoint):
        raise UsageError(f"segmenter {name}: there is no checkpoint {checkpoint}")
    if str(checkpoint).startswith("facebook/sam2") and checkpoint != SAM2_CONFIGS[name].hub_id:
        raise UsageError(f"{checkpoint} is not the checkpoint of segmenter {name}")


def _is_hub_id(checkpoint: str | Path) -> bool:
    text = str(checkpoint)
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", text)) and not text.endswith(
        (".pt", ".pth", ".safetensors")
    )


SPEC = SegmenterSpec(
    {name: _help(name) for name in SAM2_CONFIGS},
    _check,
    "s4m_pipeline.segmenter.sam2:build_sam2_segmenter",
)
