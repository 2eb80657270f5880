"""All stages end to end, alone, again and in parts."""

import json
import multiprocessing
import shutil

import numpy as np
import pytest
from pycocotools import mask as mask_api

from s4m_pipeline.artifacts import file_facts
from s4m_pipeline.artifacts.manifest import read_manifest, verify
from s4m_pipeline.artifacts.sealed import write_sealed
from s4m_pipeline.artifacts.table_definitions import TABLES
from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.structure import Structure
from s4m_pipeline.stages.train_student import TrainStudent
from s4m_pipeline.workflow.pipeline import run_all, stages_of, status


def table(workshop, stage, name):
    return read_table(workshop.run().folder(stage), name)


def assert_same_rows(first, second):
    """Compare two tables: figures to 1e-4, everything else exactly."""
    assert first.num_rows == second.num_rows
    for a, b in zip(first.to_pylist(), second.to_pylist(), strict=True):
        for key, value in a.items():
            if isinstance(value, (float, list)):
                np.testing.assert_allclose(b[key], value, atol=1e-4, err_msg=key)
            else:
                assert b[key] == value, key


def test_every_stage_leaves_a_verified_artifact_and_is_fresh(finished):
    run = finished.run()
    for stage in stages_of(run.config):
        folder = run.folder(stage)
        manifest = read_manifest(folder)
        assert manifest.fingerprint == folder.name
        assert manifest.files
        assert verify(folder, manifest) == []
        assert sum(f.is_file() for f in folder.glob("request.json")) == 0
    assert {row["state"] for row in status(run)} == {"fresh"}


def test_a_second_run_changes_nothing(finished, monkeypatch):
    monkeypatch.setattr(file_facts, "YOUNG", -(10**18))  # the scenes were copied just now
    status(finished.run())
    before = {p: p.stat().st_mtime_ns for p in (finished.folder / "work").rglob("*.*")}
    run_all(finished.run())
    assert {p: p.stat().st_mtime_ns for p in (finished.folder / "work").rglob("*.*")} == before


def test_tables_have_their_schemas_and_are_sorted_by_image(finished):
    for stage, name in (
        (PseudoLabel(), "predictions"),
        (Refine(), "refined"),
        (Refine(), "structure"),
        (Structure(), "structure"),
    ):
        rows = table(finished, stage, name)
        assert rows.num_rows
        assert rows.schema.remove_metadata() == TABLES[name].schema
        ids = rows["image_id"].to_pylist()
        assert ids == sorted(ids)


def test_predictions_masks_boxes_and_areas_agree(finished):
    for row in table(finished, PseudoLabel(), "predictions").to_pylist():
        mask = mask_api.decode({"size": [row["height"], row["width"]], "counts": row["mask_rle"]})
        assert mask.sum() == row["area"] > 0
        ys, xs = np.nonzero(mask)
        box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
        assert row["bbox"] == box
        assert len(row["prompt_points"]) == 2 * 6
        assert 0.02 <= row["score"] == pytest.approx(max(row["class_probs"]))
        assert len(row["soft_mask"]) == row["soft_mask_box"][2] * row["soft_mask_box"][3]


def test_refined_rows_keep_the_teachers_mask_and_say_what_was_decided(finished):
    before = {
        (row["image_id"], row["instance_id"]): row
        for row in table(finished, PseudoLabel(), "predictions").to_pylist()
    }
    refined = table(finished, Refine(), "refined").to_pylist()
    assert len(refined) == len(before)
    for row in refined:
        teacher = before[row["image_id"], row["instance_id"]]
        assert row["teacher_mask_rle"] == teacher["mask_rle"]
        assert (row["score"] <= 0.05) <= (row["decision"] == "dropped")
        if row["decision"] != "refined":
            assert row["mask_rle"] == teacher["mask_rle"]
            assert row["reason"]
        else:
            size = [row["height"], row["width"]]
            pair = [{"size": size, "counts": row[k]} for k in ("mask_rle", "teacher_mask_rle")]
            iou = mask_api.iou([pair[0]], [pair[1]], [0])[0, 0]
            assert row["agreement"] == pytest.approx(iou, abs=1e-6)
            assert row["agreement"] >= 0.05
    counts = read_manifest(finished.run().folder(Refine())).counts
    decisions = [row["decision"] for row in refined]
    assert counts["refined"] == decisions.count("refined")
    assert counts["dropped"] == decisions.count("dropped")
    assert counts["instances"] == counts["refined"] + counts["kept"] > 0


def test_the_students_artifact_has_the_page_of_its_labels(finished):
    folder = finished.run().folder(TrainStudent())
    text = (folder / "labels.html").read_text()
    assert "Labels against the labelled rate" in text
    assert "labels.html" in {entry.path for entry in read_manifest(folder).files}


def test_structure_of_unlabelled_images_comes_from_refine(finished):
    rows = table(finished, Refine(), "structure").to_pylist()
    assert len(rows) == 18
    for row in rows:
        assert len(row["similarity"]) == 8 * 16 * 16
        assert len(row["points"]) == 16


def test_evaluations_stand_in_their_manifests(finished):
    run = finished.run()
    for stage in stages_of(run.config)[-2:]:
        metrics = read_manifest(run.folder(stage)).metrics
        assert set(metrics) == {"segm", "bbox", "boundary", "engine"}
        assert set(metrics["segm"]["per_class"])


def test_each_inference_stage_alone_writes_the_same_bytes_again(finished, tmp_path):
    copy = finished.copy(tmp_path / "run")
    run = copy.run()
    for stage in (Structure(), PseudoLabel(), Refine()):
        folder = run.folder(stage)
        digests = {f.path: f.sha256 for f in read_manifest(folder).files}
        shutil.rmtree(folder)
        from s4m_pipeline.engine.perform import perform

        again = perform(copy.run(), stage)
        assert {f.path: f.sha256 for f in again.files} == digests


@pytest.fixture
def quick_workers(monkeypatch):
    """Fork the workers off one process that has imported what each would import for itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["s4m_pipeline.models.training", "s4m_pipeline.segmenter.sam2"])
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: context)


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(("execution.workers=2",), marks=pytest.mark.slow),
        ("segmenter.batch_size=1", "pseudo_label.batch_size=1"),
        ("segmenter.batch_size=5", "pseudo_label.batch_size=5"),
    ],
    ids=["two workers", "batches of 1", "batches of 5"],
)
def test_labels_depend_neither_on_batch_size_nor_on_workers(finished, tmp_path, overrides):
    from s4m_pipeline.engine.perform import perform

    copy = finished.copy(tmp_path / "run")
    run = copy.run(*overrides)
    for stage, name in ((PseudoLabel(), "predictions"), (Refine(), "refined")):
        before = table(finished, stage, name)
        assert run.fingerprint(stage) == finished.run().fingerprint(stage)
        shutil.rmtree(run.folder(stage))
        perform(run, stage)
        after = read_table(run.folder(stage), name)
        assert_same_rows(after, before)


def test_an_interrupted_stage_goes_on_where_it_stopped(finished, tmp_path, monkeypatch):
    from s4m_pipeline.engine.perform import freshness, perform
    from s4m_pipeline.stages.refine.worker import RefineWorker

    copy = finished.copy(tmp_path / "run")
    run = copy.run()
    digests = {f.path: f.sha256 for f in read_manifest(run.folder(Refine())).files}
    shutil.rmtree(run.folder(Refine()))
    real = RefineWorker.open
    shards = []

    def stops_in_the_second(self, shard, advance):
        shards.append(shard.number)
        if len(shards) == 2:
            raise KeyboardInterrupt
        return real(self, shard, advance)

    monkeypatch.setattr(RefineWorker, "open", stops_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        perform(run, Refine())
    assert freshness(copy.run(), Refine()).state == "unfinished"
    manifest = perform(copy.run(), Refine())
    assert shards == [0, 1, 1]  # the first one's marker was there
    assert {f.path: f.sha256 for f in manifest.files} == digests


def test_changed_settings_make_later_stages_stale_and_say_why(finished):
    rows = {row["stage"]: row for row in status(finished.run("refine.points=2"))}
    assert rows["pseudo-label"]["state"] == "fresh"
    assert rows["refine"]["state"] == "stale"
    assert "refine.points: 3 -> 2" in rows["refine"]["why"]
    assert rows["train-student"]["state"] == "stale"
    assert "refined:" in rows["train-student"]["why"]


def test_force_makes_a_new_version_and_what_follows_stale(finished, tmp_path, s4m):
    copy = finished.copy(tmp_path / "run")
    manifest_path = copy.run().folder(PseudoLabel()) / "manifest.json"
    data = json.loads(manifest_path.read_text())
    code, _, _ = s4m("pseudo-label", "-c", copy.config, "--force")
    assert code == 0
    assert list((copy.folder / "work/pseudo-label/.replaced").iterdir())
    again = json.loads(manifest_path.read_text())
    assert data["files"] == again["files"]
    assert {row["state"] for row in status(copy.run())} == {"fresh"}  # the same bytes came out
    again["files"][0]["sha256"] = "of another result"
    write_sealed(manifest_path, again)
    rows = {row["stage"]: row for row in status(copy.run())}
    assert rows["pseudo-label"]["state"] == "fresh"
    for stage in ("refine", "train-student", "evaluate student"):
        assert rows[stage]["state"] == "stale"
        assert "made again" in rows[stage]["why"]
    code, _, err = s4m("train-student", "-c", copy.config)
    assert code == 3
    assert "s4m refine" in err


def test_policy_none_needs_no_segmenter_and_keeps_the_teachers_masks(
    finished, tmp_path, monkeypatch
):
    from s4m_pipeline.engine.perform import perform
    from s4m_pipeline.segmenter import build

    def no_segmenter(*_):
        raise RuntimeError("a segmenter was built")

    monkeypatch.setattr(build, "build_segmenter", no_segmenter)
    copy = finished.copy(tmp_path / "run")
    run = copy.run("refine.policy=none", "student.structure_weight=0")
    manifest = perform(run, Refine())
    assert manifest.counts["refined"] == 0
    rows = read_table(run.folder(Refine()), "refined").to_pylist()
    assert rows
    assert all(row["mask_rle"] == row["teacher_mask_rle"] for row in rows)
