"""Train the demo's segmenter on generated scenes of the ``pretrain`` style.

    python tools/train_demo_segmenter.py --minutes 40 --out demo-segmenter

writes ``demo.safetensors`` (float16, averaged weights) and ``demo-training.pth`` (to resume from);
the first of them goes to ``s4m_pipeline/segmenter/weights``.
The demo's own style serves only for a report at the end, on seeds that the demo never uses. On a
CPU with glibc these variables spare the kernel a fifth of the work::

    OMP_WAIT_POLICY=PASSIVE MALLOC_MMAP_THRESHOLD_=4294967296
    MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=67108864
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from demo_batches import Batch, Batches, predict
from demo_report import evaluate
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from s4m_pipeline.segmenter.demo import DemoSegmenter, build_demo_model, load_demo_weights

WARMUP_STEPS = 150


def compute_loss(
    logits: torch.Tensor, ious: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Mask loss of the single mask and of the best of three, and the error of predicted IoU."""
    target = targets[:, None].expand_as(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    cross_entropy = cross_entropy.sum((2, 3)) / (4.0 * targets.sum((1, 2)) + 200.0)[:, None]
    probability = logits.sigmoid()
    overlap = (probability * target).sum((2, 3))
    dice = 1.0 - (2.0 * overlap + 1.0) / (probability.sum((2, 3)) + target.sum((2, 3)) + 1.0)
    each = cross_entropy + 2.0 * dice
    single, best = each[:, 0].mean(), each[:, 1:].min(dim=1).values.mean()
    # A little of the mean keeps candidates alive that are never the best.
    spread = each[:, 1:].mean()
    with torch.no_grad():
        predicted, true = logits > 0, target > 0.5
        union = (predicted | true).sum((2, 3)).clamp(min=1)
        actual = (predicted & true).sum((2, 3)) / union
    iou_error = F.mse_loss(ious, actual)
    loss = single + best + 0.1 * spread + iou_error
    report = {
        "loss": float(loss.detach()),
        "iou": float(actual[:, 0].mean()),
        "best_iou": float(actual[:, 1:].max(dim=1).values.mean()),
        "iou_error": float(iou_error.detach()),
    }
    return loss, report


def save_weights(model: DemoSegmenter, path: Path, metadata: dict[str, str]) -> None:
    """Write the model as float16 safetensors, whole or not at all."""
    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    unfinished = path.with_suffix(".tmp")
    save_file(tensors, unfinished, metadata=metadata)
    unfinished.replace(path)


def learning_rate(step: int, progress: float, peak: float) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the peak as progress goes to 1."""
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
    return peak * min(1.0, (step + 1) / WARMUP_STEPS) * (0.01 + 0.99 * cosine)


class Training:
    """A run: the model, its averaged copy, the optimiser and where they stand."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.args = args
        self.model = build_demo_model().train()
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), args.learning_rate, betas=(0.9, 0.98), weight_decay=0.02
        )
        self.step, self.seconds = 0, 0.0
        self.state_file = args.out / "demo-training.pth"
        if args.resume and self.state_file.is_file():
            state = torch.load(self.state_file, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        """Write what ``--resume`` needs, and the averaged weights as they stand."""
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        unfinished = self.state_file.with_suffix(".tmp")
        torch.save(state, unfinished)
        unfinished.replace(self.state_file)
        metadata = {
            "model": "s4m demo segmenter",
            "steps": str(self.step),
            "seed": str(self.args.seed),
            "batch_size": str(self.args.batch_size),
            "trained_on": "generated scenes, style pretrain",
        }
        save_weights(self.averaged, self.args.out / "demo.safetensors", metadata)

    def progress(self) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        by_time = self.seconds / (60.0 * self.args.minutes) if self.args.minutes else 0.0
        return max(self.step / self.args.steps, by_time)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimiser and of the average."""
        rate = learning_rate(self.step, self.progress(), self.args.learning_rate)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss, report = compute_loss(*predict(self.model, batch), batch.targets)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        decay = min(0.998, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            own = dict(self.model.named_parameters())
            for name, value in self.averaged.named_parameters():
                value.lerp_(own[name], 1.0 - decay)
        self.step += 1
        return report

    def run(self) -> None:
        """Train until the steps or the minutes are used up."""
        data = Batches(self.args.seed, self.args.batch_size, self.step)
        batches = iter(DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=4))
        smoothed: dict[str, float] = {}
        while self.progress() < 1.0:
            begin = time.monotonic()
            report = self.train_step(next(batches))
            self.seconds += time.monotonic() - begin
            for name, value in report.items():
                smoothed[name] = 0.95 * smoothed.get(name, value) + 0.05 * value
            if self.step % 50 == 0:
                figures = {name: round(value, 4) for name, value in smoothed.items()}
                print(self.step, round(self.seconds, 1), json.dumps(figures), flush=True)
            if self.step % 500 == 0:
                self.save()
                print("held out:", evaluate(self.averaged, "pretrain", 20), flush=True)
        self.save()


def main() -> None:
    """Read the command line, train and report."""
    parser = argparse.ArgumentParser(description="Train the demo's segmenter.")
    parser.add_argument("--steps", type=int, default=20_000, help="most steps")
    parser.add_argument("--minutes", type=float, default=25.0, help="most minutes, 0: no limit")
    parser.add_argument("--batch-size", type=int, default=8, help="images a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="highest rate")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and scenes")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's state")
    parser.add_argument("--report-scenes", type=int, default=100, help="scenes of each style")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    training = Training(args)
    training.run()
    shipped = build_demo_model()
    load_demo_weights(shipped, args.out / "demo.safetensors")
    for style in ("pretrain", "demo"):
        print("averaged:", style, evaluate(training.averaged, style, args.report_scenes))
        print("as shipped (float16):", style, evaluate(shipped, style, args.report_scenes))


if __name__ == "__main__":
    main()
