"""The segmenter's part in a fingerprint, and how a worker's is made."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s4m_pipeline.config import RunConfig
from s4m_pipeline.config_file import load_config
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.engine.run import Run
from s4m_pipeline.segmenter import demo_spec
from s4m_pipeline.segmenter.demo_spec import DEMO_WEIGHTS
from s4m_pipeline.segmenter.sam2 import Sam2Segmenter
from s4m_pipeline.stages import segmenter_settings
from s4m_pipeline.stages.segmenter_settings import SegmenterSettings
from s4m_pipeline.stages.structure import Structure

RUN = """
work_dir: work
data: {labelled: {images: ., annotations: labelled.json}}
segmenter: {name: demo}
"""


def _run(folder: Path) -> Run:
    (folder / "labelled.json").write_text('{"images": [], "annotations": [], "categories": []}')
    (folder / "run.yaml").write_text(RUN)
    return Run(load_config(folder / "run.yaml"))


def test_packaged_weights_are_digested_by_content(tmp_path: Path) -> None:
    digest = segmenter_settings.segmenter_digest(_run(tmp_path))
    assert demo_spec.SPEC.own_weights == DEMO_WEIGHTS
    assert digest == hashlib.sha256(DEMO_WEIGHTS.read_bytes()).hexdigest()


def test_other_packaged_weights_make_another_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Structure().sources(_run(tmp_path))["segmenter"]
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other weights")
    monkeypatch.setattr(demo_spec, "SPEC", replace(demo_spec.SPEC, own_weights=other))
    assert Structure().sources(_run(tmp_path))["segmenter"] != before


def test_a_segmenter_without_a_checkpoint_has_no_other_ones_weights(tmp_path: Path) -> None:
    run = _run(tmp_path)
    for name in ("sam2.1_hiera_tiny", "mobilesam", "no such segmenter"):
        run.config.segmenter.name = name
        assert segmenter_settings.segmenter_digest(run) == segmenter_settings.NO_WEIGHTS


@pytest.fixture
def records(tmp_path: Path) -> dict[int, ImageRecord]:
    """Six images by id, in no order; the second by id is no image."""
    images = {}
    for number in (5, 2, 4, 1, 6, 3):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((40, 60, 3), number, np.uint8)).save(path)
        images[number] = ImageRecord(number, path.name, path, 40, 60)
    images[2].path.write_bytes(b"no image")
    return images


def test_a_faster_way_is_proved_on_the_first_images_whatever_a_worker_gets(
    records: dict[int, ImageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    whole = Sam2Segmenter._hold_against_float32

    def noting(self: Sam2Segmenter, images: list[np.ndarray]) -> None:
        seen.append([int(image[0, 0, 0]) for image in images])
        whole(self, images)

    monkeypatch.setattr(Sam2Segmenter, "_hold_against_float32", noting)
    settings = SegmenterSettings("demo", None, None, 3, "cpu", "bfloat16")
    segmenter = settings.build("cpu", records)
    assert seen == [[1, 3, 4, 5]]
    segmenter.encode([np.full((40, 60, 3), 6, np.uint8)])
    assert len(seen) == 1


def test_float32_reads_no_image(records: dict[int, ImageRecord]) -> None:
    for record in records.values():
        record.path.unlink()
    segmenter = SegmenterSettings("demo", None, None, 1, "cpu").build("cpu", records)
    assert segmenter.proved
    assert not segmenter.warnings


@pytest.mark.parametrize(
    ("device", "set_to", "expected"),
    [("cpu", None, 1), ("cuda", None, 16), ("cuda:1", None, 16), ("cuda", 3, 3), ("cpu", 5, 5)],
)
def test_a_gpu_gets_sixteen_images_at_a_time_unless_told_otherwise(
    tmp_path: Path, device: str, set_to: int | None, expected: int
) -> None:
    labelled = {"images": tmp_path, "annotations": tmp_path / "labels.json"}
    config = RunConfig.model_validate(
        {
            "work_dir": tmp_path,
            "data": {"labelled": labelled},
            "segmenter": {"batch_size": set_to},
        }
    )
    assert SegmenterSettings.of(config, device).batch_size == expected
