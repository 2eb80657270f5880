"""Where the time of a student's training step goes, and how far it is from the arithmetic's.

    python benchmarks/step_parts.py --shared ../shared

The photographs, labels and model of `data_time.py`, no data workers. Each part's time is its own:
what it calls of the other parts is theirs. The floating-point operations of a step are counted by
torch; the limit is what they take at the rate of a product of two large float32 matrices.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from arithmetic import product_rate
from data_time import prepared_set, spec_of
from harness import skip
from mmdet.models.detectors import Mask2Former
from torch.utils.flop_counter import FlopCounterMode

from s4m_pipeline.models.ema import WarmUpAverage
from s4m_pipeline.models.loops import PositionedTrainLoop, _Batches
from s4m_pipeline.models.mask2former.head import DistillingMask2FormerHead
from s4m_pipeline.models.mask2former.pixel_decoder import SizedPixelDecoder
from s4m_pipeline.models.precision import AutocastOptimWrapper
from s4m_pipeline.models.training import TrainingSpec, train

WARM = 5
"""Steps whose times do not count."""
PARTS: tuple[tuple[Any, str, str], ...] = (
    (_Batches, "__next__", "data"),
    (Mask2Former, "extract_feat", "backbone, forward"),
    (SizedPixelDecoder, "forward", "pixel decoder, forward"),
    (DistillingMask2FormerHead, "forward", "transformer decoder and heads, forward"),
    (DistillingMask2FormerHead, "loss", "matching and losses"),
    (torch.Tensor, "backward", "all, backward"),
    (AutocastOptimWrapper, "step", "clipping and optimizer"),
    (WarmUpAverage, "update_parameters", "averaged weights"),
    (PositionedTrainLoop, "run_iter", "all else"),
)


class OwnTimes:
    """Seconds spent in each part and in no other that it calls."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._open: list[float] = []

    def clocked(self, work: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The same function; its time, less that of clocked functions within, is the part's."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self._open.append(0.0)
            start = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                whole = time.perf_counter() - start
                self.spent[part] += whole - self._open.pop()
                if self._open:
                    self._open[-1] += whole

        return run


def step_times(spec: TrainingSpec) -> dict[str, float]:
    """Seconds of each part of a step, the mean of all steps but the first few."""
    clock = OwnTimes()
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in PARTS]
    for owner, name, part in PARTS:
        setattr(owner, name, clock.clocked(getattr(owner, name), part))
    before: dict[str, float] = {}

    def after_step(iteration: int, _: Any) -> None:
        if iteration == WARM:
            before.update(clock.spent)

    try:
        train(replace(spec, on_step=after_step))
    finally:
        for owner, name, work in kept:
            setattr(owner, name, work)
    steps = spec.iterations - WARM
    return {part: (spent - before.get(part, 0.0)) / steps for part, spent in clock.spent.items()}


def step_gflop(spec: TrainingSpec) -> float:
    """GFLOP of a step, the mean of some.

    A convolution's backward is taken as twice its forward: torch's own count of it holds for
    convolutions without groups alone.
    """
    with FlopCounterMode(display=False) as counter:
        train(spec)
    by_operator = counter.get_flop_counts()["Global"]
    aten = torch.ops.aten
    backward = by_operator.get(aten.convolution_backward, 0)
    count = counter.get_total_flops() - backward + 2 * by_operator.get(aten.convolution, 0)
    return count / spec.iterations / 1e9


def main() -> None:
    """Print the parts of a step, or say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    args.photographs = args.shared.resolve() / "data" / "animals7" / "train"
    args.device, args.intervals = "cpu", 0
    if not args.photographs.is_dir():
        skip("step_parts", "no data/animals7/train in the folder of --shared")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = spec_of(folder, prepared_set(args, folder), args, workers=0)
        parts = step_times(replace(spec, iterations=args.steps + WARM))
        counted = replace(spec, folder=folder / "counted", log_file=folder / "counted.jsonl")
        gflop = step_gflop(replace(counted, iterations=4))
    whole = sum(parts.values())
    for part, value in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"  {part}: {1e3 * value:.1f} ms, {100 * value / whole:.0f} %")
    rate = product_rate()
    print(
        f"a step: {whole:.3f} s, {gflop:.0f} GFLOP, {gflop / rate:.3f} s at the {rate:.0f} GFLOP/s "
        f"of a matrix product: {whole * rate / gflop:.1f} times the limit, "
        f"{torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
