"""Manifests that are read to say where a run stands, by rounds (row 21).

Artifacts of up to eight rounds are laid down as their manifests alone. Read is what ``freshness``
of the last round's student needs: each stage's inputs, near and far, held against what they were
made of. Naively every path to an input is walked; ours looks once at each.
"""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

from harness import report
from tiny_run import write_tiny

from s4m_pipeline.artifacts import store
from s4m_pipeline.artifacts.manifest import (
    Manifest,
    file_entry,
    read_manifest,
    write_manifest,
)
from s4m_pipeline.config_file import load_config
from s4m_pipeline.console.reporter import Reporter
from s4m_pipeline.engine.perform import freshness
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.stage import Stage
from s4m_pipeline.stages.trainings import training_of_round
from s4m_pipeline.workflow.pipeline import stages_of_rounds

NAME = "freshness"
LISTED = "result.txt"
"""Stands for an artifact's files: each has one at least."""
ROUNDS = 8
RUN = """
work_dir: work
device: cpu
data:
  labelled:   {images: scenes/labelled, annotations: scenes/labelled.json}
  unlabelled: {images: scenes/unlabelled}
segmenter:    {name: demo, image_size: 64}
teacher:      {model: tiny.py}
student:      {model: tiny.py, structure_weight: 0.5}
"""


def lay_down(run: Run, rounds: int) -> None:
    """Write the manifests of all stages of some rounds, in their order."""
    for stage in stages_of_rounds(run.config, rounds):
        manifest = Manifest(
            stage.name, run.fingerprint(stage), stage.settings(run.config), stage.inputs(run)
        )
        manifest.input_contents = {
            name: run.store.manifest(upstream.name, run.fingerprint(upstream)).content
            for name, upstream in stage.upstream(run.config).items()
        }
        (run.folder(stage) / LISTED).parent.mkdir(parents=True, exist_ok=True)
        (run.folder(stage) / LISTED).write_text(stage.title)
        manifest.files = [file_entry(run.folder(stage), run.folder(stage) / LISTED)]
        write_manifest(run.folder(stage), manifest)


def naive(run: Run, stage: Stage) -> tuple[str, int]:
    """The state by walking every path, and the manifests read."""
    contents, count = read_manifest(run.folder(stage)).input_contents, 1
    for name, upstream in stage.upstream(run.config).items():
        content, count = read_manifest(run.folder(upstream)).content, count + 1
        state, read = naive(run, upstream)
        count += read
        if content != contents[name] or state != "fresh":
            return "stale", count
    return "fresh", count


def ours(run: Run, stage: Stage) -> tuple[str, int]:
    """The state as `freshness` says it, and the manifests read."""
    read: list[Path] = []

    def counting(folder: Path) -> Manifest:
        read.append(folder)
        return read_manifest(folder)

    with patch.object(store, "read_manifest", counting):
        return freshness(run, stage).state, len(read)


def main() -> None:
    """Count for one round to eight, and report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiny(folder, labelled=2, unlabelled=2, seed=0, queries=4)
        (folder / "run.yaml").write_text(RUN)
        config = load_config(folder / "run.yaml", [])
        lay_down(Run(config, Reporter(quiet=True)), ROUNDS)
        counts = []
        for number in range(1, ROUNDS + 1):
            run = Run(config, Reporter(quiet=True))
            training = training_of_round(number)
            before, after = naive(run, training), ours(run, training)
            if before[0] != after[0]:
                raise SystemExit(f"{NAME}: {after[0]}, not {before[0]}")
            counts.append((before[1], after[1]))
    for number, (before, after) in enumerate(counts, 1):
        print(f"round {number}: {before} manifests read naively, {after} by ours")
    steps = {later[1] - earlier[1] for earlier, later in pairwise(counts)}
    if len(steps) != 1:
        raise SystemExit(f"{NAME}: not linear in the rounds, steps of {sorted(steps)}")
    each = steps.pop()
    report(NAME, counts[-1][0] / counts[-1][1], 50, f"the same states; {each} more each round")


if __name__ == "__main__":
    main()
