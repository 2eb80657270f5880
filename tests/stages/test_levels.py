"""Levels of a whole run: decided once, in fingerprints and in the checkpoint, told at the start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.config_file import load_config
from s4m_pipeline.data.images import read_sized_image
from s4m_pipeline.data.levels import Levels
from s4m_pipeline.engine.image_sources import UNLABELLED
from s4m_pipeline.engine.perform import check_stage, freshness, perform
from s4m_pipeline.engine.reading import ShownPicture
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.predictor import Predictor
from s4m_pipeline.stages.detections import DETECTIONS
from s4m_pipeline.stages.evaluate import Evaluate
from tests.workshop import Workshop

SHORT = ("teacher.iterations=2", "teacher.structure_weight=0", "data.validation=null")


def deepen(folder: Path, times: int, count: int | None = None) -> None:
    """Write pictures anew under their names, as 16-bit grey of some times their values."""
    for path in sorted(folder.glob("*"))[:count]:
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L")).astype(np.uint16)
        Image.fromarray(grey * times).save(path, "PNG")


@pytest.fixture
def deep(empty_workshop: Workshop, tmp_path: Path) -> Workshop:
    """Labelled pictures of 11 bits, one unlabelled picture of 12, validation pictures of 8."""
    own = empty_workshop.copy(tmp_path / "run")
    deepen(own.folder / "scenes" / "labelled", 8)
    deepen(own.folder / "scenes" / "unlabelled", 16, 1)
    return own


def test_one_rule_for_all_sets_of_a_run(deep: Workshop) -> None:
    run = deep.run()
    assert run.images.reading.levels == Levels(0, 4095, clips=False)
    pictures = {}
    for images in (run.images.labelled, run.images.unlabelled, run.images.validation):
        assert images is not None
        for record in images.images:
            assert record.reading == run.images.reading
            size = (record.height, record.width)
            pictures[record.path] = read_sized_image(record.path, *size, record.reading)
    for path, picture in pictures.items():
        with Image.open(path) as image:
            stored = np.asarray(image).astype(int)
        if stored.ndim == 3:
            assert np.array_equal(picture, stored)  # 8 bits
        else:
            assert np.array_equal(picture[..., 0], stored // 16)
    shown = ShownPicture(UNLABELLED.records(run)[0]).read()
    assert np.array_equal(shown, pictures[UNLABELLED.records(run)[0].path])


def test_they_are_in_fingerprints_where_they_change_something(
    deep: Workshop, empty_workshop: Workshop, tmp_path: Path
) -> None:
    plain = empty_workshop.copy(tmp_path / "plain")
    teacher = stage_named("train-teacher")
    assert teacher.inputs(deep.run())["data.levels"] == "0..4095"
    assert "data.levels" not in teacher.inputs(plain.run())
    window = deep.run("data.levels=[0, 2000]")
    assert window.fingerprint(teacher) != deep.run().fingerprint(teacher)
    for name in ("structure", "pseudo-label", "refine", "train-student"):
        assert stage_named(name).inputs(window)["data.levels"] == "0..2000"


def test_the_checkpoint_holds_them_and_an_evaluation_goes_by_them(deep: Workshop) -> None:
    run = deep.run(*SHORT)
    manifest = perform(run, stage_named("train-teacher"))
    assert manifest.inputs["data.levels"] == "0..4095"
    checkpoint = run.folder(stage_named("train-teacher")) / CHECKPOINT
    assert Predictor(checkpoint, "cpu").levels == Levels(0, 4095, clips=False)
    # by path, in a run of another rule: the checkpoint's counts
    found = []
    for levels in ("auto", "[0, 300]"):
        other = deep.run(*SHORT, f"data.levels={levels}")
        stage = Evaluate(str(checkpoint), split="labelled", reuse=False)
        perform(other, stage)
        found.append((other.folder(stage) / DETECTIONS).read_bytes())
    assert found[0] == found[1]
    # pictures that are outside of them are set aside by name
    deepen(deep.folder / "scenes" / "validation", 257, 1)
    other = deep.run(*SHORT[:2])
    stage = Evaluate(str(checkpoint), split="validation", reuse=False)
    assert perform(other, stage).counts["quarantined"] == 1


def test_a_run_tells_of_pictures_that_use_few_levels(
    deep: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = stage_named("train-teacher")
    check_stage(deep.run(), teacher)
    assert "under a tenth" not in capsys.readouterr().err
    deepen(deep.folder / "scenes" / "validation", 257, 1)
    bright = deep.run()
    assert bright.images.reading.levels == Levels(0, 65535, clips=False)
    assert freshness(bright, teacher).state == "missing"
    check_stage(bright, teacher)
    told = capsys.readouterr().err
    assert "6 pictures use under a tenth of the levels 0..65535" in told
    assert "Set data.levels" in told


def test_wrong_levels_are_refused(deep: Workshop) -> None:
    for wrong in ("[4095]", "[5, 5]", "[1, 0]", "[0, .inf]", "bits", "true", "[a, b]"):
        with pytest.raises(UsageError, match=r"data\.levels"):
            load_config(deep.config, [f"data.levels={wrong}"])


def test_pictures_as_stored_reach_all_sets_and_fingerprints(deep: Workshop) -> None:
    run = deep.run("data.exif=ignore")
    for images in (run.images.labelled, run.images.unlabelled, run.images.validation):
        assert images is not None
        assert not any(image.reading.upright for image in images.images)
    teacher = stage_named("train-teacher")
    assert teacher.inputs(run)["data.exif"] == "ignore"
    assert "data.exif" not in teacher.inputs(deep.run())
