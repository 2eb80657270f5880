"""What an artifact was made with."""

from __future__ import annotations

import os
import platform
from typing import Any

_PACKAGES = (
    "s4m-pipeline",
    "torch",
    "torchvision",
    "mmdet",
    "mmengine",
    "mmcv-lite",
    "mmcv",
    "rf-sam-2",
    "numpy",
    "pyarrow",
    "pycocotools",
    "onnxruntime",
    "timm",
    "faster-coco-eval",
)


def environment() -> dict[str, Any]:
    """Versions and machine, read without importing any of the packages."""
    from importlib import metadata  # late: slow to import, and `s4m status` needs none of it

    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": versions,
    }
