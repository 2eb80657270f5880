"""Run the benchmarks one after the other and write their table into a Markdown file.

    python benchmarks/run_all.py --shared ../shared --write docs/RESULTS.md

The table stands between two marks in the file and is of one run of all scripts; with ``--only`` it
is printed alone. A script that fails stops nothing; it is named at the end, the table is left as it
was, and the exit code is 1. What lacks its photographs or weights is skipped, which the end of the
output and the table's text say.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import RESULTS, SKIPPED, can_run_on

HERE = Path(__file__).resolve().parent
SCRIPTS = (
    "refine_masks_large",
    "refine_masks_coco",
    "refine_end_to_end",
    "mask_decoder",
    "prompt_batches",
    "mask_to_rle",
    "labels_size",
    "labels_read",
    "label_cache",
    "structure_size",
    "evaluation",
    "encoder_calls",
    "uneven_workers",
    "driver_rows",
    "freshness",
    "crop_masks",
    "data_time",
    "matcher",
    "deformable_attention",
    "instance_scoring",
    "student_step",
    "command_start",
    "growth",
)
GPU_RUNS: tuple[tuple[str, ...], ...] = (
    ("gpu_refine",),
    ("gpu_refine", "--compile"),
    ("gpu_paper",),
    ("student_step", "--full", "--device", "cuda", "--batch", "16", "--repeats", "5"),
    (
        "student_step",
        *["--full", "--device", "cuda", "--batch", "16", "--repeats", "5", "--bfloat16"],
    ),
    ("matcher", "--device", "cuda", "--images", "12", "--instances", "20", "--side", "1024"),
    ("deformable_attention", "--device", "cuda", "--images", "12", "--side", "1024"),
    ("instance_scoring", "--device", "cuda"),
    ("data_time", "--device", "cuda"),
)
"""Scripts with what turns those that run on a CPU, too, to the GPU."""
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def runs(gpu: bool, only: Sequence[str] | None) -> list[tuple[str, ...]]:
    """Each script with its arguments, in their order; of one that is asked for, all its runs."""
    known = GPU_RUNS if gpu else tuple((script,) for script in SCRIPTS)
    return [one for one in known if only is None or one[0] in only]


def run(arguments: Sequence[str], shared: Path | None, results: Path, weights: str | None) -> bool:
    """Run a script, its output shown; whether it ended well."""
    path = HERE / f"{arguments[0]}.py"
    command = [sys.executable, str(path), *arguments[1:]]
    if weights is not None and arguments[0] in ("gpu_refine", "gpu_paper"):
        command += ["--checkpoint", weights]
    if shared is not None and "--shared" in path.read_text():
        command += ["--shared", str(shared)]
    print(f"== {' '.join(arguments)}", flush=True)
    start = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, RESULTS: str(results)})
    print(f"   {time.perf_counter() - start:.0f} s", flush=True)
    return done.returncode == 0


def read(results: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The results in the order they were made, and what was skipped, each with the reason."""
    files = sorted(results.glob("*.json"), key=lambda path: path.stat().st_mtime)
    skipped = sorted(results.glob(f"*{SKIPPED}"))
    found = [json.loads(path.read_text()) for path in files]
    return found, [f"`{path.stem}` ({path.read_text()})" for path in skipped]


def table(found: list[dict[str, Any]], skipped: Sequence[str]) -> list[str]:
    """The results as a Markdown table, headed by machine, versions and date."""
    machine = found[0]["machine"]
    versions = ", ".join(
        f"{name} {value}"
        for name, value in machine.items()
        if name not in ("processor", "cores", "date", "gpu")
    )
    where = f"{machine['processor']}, {machine['cores']} cores"
    if "gpu" in machine:
        where += f", {machine['gpu']}"
    lines = [f"{where}; {versions}; {machine['date']}.", "", "| benchmark | ratio | goal | |"]
    lines.append("| --- | --- | --- | --- |")
    for one in found:
        ratio, goal = f"{one['ratio']:.3g}", f"{one['goal']:.3g}"
        lines.append(f"| `{one['name']}` | {ratio} | {goal} | {one['verdict']} |")
    if skipped:
        lines += ["", f"Skipped: {', '.join(skipped)}."]
    return lines


def write_between_marks(path: Path, lines: list[str]) -> None:
    """Put lines between the marks of a Markdown file.

    Raises:
        SystemExit: The file has no marks.
    """
    text = path.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{path} has no {BEGIN} and {END}")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    path.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]))


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shared", type=Path, help="folder of photographs and weights")
    parser.add_argument("--write", type=Path, help="Markdown file with the marks")
    parser.add_argument("--gpu", action="store_true", help="those that need a GPU")
    parser.add_argument("--checkpoint", help="of SAM 2.1 large, for gpu_refine's real figures")
    scripts = sorted({*SCRIPTS, *(one[0] for one in GPU_RUNS)})
    parser.add_argument("--only", nargs="+", choices=scripts)
    args = parser.parse_args()
    if args.gpu and not can_run_on("cuda", "bench-gpu"):
        return
    shared = args.shared if args.shared and args.shared.is_dir() else None
    if args.shared and shared is None:
        print(f"{args.shared} is no folder: what needs it is skipped")
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        failed = [
            " ".join(one)
            for one in runs(args.gpu, args.only)
            if not run(one, shared, results, args.checkpoint)
        ]
        found, skipped = read(results)
    if skipped:
        print(f"skipped: {', '.join(skipped)}")
    if found:
        print("\n".join(table(found, skipped)))
        if args.write and not (args.only or failed):
            write_between_marks(args.write, table(found, skipped))
        elif args.write:
            print(f"{args.write} keeps its table, which is of one run of all")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
