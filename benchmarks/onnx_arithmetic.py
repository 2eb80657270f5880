"""Arithmetic of MobileSAM's encoder, counted from ONNX Runtime's own profile, and its time.

    OMP_NUM_THREADS=1 python benchmarks/onnx_arithmetic.py --shared ../shared

The profile names the shapes of every operator that ran, fused ones too. Convolutions and matrix
products are counted, a multiplication with an addition as two operations. Beside it stands what
they would take at the rate of a product of two large matrices in torch.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import torch
from arithmetic import product_rate
from harness import seconds, skip

PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "FusedGemm")
CONVOLUTIONS = ("Conv", "FusedConv")


def operations(event: dict[str, Any]) -> float:
    """Floating-point operations of a profile's event; 0 for what is neither product nor Conv."""
    told = event.get("args", {})
    name = told.get("op_name")
    if not event["name"].endswith("_kernel_time") or name not in PRODUCTS + CONVOLUTIONS:
        return 0.0
    (output,) = told["output_type_shape"][0].values()
    inputs = [shape for one in told["input_type_shape"] for shape in one.values()]
    each = prod(inputs[1][1:]) if name in CONVOLUTIONS else inputs[0][-1]
    return 2.0 * prod(output) * each


def session_of(path: Path, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU with as many threads as torch; perhaps with a profile."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Print the count, the time and the limit, or say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    args = parser.parse_args()
    path = args.shared / "weights" / "mobilesam" / "encoder.onnx"
    if not path.is_file():
        skip("onnx_arithmetic", f"no {path}")
        return
    pixels = {"input": np.zeros((1, 3, 1024, 1024), np.float32)}
    with tempfile.TemporaryDirectory() as folder:
        profiled = session_of(path, Path(folder) / "profile")
        profiled.run(None, pixels)
        events = json.loads(Path(profiled.end_profiling()).read_text())
    gflop = 1e-9 * sum(operations(event) for event in events)
    session = session_of(path)
    took = median(seconds(lambda: session.run(None, pixels)) for _ in range(5))
    limit = gflop / product_rate()
    print(
        f"MobileSAM's encoder: {gflop:.1f} GFLOP an image, {1e3 * took:.0f} ms; "
        f"{1e3 * limit:.0f} ms at the rate of a matrix product: {took / limit:.2f} times the limit"
    )


if __name__ == "__main__":
    main()
