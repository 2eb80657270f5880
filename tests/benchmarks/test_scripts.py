"""Every benchmark can be imported, and the quick ones run at a tiny size."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s4m_pipeline.segmenter import sam2
from tests.benchmarks.conftest import FOLDER

SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
TINY: list[tuple[str, list[str], dict[str, Any]]] = [
    ("deformable_attention", ["--side", "32", "--images", "1"], {}),
    ("matcher", ["--images", "1", "--instances", "2", "--side", "64"], {}),
    ("instance_scoring", [], {"QUERIES": 10, "SIZE": (24, 32)}),
    ("labels_size", [], {"IMAGES": 4}),
    ("labels_read", [], {"IMAGES": 16}),
    ("evaluation", [], {"IMAGES": 6}),
    ("driver_rows", [], {"IMAGES": 4, "SHARD": 2, "POINTS": 4, "GRID": 8, "WORKERS": 1}),
    ("freshness", [], {"ROUNDS": 3}),
    (
        "structure_size",
        ["--shared", "missing"],
        {"DEMO_SIDE": 64, "DEMO_IMAGES": 1, "POINTS": 8, "GRID": 16},
    ),
]
"""Scripts with arguments, and with what stands in for their own values."""
LINE = re.compile(r"^\S+ ratio=\S+ goal=\S+ (ok|short)$")


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_can_be_imported(name: str, script: Any) -> None:
    module = script(name)
    assert Path(module.__file__).parent == FOLDER


@pytest.mark.parametrize(("name", "arguments", "instead"), TINY, ids=[one[0] for one in TINY])
def test_it_runs_and_reports(
    name: str, arguments: list[str], instead: dict[str, Any], ran: Any
) -> None:
    printed = ran(name, *arguments, **instead)
    assert LINE.match(printed[-1]), printed
    assert any(line.startswith("equal: ") for line in printed)


def test_refine_of_a_gpu_runs_on_a_cpu(ran: Any, script: Any, monkeypatch: Any) -> None:
    made_scene = script("made_instances").made_scene
    monkeypatch.setattr(sam2, "LEAST_IOU", sam2.LEAST_IOU)  # which random weights lower

    def small() -> Any:
        return made_scene(64, 96, 2, 0.05, 0.5, 0)

    tiny = ["--device", "cpu", "--name", "sam2.1_hiera_tiny", "--images", "1", "--size", "128"]
    printed = ran("gpu_refine", *tiny, coco_scene=small, street_scene=small, BATCHES=1)
    found = [line.split()[0] for line in printed if LINE.match(line)]
    rows = ("throughput", "iou", "coco", "cityscapes")
    assert found == [f"gpu_refine_{row}" for row in rows]
    assert sum("naive in bfloat16" in line for line in printed) == 2


def test_refine_with_views_of_a_gpu_runs_on_a_cpu(ran: Any) -> None:
    tiny = ["--device", "cpu", "--name", "sam2.1_hiera_tiny", "--image-size", "128"]
    small = ["--pictures", "1", "--side", "64"]
    printed = ran("gpu_paper", *tiny, *small, INSTANCES=2, measure_steps=lambda *_: None)
    assert [line.split(":")[0] for line in printed[:4]] == ["image", "tiles", "windows", "auto"]
    assert "1.0 encoder passes an image" in printed[0]
    assert LINE.match(printed[-1]), printed


@pytest.mark.parametrize(
    ("checkpoint", "least"), [("random", 0.9), ("sam2.1_hiera_large.pt", 0.995)]
)
def test_real_weights_must_agree_closely_with_the_released_loop(
    checkpoint: str, least: float, script: Any
) -> None:
    module = script("gpu_refine")
    assert module._least_agreement(SimpleNamespace(checkpoint=checkpoint)) == least
    assert module._named("coco", SimpleNamespace(compile=True)) == "gpu_refine_coco_compiled"


def test_deformable_attention_is_held_against_compiled_operators(
    ran: Any, script: Any, capsys: Any
) -> None:
    module = script("deformable_attention")
    module.against_compiled(lambda: [_ones()], lambda: [_ones()])
    printed = capsys.readouterr().out.splitlines()
    assert re.match(r"deformable_attention_compiled ratio=\S+ goal=0.77 (ok|short)$", printed[-1])
    with pytest.raises(SystemExit, match="away from the compiled"):
        module.against_compiled(lambda: [_ones()], lambda: [2 * _ones()])


def _ones() -> Any:
    import torch

    return torch.ones(3)
