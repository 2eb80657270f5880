"""What is installed here, and whether it works together."""

from __future__ import annotations

import shutil
from typing import Any

import torch

from s4m_pipeline.artifacts.environment import environment
from s4m_pipeline.models.mask2former.triton_attention import triton_attention
from s4m_pipeline.models.openmmlab import has_compiled_operators, prepare


def examine() -> dict[str, Any]:
    """Look up versions, device and free disk, and try MMDetection's operators.

    Returns:
        Findings by name, for people and as JSON.
    """
    here = environment()
    report: dict[str, Any] = {
        "python": here["python"],
        "platform": here["platform"],
        "processors": here["cpus"],
        **here["packages"],
    }
    report["cuda"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    report["free disk here"] = f"{shutil.disk_usage('.').free / 1e9:.0f} GB"
    prepare()
    compiled = has_compiled_operators()
    report["mmcv operators"] = "compiled" if compiled else "PyTorch and torchvision (no mmcv._ext)"
    report["deformable attention"] = "mmcv's" if compiled else _attention()
    return report


def _attention() -> str:
    """The code that computes Mask2Former's deformable attention here."""
    if not torch.cuda.is_available():
        return "PyTorch"
    if triton_attention(torch.device("cuda", 0)) is not None:
        return "Triton (deformops)"
    return "PyTorch (the extra 'triton' brings faster kernels, for Python 3.12 on)"
