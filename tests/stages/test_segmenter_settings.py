"""The segmenter's part in a fingerprint."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from s4m_pipeline.config_file import load_config
from s4m_pipeline.segmenter.demo import DEMO_WEIGHTS
from s4m_pipeline.stages import segmenter_settings
from s4m_pipeline.stages.base import Run
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
    assert segmenter_settings.PACKAGED_WEIGHTS == DEMO_WEIGHTS
    assert digest == hashlib.sha256(DEMO_WEIGHTS.read_bytes()).hexdigest()


def test_other_packaged_weights_make_another_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Structure().sources(_run(tmp_path))["segmenter"]
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other weights")
    monkeypatch.setattr(segmenter_settings, "PACKAGED_WEIGHTS", other)
    assert Structure().sources(_run(tmp_path))["segmenter"] != before
