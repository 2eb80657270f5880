"""Calls of the segmenter's image encoder in refinement: images x rounds exactly (row 10).

Two rounds of the real stages on generated scenes, with the demo's segmenter and models that learn
next to nothing. Every image is counted that the encoder gets while a stage ``refine`` runs: labels
and structural targets come from one and the same pass, nothing is encoded twice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from harness import report
from tiny_run import write_tiny

from s4m_pipeline.config_file import load_config
from s4m_pipeline.console.reporter import Reporter
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.engine.run import Run
from s4m_pipeline.segmenter.demo import DemoSegmenter
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.workflow.pipeline import stages_of_rounds

NAME = "encoder_calls"
SCENES = {"labelled": 4, "unlabelled": 60}
ROUNDS = 2
RUN = """
work_dir: work
device: cpu
data:
  labelled:   {images: scenes/labelled, annotations: scenes/labelled.json}
  unlabelled: {images: scenes/unlabelled}
segmenter:    {name: demo, image_size: 64}
structure:    {points: 8, grid: 16}
teacher:      {model: tiny.py, iterations: 30, batch_size: 2, workers: 0, learning_rate: 0.002}
pseudo_label: {min_score: 0.0, score: 0.0, thresholds: fixed, min_area: 0}
student:      {model: tiny.py, iterations: 1, labelled_batch: 1, unlabelled_batch: 1,
               workers: 0, structure_weight: 0.5}
"""


@contextmanager
def counted() -> Iterator[list[int]]:
    """Note the batch size of each call of the image encoder."""
    plain = DemoSegmenter.forward_image
    calls: list[int] = []

    def counting(model: DemoSegmenter, images: torch.Tensor) -> dict[str, Any]:
        calls.append(len(images))
        return plain(model, images)

    with patch.object(DemoSegmenter, "forward_image", counting):
        yield calls


def main() -> None:
    """Run the rounds and report."""
    encoded = refined = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiny(folder, **SCENES, seed=0, queries=8)
        (folder / "run.yaml").write_text(RUN)
        run = Run(load_config(folder / "run.yaml", []), Reporter(quiet=True))
        for stage in stages_of_rounds(run.config, ROUNDS):
            with counted() as calls:
                made = perform(run, stage)
            if isinstance(stage, Refine):
                encoded += sum(calls)
                refined += made.counts["instances"]
    wanted = SCENES["unlabelled"] * ROUNDS
    print(f"{encoded} images encoded for {refined} instances of {wanted} images x rounds")
    if encoded != wanted:
        raise SystemExit(f"{NAME}: {encoded} images encoded, not {wanted}")
    report(NAME, wanted / encoded, 1, f"{encoded} = {SCENES['unlabelled']} x {ROUNDS}")


if __name__ == "__main__":
    main()
