"""A segmenter that a test adds, its file and a line, goes through a run with no other edit."""

import hashlib
from pathlib import Path

import pytest

from s4m_pipeline.artifacts.manifest import read_manifest
from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.segmenter import build
from s4m_pipeline.segmenter.build import build_segmenter, own_weights, segmenter_names
from s4m_pipeline.stages.calibration.calibrate import Calibrate
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.segmenter_settings import segmenter_digest
from s4m_pipeline.stages.structure import Structure
from tests.segmenter import added_segmenter

SETTINGS = (
    "segmenter.name=discs",
    "segmenter.image_size=null",
    "calibration.iterations=20",
    "refine.min_score=0.02",
)


@pytest.fixture
def added(monkeypatch):
    monkeypatch.setattr(build, "SPECS", (*build.SPECS, "tests.segmenter.added_segmenter:SPEC"))
    monkeypatch.setattr(added_segmenter.Discs, "made", [])
    monkeypatch.setattr(added_segmenter.Discs, "encoded", 0)


def test_it_is_found_and_built_by_name(added):
    assert segmenter_names()["discs"] == "a disc for every prompt"
    assert build_segmenter("discs", None, None, "cpu").name == "discs"
    assert own_weights("discs") == Path(added_segmenter.__file__)


def test_its_own_check_refuses_and_it_is_listed_where_a_name_is_unknown(added, empty_workshop, s4m):
    code, _, err = s4m("structure", "-c", empty_workshop.config, "segmenter.name=discs")
    assert (code, "segmenter discs takes 128 px only, not 64" in err) == (2, True)
    code, _, err = s4m("structure", "-c", empty_workshop.config, "segmenter.name=dots")
    assert code == 2
    assert f"unknown segmenter 'dots'; there are {', '.join(segmenter_names())}" in err
    assert "demo, discs" in err


@pytest.mark.slow
def test_a_run_and_a_calibration_use_it_and_its_weights_are_in_the_fingerprint(
    added, empty_workshop, tmp_path, s4m
):
    copy = empty_workshop.copy(tmp_path / "run")
    for stage in ("structure", "train-teacher", "pseudo-label", "refine"):
        code, _, err = s4m(stage, "-c", copy.config, *SETTINGS)
        assert code == 0, err
    run = copy.run(*SETTINGS)
    own = hashlib.sha256(Path(added_segmenter.__file__).read_bytes()).hexdigest()
    assert segmenter_digest(run) == own
    for stage in (Structure(), Refine()):
        assert read_manifest(run.folder(stage)).inputs["segmenter"] == own
    assert {choice.name for choice in added_segmenter.Discs.made} == {"discs"}
    assert added_segmenter.Discs.encoded == 5 + 18  # the labelled images and the unlabelled ones
    assert "refined" in read_table(run.folder(Refine()), "refined")["decision"].to_pylist()
    code, _, err = s4m("refine", "--calibrate", "-c", copy.config, *SETTINGS)
    assert code == 0, err
    assert read_manifest(run.folder(Calibrate())).inputs["segmenter"] == own
