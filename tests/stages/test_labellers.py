"""Several views and teachers in a run: artifacts, fingerprints, lineage and refusals."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from s4m_pipeline.artifacts.manifest import read_manifest
from s4m_pipeline.artifacts.tables import read_table, write_table
from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.config_views import read_views
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.engine.perform import freshness, perform
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.engine.run import Run
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.models.checkpoints import read_checkpoint, write_checkpoint
from s4m_pipeline.models.predictor import InstancePredictions
from s4m_pipeline.stages.calibration.held_out import HeldOut
from s4m_pipeline.stages.prediction_rows import prediction_rows
from s4m_pipeline.stages.prediction_settings import PredictionSettings
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.workflow.pipeline import run_all, stages_of_round
from tests.workshop import Workshop

VIEWS = "pseudo_label.views=[image, flip, 1.5]"


def scripted(seed: int) -> InstancePredictions:
    """Round blobs of two classes on 16 x 20 cells of 4 pixels."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :20]
    logits = []
    for _ in range(6):
        cy, cx = generator.integers(2, 14), generator.integers(2, 18)
        r = generator.integers(2, 6)
        logits.append((r * r - (y - cy) ** 2 - (x - cx) ** 2) / 4)
    probs = generator.integers(1, 100, (6, 2)) / 128
    return InstancePredictions(probs.astype(np.float32), np.array(logits, np.float32), 4.0)


def test_all_columns_of_one_view_hold_the_bytes_that_they_held_before_there_were_views(
    tmp_path: Path,
) -> None:
    """The digest is of what the version before views wrote."""
    settings, rows = PredictionSettings(5, 0.2, 4), []
    for number in range(3):
        record = ImageRecord(number, f"{number}.png", Path(), 64, 80)
        rows += prediction_rows(record, (64, 80), scripted(number), [3, 1], settings)
    classes = [{"id": 3, "name": "a"}, {"id": 1, "name": "b"}]
    write_table(tmp_path / "predictions" / "0.parquet", "predictions", rows, classes)
    table = read_table(tmp_path, "predictions")
    assert table["views_seen"].to_pylist() == [1] * 17
    assert digest(table.drop_columns(["views_seen"])) == BEFORE


BEFORE = "b9ef19a311f38b1eeed0d469409d9ac07799cfb0e1e9150a91f1a0c087d488fd"


def digest(table: pa.Table) -> str:
    sha = hashlib.sha256()
    for name in table.schema.names:
        for value in table[name].to_pylist():
            sha.update(value if isinstance(value, bytes) else repr(value).encode())
    return sha.hexdigest()


def predictions(run: Run) -> pa.Table:
    return read_table(run.folder(PseudoLabel()), "predictions")


@pytest.fixture(scope="module")
def finished(finished: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A copy, since artifacts of other settings are made in it."""
    return finished.copy(tmp_path_factory.mktemp("labellers") / "run")


@pytest.fixture(scope="module")
def viewed(finished: Workshop) -> tuple[Workshop, pa.Table]:
    """The finished workshop with labels of three views as well, and those."""
    run = finished.run(VIEWS)
    perform(run, PseudoLabel())
    return finished, predictions(run)


def test_views_make_one_table_with_how_many_saw_each_and_count_their_passes(
    viewed: tuple[Workshop, pa.Table],
) -> None:
    workshop, table = viewed
    run = workshop.run(VIEWS)
    seen = table["views_seen"].to_pylist()
    assert set(seen) <= {1, 2, 3}
    assert max(seen) > 1
    assert min(table["score"].to_pylist()) >= np.float32(run.config.pseudo_label.min_score)
    manifest = read_manifest(run.folder(PseudoLabel()))
    assert manifest.counts["passes"] == 3 * manifest.counts["images"]
    assert manifest.config["views"] == ["image", "flip", "1.5"]
    alone = read_manifest(workshop.run().folder(PseudoLabel()))
    assert "passes" not in alone.counts
    assert not {"views", "teachers"} & alone.config.keys()
    assert predictions(workshop.run())["views_seen"].to_pylist() == [1] * alone.counts["instances"]


def test_scores_are_shares_of_all_views(viewed: tuple[Workshop, pa.Table]) -> None:
    """What a view sees counts at most one third of it, whatever else is seen."""
    for row in viewed[1].to_pylist():
        assert row["score"] <= row["views_seen"] / 3 + 1e-6
        assert row["score"] == max(row["class_probs"])


@pytest.mark.parametrize(
    "overrides",
    [["pseudo_label.batch_size=1"], ["pseudo_label.batch_size=7"], ["execution.workers=2"]],
)
def test_labels_of_views_do_not_depend_on_batches_or_workers(
    viewed: tuple[Workshop, pa.Table], overrides: list[str]
) -> None:
    workshop, table = viewed
    run = workshop.run(VIEWS, *overrides)
    perform(run, PseudoLabel(), force=True)
    assert predictions(run).equals(table)


def test_labels_of_views_do_not_depend_on_where_a_run_was_stopped(
    viewed: tuple[Workshop, pa.Table],
) -> None:
    """Without its manifest and a shard's marker it is what a stopped stage leaves."""
    workshop, table = viewed
    run = workshop.run(VIEWS)
    folder = run.folder(PseudoLabel())
    (folder / "manifest.json").unlink()
    markers = sorted((folder / "shards").glob("*.json"))
    markers[0].unlink()
    manifest = perform(run, PseudoLabel())
    assert predictions(workshop.run(VIEWS)).equals(table)
    assert manifest.counts["passes"] == 3 * manifest.counts["images"]


def test_a_view_more_is_another_artifact_and_the_same_views_in_another_order_are_not(
    finished: Workshop,
) -> None:
    def fingerprint(*overrides: str) -> str:
        return finished.run(*overrides).fingerprint(PseudoLabel())

    assert fingerprint("pseudo_label.views=[image]") == fingerprint()
    assert fingerprint(VIEWS) != fingerprint()
    assert fingerprint("pseudo_label.views=[1.5, flip, image]") == fingerprint(VIEWS)
    assert fingerprint("pseudo_label.views=[image, flip]") != fingerprint(VIEWS)


def test_the_plan_says_how_often_networks_look(
    finished: Workshop, s4m: Callable[..., object]
) -> None:
    code, out, err = s4m("pseudo-label", "-c", finished.config, "--dry-run", VIEWS, "seed=9")
    assert code in (0, 3), err
    assert "3 passes of a network an image" in " ".join(out.split())
    assert PseudoLabel().plan(finished.run()).passes == 1
    several = "pseudo_label.teachers=[cross-fit, rounds]"
    assert PseudoLabel().plan(finished.run(VIEWS, several)).passes == 9
    assert PseudoLabel(round=3).plan(finished.run(VIEWS, several)).passes == 15


@pytest.fixture(scope="module")
def other(finished: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of another run: a folder with its checkpoint."""
    run = finished.run("seed=2", "teacher.iterations=5")
    for stage in stages_of_round(run.config, 1)[:2]:
        perform(run, stage)
    folder = tmp_path_factory.mktemp("other") / "seed 2"
    shutil.copytree(run.folder(stage_named("train-teacher")), folder)
    return folder


def teachers(*given: object) -> str:
    return f"pseudo_label.teachers={[str(one) for one in given]}"


def test_a_teacher_of_another_run_labels_beside_the_own(finished: Workshop, other: Path) -> None:
    run = finished.run(teachers(other))
    manifest = perform(run, PseudoLabel())
    assert manifest.counts["passes"] == 2 * manifest.counts["images"]
    assert set(predictions(run)["views_seen"].to_pylist()) <= {1, 2}
    assert manifest.config["teachers"] == ["checkpoint"]
    # the folder or the file, here or there: what it holds counts
    by_file = finished.run(teachers(other / CHECKPOINT))
    assert by_file.fingerprint(PseudoLabel()) == run.fingerprint(PseudoLabel())
    in_work = finished.run(teachers(f"train-teacher/{read_manifest(other).fingerprint}"))
    assert in_work.fingerprint(PseudoLabel()) == run.fingerprint(PseudoLabel())
    assert freshness(in_work, PseudoLabel()).state == "fresh"


def changed(other: Path, target: Path, **changes: object) -> Path:
    """A copy of a checkpoint with some parts changed, without a manifest."""
    stored = read_checkpoint(other / CHECKPOINT)
    write_checkpoint(target / "other.pth", replace(stored, **changes))
    return target / "other.pth"


def test_another_checkpoint_at_the_same_path_makes_labels_stale(
    finished: Workshop, other: Path, tmp_path: Path
) -> None:
    path = changed(other, tmp_path)
    run = finished.run(teachers(path))
    perform(run, PseudoLabel())
    changed(other, tmp_path, iterations=6)
    standing = freshness(finished.run(teachers(path)), PseudoLabel())
    assert standing.state == "stale"
    assert "the checkpoints of pseudo_label.teachers changed" in standing.why


def test_classes_in_another_order_are_put_in_the_runs(
    finished: Workshop, other: Path, tmp_path: Path
) -> None:
    from s4m_pipeline.models.labeller.labeller import open_labeller

    stored = read_checkpoint(other / CHECKPOINT)
    turned = changed(other, tmp_path, categories=stored.categories[::-1])
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    views = read_views(["image"])
    (alone,) = open_labeller([other / CHECKPOINT], views, "cpu").predict([image])
    labeller = open_labeller([other / CHECKPOINT, turned], views, "cpu")
    (both,) = labeller.predict([labeller.scaled(image)])
    # the second says of each class what the first says of the opposite one
    pairs = alone.class_probs[:, ::-1]
    sums = np.concatenate([alone.class_probs, pairs]) / 2
    for row, seen in zip(both.class_probs, both.views_seen, strict=True):
        if seen == 1:
            assert np.isclose(sums, row, atol=1e-6).all(axis=1).any()


def test_teachers_that_do_not_fit_are_refused_by_name(
    finished: Workshop, other: Path, tmp_path: Path
) -> None:
    stored = read_checkpoint(other / CHECKPOINT)
    renamed = [{**stored.categories[0], "name": "elephant"}, *stored.categories[1:]]
    path = changed(other, tmp_path, categories=renamed)
    with pytest.raises(UsageError, match=r"other\.pth and data\.labelled have different.*elephant"):
        perform(finished.run(teachers(path)), PseudoLabel())
    with pytest.raises(
        UsageError, match=r"there is no '.*gone\.pth': each is cross-fit, rounds, or"
    ):
        perform(finished.run(teachers(tmp_path / "gone.pth")), PseudoLabel())
    with pytest.raises(UsageError, match="'rounds' adds those of all rounds before"):
        perform(finished.run(teachers("student-2")), PseudoLabel())
    with pytest.raises(UsageError, match=r"holds no checkpoint\.pth"):
        perform(finished.run(teachers(finished.folder)), PseudoLabel())
    (tmp_path / "words.pth").write_text("words")
    with pytest.raises(UsageError, match=r"words\.pth"):
        perform(finished.run(teachers(tmp_path / "words.pth")), PseudoLabel())


def test_a_checkpoint_that_would_count_twice_is_refused(
    finished: Workshop, other: Path, tmp_path: Path
) -> None:
    shutil.copy(other / CHECKPOINT, tmp_path / "copy.pth")
    with pytest.raises(UsageError, match=r"copy\.pth is the same checkpoint as .*seed 2"):
        perform(finished.run(teachers(other, tmp_path / "copy.pth")), PseudoLabel())
    own = finished.run().folder(stage_named("train-teacher"))
    with pytest.raises(UsageError, match="is the same checkpoint as the round's own"):
        perform(finished.run(teachers(own)), PseudoLabel())


def test_a_checkpoint_that_its_manifest_does_not_know_is_refused(
    finished: Workshop, other: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(other, folder)
    content = (folder / CHECKPOINT).read_bytes()
    (folder / CHECKPOINT).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtifactError, match="SHA-256 is not the manifest's"):
        perform(finished.run(teachers(folder)), PseudoLabel())


def test_pictures_that_were_read_otherwise_are_refused(
    finished: Workshop, other: Path, tmp_path: Path
) -> None:
    stored = read_checkpoint(other / CHECKPOINT)
    path = changed(other, tmp_path, info={**stored.info, "levels": [0, 4095, True]})
    narrow = finished.run(teachers(path), "data.levels=[0, 1000]")
    with pytest.raises(UsageError, match=r"learned at data\.levels 0\.\.4095, this .*0\.\.1000"):
        PseudoLabel().check(narrow)
    PseudoLabel().check(finished.run(teachers(path)))  # its pictures have 8 bits
    PseudoLabel().check(finished.run(teachers(path), "data.levels=[0, 4095]"))
    with pytest.raises(UsageError, match=r"learned with data\.exif: upright, this run has ignore"):
        PseudoLabel().check(finished.run(teachers(other), "data.exif=ignore"))


@pytest.fixture(scope="module")
def crossed(finished: Workshop) -> Run:
    """A run whose calibration's teachers label, too."""
    run = finished.run("pseudo_label.teachers=[cross-fit]", "calibration.iterations=4", VIEWS)
    run_all(run, stages_of_round(run.config, 1)[:4])
    return run


def test_the_calibrations_teachers_label_and_are_made_before(crossed: Run) -> None:
    names = [stage.name for stage in stages_of_round(crossed.config, 1)]
    assert names.index("cross-fit") < names.index("pseudo-label")
    manifest = read_manifest(crossed.folder(PseudoLabel()))
    assert manifest.counts["passes"] == 9 * manifest.counts["images"]
    cross_fit = stage_named("cross-fit")
    assert manifest.inputs["cross-fit"] == crossed.fingerprint(cross_fit)
    kept = read_manifest(crossed.folder(cross_fit))
    assert {entry.path for entry in kept.files} >= {f"folds/{n}/{CHECKPOINT}" for n in (0, 1)}
    assert kept.counts["passes"] == 3 * kept.counts["images"]
    seen = read_table(crossed.folder(cross_fit), "predictions")["views_seen"].to_pylist()
    assert set(seen) <= {1, 2, 3}


def test_a_calibration_that_does_not_label_keeps_no_weights_and_its_name(
    finished: Workshop,
) -> None:
    cross_fit = stage_named("cross-fit")
    config = finished.run("pseudo_label.thresholds=precision").config
    assert "weights" not in cross_fit.settings(config)
    assert "views" not in cross_fit.settings(config)
    assert cross_fit.settings(finished.run(VIEWS).config)["views"] == ["image", "flip", "1.5"]


def test_more_passes_than_can_be_counted_are_refused(finished: Workshop, tmp_path: Path) -> None:
    many = [tmp_path / f"{number}.pth" for number in range(85)]
    with pytest.raises(UsageError, match=r"make 258 passes over a picture; 255 are the most"):
        PseudoLabel().check(finished.run(VIEWS, teachers(*many)))


def test_precision_is_told_to_be_of_one_teacher(finished: Workshop, other: Path, capsys) -> None:
    run = finished.run(teachers(other), "pseudo_label.thresholds=precision")
    PseudoLabel().check(run)
    assert "measured with one teacher an image" in capsys.readouterr().err


def test_the_models_of_rounds_before_label_and_not_those_to_come(finished: Workshop) -> None:
    config = finished.run("pseudo_label.teachers=[rounds]").config
    assert set(PseudoLabel().upstream(config)) == {"teacher"}
    third = PseudoLabel(round=3).upstream(config)
    assert {name: (stage.name, stage.round) for name, stage in third.items()} == {
        "teacher": ("train-student", 2),
        "teacher-0": ("train-teacher", 1),
        "teacher-1": ("train-student", 1),
    }


def test_held_out_labels_are_of_the_same_views_or_of_one(viewed: tuple[Workshop, pa.Table]) -> None:
    workshop, _ = viewed
    run = workshop.run(VIEWS)
    several = perform(run, HeldOut())
    alone = perform(run, HeldOut(alone=True))
    assert several.counts["passes"] == 3 * several.counts["images"]
    assert "passes" not in alone.counts
    assert alone.fingerprint == workshop.run().fingerprint(HeldOut())
    assert HeldOut(alone=True).title != HeldOut().title
