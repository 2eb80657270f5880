"""Memory and open files of pseudo-label and refine over hours.

    python benchmarks/soak.py --data ../shared/data/animals7 --hours 2 --out soak \
        --mobilesam ../shared/weights/mobilesam

A small teacher is trained on a tenth of the photographs. Then ``s4m pseudo-label`` and ``s4m
refine`` each work for half of the time on many names (hard links) of the same photographs, and are
stopped with SIGTERM as a cluster stops them; refine has a smaller set, whose predictions are made
first and not sampled. Every ``--every`` seconds the memory and the open files of the command and
all its processes are written to ``samples.csv``. What is compared is the second quarter of each
stage's samples with the last: the first quarter is loading and warming up. Linux only.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import yaml
from harness import report

S4M = str(Path(sys.executable).with_name("s4m"))
MOST_GROWTH = 1.03
"""How much more memory the last quarter may take than the second; open files may not grow."""
HEAD = ("stage", "seconds", "processes", "memory_mb", "open_files", "shards")


def main() -> None:
    """Prepare what is missing, soak both stages and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of animals7")
    parser.add_argument("--mobilesam", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between samples")
    parser.add_argument("--pictures", type=int, nargs=2, default=(20_000, 4_000))
    parser.add_argument("--iterations", type=int, default=300, help="of the teacher")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    many, fewer = args.pictures
    for name, pictures in (("many", many), ("fewer", fewer)):
        write_run(args, name, pictures)
    s4m(args.out, "train-teacher", "fewer")
    s4m(args.out, "train-teacher", "many")
    samples = soak(args, "pseudo-label", "many")
    s4m(args.out, "pseudo-label", "fewer")
    samples += soak(args, "refine", "fewer")
    write_samples(args.out / "samples.csv", samples)
    for stage in ("pseudo-label", "refine"):
        compare(stage, [row for row in samples if row[0] == stage])


def write_run(args: argparse.Namespace, name: str, pictures: int) -> None:
    """Write a run's file, its split and its folder of hard links; both runs share a teacher."""
    args.out.mkdir(parents=True, exist_ok=True)
    data = args.data.resolve()
    photographs = sorted((data / "train").glob("*.jpg"))
    folder = args.out / name
    folder.mkdir(exist_ok=True)
    for number in range(pictures):
        link = folder / f"{number:06d}.jpg"
        if not link.exists():
            link_or_copy(photographs[number % len(photographs)], link)
    split = ["data", "split", "--annotations", str(data / "train" / "_annotations.coco.json")]
    split += ["--images", str(data / "train"), "--percent", "10", "--seed", "0", "--out", "."]
    if not (args.out / "labelled-10.json").exists():
        subprocess.run([S4M, *split], cwd=args.out, check=True)
    training = {"model": str(Path(__file__).resolve().parent / "ablation_model.py")}
    training |= {"iterations": args.iterations, "batch_size": 4, "structure_weight": 0.0}
    training |= {"validation_interval": 100_000, "checkpoint_interval": 50, "workers": 0}
    config = {
        "work_dir": "work",
        "device": "cpu",
        "data": {
            "labelled": {"images": str(data / "train"), "annotations": "labelled-10.json"},
            "unlabelled": {"images": name},
        },
        "segmenter": {"name": "mobilesam", "checkpoint": str(args.mobilesam.resolve())},
        "teacher": training,
        "pseudo_label": {"batch_size": 4, "score": 0.3},
    }
    (args.out / f"{name}.yaml").write_text(yaml.safe_dump(config))


def link_or_copy(source: Path, link: Path) -> None:
    """Another name of a photograph; a copy where the two folders are on different disks."""
    try:
        os.link(source, link)
    except OSError:
        link.write_bytes(source.read_bytes())


def s4m(folder: Path, stage: str, name: str) -> None:
    """Run a stage to its end, unless it is there already."""
    command = [S4M, stage, "-c", f"{name}.yaml"]
    subprocess.run(command, cwd=folder, check=True)


def soak(args: argparse.Namespace, stage: str, name: str) -> list[tuple[object, ...]]:
    """Run a stage for half of the time, stop it, and give what was seen meanwhile."""
    command = [S4M, stage, "-c", f"{name}.yaml"]
    log = open(args.out / f"{stage}.log", "w")  # noqa: SIM115 - held while the command runs
    process = subprocess.Popen(command, cwd=args.out, stdout=log, stderr=log)
    begin = time.monotonic()
    samples: list[tuple[object, ...]] = []
    while process.poll() is None:
        seconds = time.monotonic() - begin
        if seconds > args.hours * 1800:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)
            break
        samples.append((stage, round(seconds), *seen(process.pid), shards(args.out, stage)))
        write_samples(args.out / f"{stage}.csv", samples)
        time.sleep(args.every)
    log.close()
    print(f"{stage}: exit code {process.returncode} after {time.monotonic() - begin:.0f} s")
    return samples


def seen(pid: int) -> tuple[int, float, int]:
    """Processes of a tree, their proportional memory in MB and their open files."""
    count, memory, files = 0, 0, 0
    for one in tree(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            files += len(os.listdir(f"/proc/{one}/fd"))
        except OSError:  # ended meanwhile
            continue
        memory += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        count += 1
    return count, round(memory / 1024, 1), files


def tree(pid: int) -> Iterator[int]:
    """A process and all that come from it."""
    yield pid
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = listed.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from tree(int(child))


def shards(out: Path, stage: str) -> int:
    """How many shards the stage has finished: that it works, and does not only stand there."""
    return len(list((out / "work" / stage).glob("*/*/*.parquet")))


def write_samples(path: Path, samples: list[tuple[object, ...]]) -> None:
    """Write samples as a table; again after each, so that a stop loses none."""
    with open(path, "w", newline="") as stream:
        csv.writer(stream).writerows([HEAD, *samples])


def compare(stage: str, samples: list[tuple[object, ...]]) -> None:
    """Print the second and the last quarter's memory and open files."""
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    memory = [mean(float(str(row[3])) for row in part) for part in (second, last)]
    files = [max(int(str(row[4])) for row in part) for part in (second, last)]
    print(
        f"{stage}: {samples[-1][1]} s, {samples[-1][5]} shards, "
        f"memory {memory[0]:.0f} MB in the second quarter, {memory[1]:.0f} MB in the last, "
        f"open files {files[0]} and {files[1]}"
    )
    grown = "open files do not grow" if files[1] <= files[0] else "OPEN FILES GROW"
    report(f"soak_{stage.replace('-', '_')}", memory[0] / memory[1], 1 / MOST_GROWTH, grown)


if __name__ == "__main__":
    main()
