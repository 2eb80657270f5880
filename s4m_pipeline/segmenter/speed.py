"""How fast a SAM 2 is run: its precision, its memory layout, and whether it is compiled."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Speed:
    """A way of running a model.

    Attributes:
        bfloat16: Let autocast take bfloat16 in the image encoder, where it holds it to be safe.
            The decoder stays float32: it is a few per cent of the arithmetic, and masks move far
            more with its precision than with the encoder's.
        compile: Compile the image encoder's trunk with `torch.compile`, which keeps its kernels in
            inductor's cache on disk from one run to the next.
    """

    bfloat16: bool = False
    compile: bool = False

    def __str__(self) -> str:
        names = [
            name for name, on in (("bfloat16", self.bfloat16), ("compile", self.compile)) if on
        ]
        return " with ".join(names) or "float32"

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The context in which the image encoder is run."""
        if not self.bfloat16:
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16)

    def laid_out(self, images: Tensor) -> Tensor:
        """The input (B, 3, H, W), channels last where that is faster: in bfloat16 on a GPU."""
        if self.bfloat16 and images.is_cuda:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def compiled(self, trunk: nn.Module) -> nn.Module:
        """The image encoder's trunk to run, which shares the weights of the one given."""
        if not self.compile:
            return trunk
        compiled: nn.Module = torch.compile(trunk, dynamic=False)  # type: ignore[assignment]
        return compiled


FLOAT32 = Speed()


def speed_of(precision: str, compile_encoder: bool, device: torch.device) -> Speed:
    """The speed that a run's settings ask for.

    Args:
        precision: "float32", "bfloat16", or "auto": bfloat16 on a GPU that computes in it.
        compile_encoder: Whether to compile.
        device: Where the segmenter runs.
    """
    if precision == "auto":
        return Speed(_computes_bfloat16(device), compile_encoder)
    return Speed(precision == "bfloat16", compile_encoder)


def _computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 in its hardware; emulated, it is slower than float32."""
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)
