"""What each part of the method brings: one table over rows, data sets and seeds.

    python benchmarks/ablation.py --data ../shared/data --mobilesam ../shared/weights/mobilesam \
        --out ablation --table ablation.md

Every row is a few settings on top of one base. Artifacts are shared by fingerprint, so rows that
agree on the teacher train it once, and a run that was stopped goes on where it was. ``--seeds``,
``--sets`` and ``--rows`` choose a part; two processes with different seeds can share ``--out``.
``--tune`` holds back training photographs for validation, with splits of other seeds, so that
settings can be chosen without looking at what the table reports.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import yaml
from ablation_rows import ROWS, Row
from ablation_table import write_table
from embedding_cache import keep_embeddings

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.config_file import load_config
from s4m_pipeline.console.reporter import Reporter
from s4m_pipeline.data.split.split import write_split
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.engine.run import Run
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.workflow.label_quality import label_quality_of_run
from s4m_pipeline.workflow.pipeline import stages_of_round

SETS = {
    "animals7-10": ("animals7", 10.0, "ablation_model.py"),
    "animals7-5": ("animals7", 5.0, "ablation_model.py"),
    "nuclei-5": ("nuclei", 5.0, "ablation_model_nuclei.py"),
}
"""Name of a row group: data set, labelled share in per cent, model."""
IN_TWO_SPLITS = ("ce7043029c91888c", "ee20241cb0882084")
"""Photographs of animals7 that are in both train and valid: left out of the validation."""
ITERATIONS = 500
TIMES = {"half": 0.5, "double": 2, "triple": 3, "quadruple": 4}
"""Words in rows' settings: how many times a training's iterations."""
TUNING_SEED = 100
"""Added to the seeds of ``--tune``, so that no split of the table is tuned on."""
HELD_BACK = 0.3
"""Share of the training images that ``--tune`` validates on."""


def base_config(folder: Path, args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """The settings that all rows of a data set share."""
    training = {
        "model": str(Path(__file__).resolve().parent / SETS[name][2]),
        "iterations": args.iterations,
        "structure_weight": 0.0,
        "validation_interval": 100_000,
        "checkpoint_interval": 100,
        "workers": 0,
    }
    data = args.data / SETS[name][0]
    return {
        "work_dir": str(folder / "work"),
        "seed": seed,
        "data": {
            "labelled": {"images": str(data / "train"), "annotations": "labelled.json"},
            "unlabelled": {"images": str(data / "train"), "annotations": "unlabelled.json"},
            "validation": {
                "images": str(data / ("train" if args.tune else "valid")),
                "annotations": "validation.json",
            },
        },
        "segmenter": {"name": "mobilesam", "checkpoint": str(args.mobilesam)},
        "structure": {"points": 64, "grid": 64},
        "teacher": {**training, "batch_size": 4},
        "pseudo_label": {"batch_size": 4},
        "student": {
            **training,
            "labelled_batch": 2,
            "unlabelled_batch": 2,
            "ema": 0.998,
            "ignore_score": None,
        },
    }


def prepare(args: argparse.Namespace, name: str, seed: int) -> Path:
    """Write one data set's split and run file; returns the run file."""
    folder: Path = (args.out / f"{name}-seed{seed}").resolve()
    source, percent, _ = SETS[name]
    images = (args.data / source / "train").resolve()
    everything = args.data / source / "train" / "_annotations.coco.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "run.yaml").is_file():
        train = json.loads(everything.read_text())
        if args.tune:
            validation, train = _held_back(train, seed)
        else:
            validation = json.loads(
                (args.data / source / "valid" / "_annotations.coco.json").read_text()
            )
            validation = _only(
                validation, lambda image: not image["file_name"].startswith(IN_TWO_SPLITS)
            )
        (folder / "train.json").write_text(json.dumps(train))
        (folder / "validation.json").write_text(json.dumps(validation))
        parts = write_split(folder / "train.json", images, percent, seed, True, folder)
        for part, wanted in zip(parts, ("labelled.json", "unlabelled.json"), strict=True):
            part.replace(folder / wanted)
    config = base_config(folder, args, name, seed)
    (folder / "run.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder / "run.yaml"


def _held_back(train: dict[str, Any], seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide a COCO file's images: a share to validate on, and the rest."""
    ids = [image["id"] for image in train["images"]]
    count = round(HELD_BACK * len(ids))
    held = {ids[place] for place in rng(seed, "held back").permutation(len(ids))[:count]}
    return (
        _only(train, lambda image: image["id"] in held),
        _only(train, lambda image: image["id"] not in held),
    )


def _only(content: dict[str, Any], wanted: Any) -> dict[str, Any]:
    """A COCO file's content with some of its images."""
    images = [image for image in content["images"] if wanted(image)]
    ids = {image["id"] for image in images}
    return {
        **content,
        "images": images,
        "annotations": [a for a in content["annotations"] if a["image_id"] in ids],
    }


def measure(path: Path, row: Row, args: argparse.Namespace) -> dict[str, Any]:
    """Make all that a row needs, and its figures."""
    times = {name: round(factor * args.iterations) for name, factor in TIMES.items()}
    overrides = [*args.set, *(text.format(**times) for text in row.settings)]
    if row.all_labels:
        overrides.append("data.labelled.annotations=train.json")
    run = Run(load_config(path, overrides), Reporter(quiet=not args.verbose))
    start = time.monotonic()
    of = row.of if row.rounds == 1 else f"{row.of}-{row.rounds}"
    for number in range(1, row.rounds + 1):
        for stage in stages_of_round(run.config, number):
            if isinstance(stage, Evaluate) and not stage.refresh:
                continue
            perform(run, stage)
            if row.of == stage.name.removeprefix("train-") == "teacher":
                break
    found = perform(run, Evaluate(of)).metrics
    figures = {key: 100 * found["segm"][key] for key in ("AP", "AP50", "AP75")}
    if row.of == "student":
        last = len(run.config.student.refreshes)
        quality = label_quality_of_run(run, path.parent / "train.json", row.rounds, last)
        for name in ("teacher", "refined"):
            wanted = ("precision", "recall", "mean_iou", "mean_best_iou")
            figures |= {f"{name} {key}": quality[name][key] for key in wanted}
    return {**figures, "seconds": time.monotonic() - start}


def main() -> None:
    """Run the rows in their order and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with animals7, nuclei")
    parser.add_argument("--mobilesam", type=Path, required=True, help="folder of its weights")
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS])
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="of each training")
    parser.add_argument("--tune", action="store_true", help="validate on held-back images")
    parser.add_argument("--set", nargs="+", default=[], help="settings on top of the base")
    parser.add_argument("--embeddings", type=Path, help="folder to keep image embeddings in")
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    parser.add_argument("--table-only", action="store_true", help="run nothing")
    parser.add_argument("--verbose", action="store_true", help="show the stages' progress")
    args = parser.parse_args()
    args.data, args.mobilesam = args.data.resolve(), args.mobilesam.resolve()
    log = args.out / "rows.jsonl"
    if args.embeddings:
        keep_embeddings(args.embeddings)
    if not args.table_only:
        run_rows(args, log)
    if args.table:
        write_table(log, args.table, [row.name for row in ROWS])


def run_rows(args: argparse.Namespace, log: Path) -> None:
    """Measure what is asked for and add a line to the log for each."""
    for row in ROWS:
        if args.rows and row.name not in args.rows:
            continue
        for name in args.sets:
            for seed in args.seeds:
                seed = seed + TUNING_SEED if args.tune else seed
                figures = measure(prepare(args, name, seed), row, args)
                named = " ".join([row.name, *args.set])
                line = {"row": named, "set": name, "seed": seed, **figures}
                with log.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
