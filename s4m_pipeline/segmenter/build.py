"""Segmenters by name. Importing this module, and checking a choice, needs no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s4m_pipeline.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

    from s4m_pipeline.segmenter.base import Segmenter

RANDOM = "random"  # a checkpoint's name for seeded random weights, for tests and benchmarks
STRIDE = 32
MOBILESAM_SIZE = 1024
SAM2_SIZE = 1024
DEMO_SIZE = 128


@dataclass(frozen=True, slots=True)
class _Sam2Config:
    config: str
    hub_id: str
    hub_file: str


def _sam2_configs() -> dict[str, _Sam2Config]:
    sizes = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
    return {
        f"{family}_hiera_{size}": _Sam2Config(
            f"configs/{family}/{family}_hiera_{letter}.yaml",
            f"facebook/{family}-hiera-{size.replace('_', '-')}",
            f"{family}_hiera_{size}.pt",
        )
        for family in ("sam2", "sam2.1")
        for size, letter in sizes.items()
    }


SAM2_CONFIGS = _sam2_configs()
SEGMENTERS: dict[str, str] = {
    **{
        name: f"{name.split('_')[0].replace('sam', 'SAM ')} with a Hiera "
        f"{name.split('hiera_')[1].replace('_', ' ')} encoder"
        for name in SAM2_CONFIGS
    },
    "mobilesam": "MobileSAM: TinyViT encoder as ONNX, SAM's decoder; for CPUs",
    "demo": "a small SAM 2 whose weights come with the package",
}


def check_segmenter(
    name: str,
    checkpoint: str | Path | None,
    image_size: int | None,
    faster: Sequence[str] = (),
) -> None:
    """Find fault with a choice of segmenter before anything is loaded.

    Args:
        name: One of `SEGMENTERS`.
        checkpoint: A file (SAM 2), a Hugging Face id (SAM 2), a folder (MobileSAM), or None
            (demo).
        image_size: Side of the square input in pixels, or None for the segmenter's own.
        faster: Names of the settings that ask for a faster way than float32.

    Raises:
        UsageError: The name is unknown, a file is missing, the size is one that the model's
            stride forbids, or the segmenter has no faster way.
    """
    if name not in SEGMENTERS:
        raise UsageError(f"unknown segmenter {name!r}; there are {', '.join(SEGMENTERS)}")
    if image_size is not None:
        _check_size(name, image_size)
    if name == "mobilesam":
        if faster:
            raise UsageError(f"segmenter mobilesam has no {' and no '.join(faster)}")
        _check_mobilesam(checkpoint)
    elif name in SAM2_CONFIGS:
        _check_sam2_checkpoint(name, checkpoint)
    elif checkpoint is not None and not Path(checkpoint).is_file():
        raise UsageError(f"segmenter demo: there is no checkpoint {checkpoint}")


def _check_size(name: str, image_size: int) -> None:
    if name == "mobilesam":
        if image_size != MOBILESAM_SIZE:
            raise UsageError(
                f"segmenter mobilesam takes {MOBILESAM_SIZE} px only, not {image_size}"
            )
    elif image_size < STRIDE or image_size % STRIDE:
        near = max(STRIDE, round(image_size / STRIDE) * STRIDE)
        raise UsageError(
            f"segmenter {name} takes sizes that are a multiple of {STRIDE} px, not {image_size}; "
            f"the nearest is {near}"
        )


def _check_mobilesam(checkpoint: str | Path | None) -> None:
    if checkpoint is None:
        raise UsageError("segmenter mobilesam needs segmenter.checkpoint, the folder of its files")
    for file in ("encoder.onnx", "decoder.safetensors"):
        if not (Path(checkpoint) / file).is_file():
            raise UsageError(f"segmenter mobilesam: there is no {file} in {checkpoint}")


def _check_sam2_checkpoint(name: str, checkpoint: str | Path | None) -> None:
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


def build_segmenter(
    name: str,
    checkpoint: str | Path | None,
    image_size: int | None,
    device: str,
    precision: str = "float32",
    compile_encoder: bool = False,
) -> Segmenter:
    """Make a segmenter, ready to run.

    Args:
        name: One of `SEGMENTERS`.
        checkpoint: See `check_segmenter`; `"random"` gives a SAM 2 seeded random weights.
        image_size: Side of the square input in pixels, or None for the segmenter's own.
        device: A torch device, such as `cpu` or `cuda:0`.
        precision: "float32", "bfloat16" or "auto" (see `speed.speed_of`); MobileSAM has float32
            only.
        compile_encoder: Whether to compile a SAM 2's image encoder.

    Raises:
        UsageError: As `check_segmenter`, or the checkpoint is not one of this model.
    """
    check_segmenter(name, checkpoint, image_size)
    if name == "mobilesam":
        from s4m_pipeline.segmenter.mobilesam import MobileSam

        return MobileSam(Path(str(checkpoint)), device)
    import torch

    from s4m_pipeline.segmenter.sam2 import Sam2Segmenter
    from s4m_pipeline.segmenter.speed import speed_of

    if name == "demo":
        model = _build_demo(checkpoint, image_size)
    else:
        model = _build_sam2(name, str(checkpoint), image_size or SAM2_SIZE).eval()
    speed = speed_of(precision, compile_encoder, torch.device(device))
    return Sam2Segmenter(name, model.to(device), speed=speed)


def _build_demo(checkpoint: str | Path | None, image_size: int | None) -> SAM2Base:
    from s4m_pipeline.segmenter.demo import build_demo_model, load_demo_weights

    model = build_demo_model(image_size or DEMO_SIZE)
    if checkpoint is None:
        load_demo_weights(model)
        return model
    try:
        load_demo_weights(model, Path(checkpoint))
    except ArtifactError as error:
        raise UsageError(str(error)) from error
    return model


def _build_sam2(name: str, checkpoint: str, image_size: int) -> SAM2Base:
    import torch
    from sam2.build_sam import build_sam2

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_sam2(
            SAM2_CONFIGS[name].config,
            device="cpu",
            hydra_overrides_extra=[f"++model.image_size={image_size}"],
        )
    if checkpoint != RANDOM:
        path = Path(checkpoint) if Path(checkpoint).is_file() else _download(name, checkpoint)
        _load_sam2(model, name, path)
    return model


def _load_sam2(model: SAM2Base, name: str, path: Path) -> None:
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path} is not a checkpoint of SAM 2: it cannot be read") from error
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise UsageError(f"{path} is not a checkpoint of SAM 2: it holds no 'model'")
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise UsageError(f"{path} is not a checkpoint of {name}: its weights do not fit") from error


def _download(name: str, hub_id: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo_id=hub_id, filename=SAM2_CONFIGS[name].hub_file))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UsageError(
            f"{hub_id} is no file here and cannot be downloaded from Hugging Face; "
            "give segmenter.checkpoint a path"
        ) from error
