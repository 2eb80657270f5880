"""Run the benchmarks one after the other and write their table into a Markdown file.

    python benchmarks/run_all.py --shared ../shared --write docs/RESULTS.md

The table stands between two marks in the file and is of one run of all scripts; with ``--only`` it
is printed alone. A script that fails stops nothing; it is named at the end, the table is left as it
was, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import RESULTS, can_run_on

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
    "crop_masks",
    "data_time",
    "matcher",
    "deformable_attention",
    "instance_scoring",
    "student_step",
    "command_start",
    "growth",
)
GPU_SCRIPTS = (
    "gpu_refine",
    "student_step",
    "matcher",
    "deformable_attention",
    "instance_scoring",
    "data_time",
)
GPU_ARGUMENTS = {
    "student_step": ["--full", "--device", "cuda", "--batch", "16", "--repeats", "5"],
    "matcher": ["--device", "cuda", "--images", "12", "--instances", "20", "--side", "1024"],
    "deformable_attention": ["--device", "cuda", "--images", "12", "--side", "1024"],
    "instance_scoring": ["--device", "cuda"],
    "data_time": ["--device", "cuda"],
}
"""What turns a script that runs on a CPU, too, to the GPU."""
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def run(script: str, shared: Path | None, results: Path, gpu: bool, checkpoint: str | None) -> bool:
    """Run a script, its output shown; whether it ended well."""
    command = [sys.executable, str(HERE / f"{script}.py")]
    if gpu:
        command += GPU_ARGUMENTS.get(script, [])
    if checkpoint is not None and script == "gpu_refine":
        command += ["--checkpoint", checkpoint]
    if shared is not None and "--shared" in (HERE / f"{script}.py").read_text():
        command += ["--shared", str(shared)]
    print(f"== {script}", flush=True)
    start = time.perf_counter()
    done = subprocess.run(command, env={**os.environ, RESULTS: str(results)})
    print(f"   {time.perf_counter() - start:.0f} s", flush=True)
    return done.returncode == 0


def table(found: list[dict[str, Any]]) -> list[str]:
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
    parser.add_argument("--only", nargs="+", choices=sorted({*SCRIPTS, *GPU_SCRIPTS}))
    args = parser.parse_args()
    if args.gpu and not can_run_on("cuda", "bench-gpu"):
        return
    scripts = args.only or (GPU_SCRIPTS if args.gpu else SCRIPTS)
    shared = args.shared if args.shared and args.shared.is_dir() else None
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        options = (shared, results, args.gpu, args.checkpoint)
        failed = [script for script in scripts if not run(script, *options)]
        files = sorted(results.iterdir(), key=lambda path: path.stat().st_mtime)
        found = [json.loads(path.read_text()) for path in files]
    if found:
        print("\n".join(table(found)))
        if args.write and not (args.only or failed):
            write_between_marks(args.write, table(found))
        elif args.write:
            print(f"{args.write} keeps its table, which is of one run of all")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
