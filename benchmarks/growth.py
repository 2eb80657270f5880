"""How pseudo-label and refine grow with the number of images: time and memory.

    python benchmarks/growth.py --images 100 1000 10000

Generated scenes of 64 px, a small teacher, the demo's segmenter, one worker; refine once for labels
alone and once with 64 structural maps of 64 x 64 cells an image, a quarter of a megabyte. Each size
runs in a process of its own, and each stage's peak memory is the operating system's (row 16). The
images of a larger set repeat those of the smallest by hard links: what is measured is the
pipeline, and making 10 000 different scenes would take longer than labelling them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import report
from tiny_run import SIZE, write_tiny

MOST_GROWTH = 1.25
"""How much more memory the largest set may take than the smallest: row 16's "flat"."""
CLEAR = Path("/proc/self/clear_refs")
"""Where Linux begins a process's peak memory anew."""


def prepare(folder: Path, images: int) -> None:
    """Write scenes and a small model, and link the unlabelled scenes to ``images`` files."""
    write_tiny(folder, labelled=4, unlabelled=100, seed=7, queries=3)
    made = sorted((folder / "scenes" / "unlabelled").iterdir())
    many = folder / "many"
    many.mkdir()
    for number in range(images):
        source = made[number % len(made)]
        os.link(source, many / f"{number:06d}{source.suffix}")


def measure(folder: Path, images: int) -> dict[str, float]:
    """Run both stages over ``images`` images in this process; seconds, instances, peak bytes."""
    import torch

    from s4m_pipeline.config import RunConfig
    from s4m_pipeline.console.reporter import Reporter
    from s4m_pipeline.engine.perform import perform
    from s4m_pipeline.engine.run import Run
    from s4m_pipeline.stages.pseudo_label import PseudoLabel
    from s4m_pipeline.stages.refine.stage import Refine
    from s4m_pipeline.stages.train_teacher import TrainTeacher

    torch.set_num_threads(1)
    prepare(folder, images)
    scenes = folder / "scenes"
    config = RunConfig.model_validate(
        {
            "work_dir": folder / "work",
            "device": "cpu",
            "data": {
                "labelled": {
                    "images": scenes / "labelled",
                    "annotations": scenes / "labelled.json",
                },
                "unlabelled": {"images": folder / "many"},
            },
            "segmenter": {"name": "demo", "image_size": SIZE},
            "teacher": {
                "model": str(folder / "tiny.py"),
                "iterations": 150,
                "batch_size": 2,
                "workers": 0,
                "structure_weight": 0.0,
            },
            "pseudo_label": {"min_score": 0.0, "score": 0.0, "min_area": 1},
            "refine": {"min_score": 0.0},
            "structure": {"points": 64, "grid": 64},
        }
    )
    run = Run(config, Reporter(quiet=True))
    perform(run, TrainTeacher())
    with_maps = config.model_copy(
        update={"student": config.student.model_copy(update={"structure_weight": 1.0})}
    )
    found: dict[str, float] = {"images": images}
    for name, stage, settings in (
        ("pseudo-label", PseudoLabel(), config),
        ("refine", Refine(), config),
        ("refine with maps", Refine(), with_maps),
    ):
        begin_peak()
        made = perform(Run(settings, Reporter(quiet=True)), stage)
        found[f"{name} seconds"] = sum(made.metrics["seconds"].values())
        found[f"{name} instances"] = made.counts["instances"]
        found[f"{name} peak MB"] = peak_megabytes()
    return found


def begin_peak() -> None:
    """Forget the peak so far, where the system can."""
    if CLEAR.exists():
        CLEAR.write_text("5")


def peak_megabytes() -> float:
    """The process's peak memory since `begin_peak`; of its whole life where there is no Linux."""
    if CLEAR.exists():
        lines = Path("/proc/self/status").read_text().splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
        return int(peak) / 1024
    import resource

    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB but on macOS
    return peak_bytes / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    """Measure each size in its own process and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(Path(folder), args.one)))
        return
    lines = []
    for images in args.images:
        command = [sys.executable, __file__, "--one", str(images)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        lines.append(json.loads(done.stdout.splitlines()[-1]))
        print("  ".join(f"{key} {value:.5g}" for key, value in lines[-1].items()), flush=True)
    small, large = lines[0], lines[-1]
    growth = max(large[key] / small[key] for key in large if key.endswith("peak MB"))
    print(f"{large['images'] / small['images']:g} times the images, {growth:.3f} times the memory")
    rate = "instances an image " + ", ".join(
        f"{line['refine instances'] / line['images']:.3g}" for line in lines
    )
    report("memory_growth", MOST_GROWTH / growth, 1, rate, lines=lines)


if __name__ == "__main__":
    main()
