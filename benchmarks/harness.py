"""What every benchmark shares: two ways of one thing in turn, equality checked, one last line.

A ratio says how many times better ours is than what it is held against, so more is always better.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

Result = TypeVar("Result")
RESULTS = "S4M_BENCH_RESULTS"
"""Environment variable: the folder that ``run_all.py`` collects the results from."""
SKIPPED = ".skipped"
"""How the file ends there that says why a benchmark was skipped."""
PACKAGES = (
    *("torch", "mmdet", "mmcv", "mmcv-lite", "rf-sam-2", "sam2", "numpy", "pyarrow"),
    *("pycocotools", "rlemasklib", "faster-coco-eval", "onnxruntime"),
)
"""Those whose versions stand with the results, where they are installed."""


def can_run_on(device: str, name: str) -> bool:
    """Whether the machine has a device; prints that the benchmark is skipped where it has not.

    Args:
        device: As torch names it.
        name: Of the benchmark.
    """
    import torch

    if not device.startswith("cuda") or torch.cuda.is_available():
        return True
    skip(name, "torch sees no CUDA device here")
    return False


def skip(name: str, why: str) -> None:
    """Print that a benchmark is skipped, and keep it for the results' table.

    Args:
        name: Of the benchmark.
        why: What is missing.
    """
    print(f"{name} skipped: {why}", flush=True)
    folder = os.environ.get(RESULTS)
    if folder:
        (Path(folder) / f"{name}{SKIPPED}").write_text(why)


def in_turn(
    naive: Callable[[], Result], ours: Callable[[], Result], repeats: int = 5
) -> tuple[Result, Result, list[float], list[float]]:
    """Run two ways of one thing in turn, so that both meet the same noise of the machine.

    Args:
        naive: The way it is held against.
        ours: The package's way.
        repeats: Timed runs of each, after one of each that is not timed.

    Returns:
        What each gave in the runs that are not timed, and the seconds of each timed run.
    """
    first, second = naive(), ours()
    slow: list[float] = []
    fast: list[float] = []
    for _ in range(repeats):
        slow.append(seconds(naive))
        fast.append(seconds(ours))
    return first, second, slow, fast


def seconds(work: Callable[[], Any]) -> float:
    """How long some work takes, the garbage of what came before collected."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report_times(
    name: str,
    goal: float,
    slow: list[float],
    fast: list[float],
    equal: str,
    **details: Any,
) -> None:
    """Print both medians and the last line; see `report`.

    Args:
        name: Of the benchmark.
        goal: The ratio aimed at.
        slow: Seconds of the naive way's runs.
        fast: Seconds of ours.
        equal: How the results were found equal.
        details: More to keep in the results' file.
    """
    before, after = median(slow), median(fast)
    print(f"naive {_spread(slow)}, ours {_spread(fast)}, {len(slow)} runs of each in turn")
    report(name, before / after, goal, equal, naive=before, ours=after, **details)


def _spread(times: list[float]) -> str:
    return f"{median(times):.4g} s ({min(times):.4g} to {max(times):.4g})"


def report(name: str, ratio: float, goal: float, equal: str, **details: Any) -> None:
    """Print a benchmark's last line, and keep it for the results' table where that is asked for.

    Args:
        name: Of the benchmark.
        ratio: How many times better than what it is held against.
        goal: The ratio aimed at.
        equal: How the results were found equal.
        details: More to keep in the results' file.
    """
    verdict = "ok" if ratio >= goal else "short"
    print(f"equal: {equal}")
    folder = os.environ.get(RESULTS)
    if folder:
        content = {"name": name, "ratio": ratio, "goal": goal, "verdict": verdict, "equal": equal}
        path = Path(folder) / f"{name}.json"
        path.write_text(json.dumps({**content, **details, "machine": machine()}, indent=1))
    print(f"{name} ratio={ratio:.3g} goal={goal:g} {verdict}", flush=True)


def machine() -> Mapping[str, str]:
    """The machine with its GPU, if it has one, the versions that count, and the day."""
    import torch

    found = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if torch.cuda.is_available():
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
