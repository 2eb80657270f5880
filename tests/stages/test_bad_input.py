"""Every row of what bad input gets: a clear message, the right exit code, nothing half-written."""

import json
import shlex
import shutil

import pyarrow.parquet as pq
import pytest

from s4m_pipeline.artifacts.fingerprint import FORMAT_VERSION
from s4m_pipeline.artifacts.manifest import file_entry, read_manifest, write_manifest
from s4m_pipeline.artifacts.tables import table_files
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.stages.structure import Structure
from s4m_pipeline.stages.train_teacher import TrainTeacher


@pytest.fixture
def workshop(empty_workshop, tmp_path):
    return empty_workshop.copy(tmp_path / "run")


@pytest.fixture
def done(finished, tmp_path):
    return finished.copy(tmp_path / "run")


def change(path, edit):
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def refused(result, code, *words):
    """Check exit code, message, its length, and that there is no traceback."""
    assert result[0] == code, result
    message = result[2][result[2].index("error:") :]
    for word in words:
        assert word in message
    assert len(message.strip().splitlines()) <= 3
    assert "Traceback" not in result[2]


def remade(message, s4m):
    """Call the command that a message names, as it stands there; gives its exit code."""
    return s4m(*shlex.split(message.rpartition("with: s4m ")[2]))[0]


def test_unknown_key(workshop, s4m):
    refused(s4m("structure", "-c", workshop.config, "refine.pointz=3"), 2, "refine.pointz")


def test_wrong_type(workshop, s4m):
    refused(s4m("structure", "-c", workshop.config, "teacher.iterations=x"), 2, "iterations", "'x'")


def test_missing_run_file(tmp_path, s4m):
    refused(s4m("run", "-c", tmp_path / "no.yaml"), 2, "no.yaml")


def test_wrong_flag(workshop, s4m):
    code, _, err = s4m("refine", "-c", workshop.config, "--forse")
    assert code == 2
    assert "--forse" in err


def test_missing_labelled_image(workshop, s4m):
    (workshop.folder / "scenes/labelled/000002.jpg").unlink()
    refused(s4m("structure", "-c", workshop.config), 2, "000002.jpg")
    assert not list((workshop.folder / "work").glob("structure/*/manifest.json"))


def test_bad_polygon(workshop, s4m):
    def bend(data):
        data["annotations"][1]["segmentation"] = [[1, 2, 3]]

    change(workshop.folder / "scenes/labelled.json", bend)
    refused(s4m("train-teacher", "-c", workshop.config), 2, "annotation 2", "polygon")


def test_an_id_that_is_text(workshop, s4m):
    def as_text(data):
        data["images"][0]["id"] = "1"

    path = workshop.folder / "scenes/labelled.json"
    change(path, as_text)
    call = s4m("train-teacher", "-c", workshop.config, "teacher.structure_weight=0")
    refused(call, 2, "image number 0 has no whole number as 'id' (\"1\")", "s4m data clean")
    assert remade(call[2], s4m) == 0
    path.with_name("labelled-clean.json").replace(path)
    call = s4m("train-teacher", "-c", workshop.config, "teacher.structure_weight=0", "--dry-run")
    assert call[0] == 0


def test_category_mismatch(workshop, s4m):
    def rename(data):
        data["categories"][0]["name"] = "unicorn"

    change(workshop.folder / "scenes/validation.json", rename)
    call = s4m("train-teacher", "-c", workshop.config, "teacher.structure_weight=0")
    refused(call, 2, "unicorn", "data.validation")
    assert not list((workshop.folder / "work").glob("train-teacher/*/manifest.json"))


def test_empty_labelled_set(workshop, s4m):
    change(workshop.folder / "scenes/labelled.json", lambda data: data.update(annotations=[]))
    refused(s4m("train-teacher", "-c", workshop.config), 2, "no labelled instance")


def crowds_but(data, image_id):
    """Make all instances crowds but those of one image."""
    for entry in data["annotations"]:
        entry["iscrowd"] = int(entry["image_id"] != image_id)


@pytest.mark.parametrize("command", ["structure", "train-teacher", "evaluate"])
def test_a_set_of_crowds(done, s4m, command):
    name = "validation" if command == "evaluate" else "labelled"
    change(done.folder / f"scenes/{name}.json", lambda data: crowds_but(data, None))
    words = [f"data.{name}", "annotations are crowds (iscrowd 1)"]
    before = list((done.folder / "work").glob("*/*/manifest.json"))
    refused(s4m(command, "-c", done.config), 2, *words)
    assert list((done.folder / "work").glob("*/*/manifest.json")) == before


def test_only_crowds_are_left_where_the_other_image_is_broken(workshop, s4m):
    scenes = workshop.folder / "scenes"
    change(scenes / "labelled.json", lambda data: crowds_but(data, 1))
    (scenes / "labelled/000001.jpg").write_bytes(b"no image")
    call = s4m("train-teacher", "-c", workshop.config, "teacher.structure_weight=0")
    refused(call, 2, "what is left of data.labelled to train on", "annotations are crowds")


def test_only_crowds_are_left_to_evaluate(done, s4m):
    scenes = done.folder / "scenes"
    change(scenes / "validation.json", lambda data: crowds_but(data, 1))
    (scenes / "validation/000001.jpg").write_bytes(b"no image")
    call = s4m("evaluate", "-c", done.config)
    refused(call, 2, "what can be read of data.validation", "annotations are crowds")


def test_no_unlabelled_images(done, s4m):
    folder = done.folder / "scenes/unlabelled"
    shutil.rmtree(folder)
    folder.mkdir()
    refused(s4m("pseudo-label", "-c", done.config), 2, "no image")


def test_no_unlabelled_section(done, s4m):
    text = done.config.read_text().replace("  unlabelled: {images: scenes/unlabelled}\n", "")
    done.config.write_text(text)
    refused(s4m("pseudo-label", "-c", done.config), 2, "data.unlabelled is missing")


@pytest.mark.parametrize(
    ("command", "section", "setting", "message"),
    [
        ("train-teacher", "teacher", "1e30", "Lower teacher.learning_rate, which is 1e+30"),
        ("train-student", "student", "1e30", "Lower student.learning_rate"),
    ],
)
def test_a_learning_rate_at_which_training_diverges(done, s4m, command, section, setting, message):
    call = s4m(command, "-c", done.config, f"{section}.learning_rate={setting}")
    refused(call, 1, f"{command}: training diverged at iteration 1 (", message)


@pytest.mark.parametrize(("size", "message"), [(50, "multiple of 32"), (0, "image_size")])
def test_segmenter_size_that_its_stride_forbids(workshop, s4m, size, message):
    refused(s4m("structure", "-c", workshop.config, f"segmenter.image_size={size}"), 2, message)


def test_unknown_segmenter(workshop, s4m):
    refused(s4m("structure", "-c", workshop.config, "segmenter.name=sam9"), 2, "sam9")


def test_unknown_model(workshop, s4m):
    call = s4m(
        "train-teacher", "-c", workshop.config, "teacher.model=m2f", "teacher.structure_weight=0"
    )
    refused(call, 2, "m2f", "mask2former_r50")


def test_a_segmenter_checkpoint_that_is_not_one(workshop, s4m):
    (workshop.folder / "weights.pt").write_bytes(b"no weights")
    call = s4m(
        "structure",
        "-c",
        workshop.config,
        "segmenter.name=sam2.1_hiera_tiny",
        "segmenter.checkpoint=weights.pt",
        "segmenter.image_size=256",
    )
    refused(call, 2, "weights.pt")
    assert not list((workshop.folder / "work").glob("structure/*/manifest.json"))


def test_a_teacher_checkpoint_that_is_not_one(done, s4m):
    path = done.run().folder(TrainTeacher()) / "checkpoint.pth"
    path.write_bytes(b"x" * path.stat().st_size)
    code, _, err = s4m("pseudo-label", "-c", done.config, "pseudo_label.min_score=0.03")
    assert code in (2, 3)
    assert "checkpoint.pth" in err
    assert "Traceback" not in err


def test_a_truncated_checkpoint_is_a_damaged_artifact(done, s4m):
    path = done.run().folder(TrainTeacher()) / "checkpoint.pth"
    path.write_bytes(path.read_bytes()[:1000])
    call = s4m("pseudo-label", "-c", done.config, "pseudo_label.min_score=0.03")
    refused(call, 3, "checkpoint.pth", "manifest")


def test_a_parquet_of_another_format_version(done, s4m):
    run = done.run()
    for path in table_files(run.folder(PseudoLabel()), "predictions"):
        table = pq.read_table(path)
        metadata = {**table.schema.metadata, b"format_version": b"7"}
        pq.write_table(table.replace_schema_metadata(metadata), path)
    folder = run.folder(PseudoLabel())
    manifest = read_manifest(folder)
    manifest.files = [file_entry(folder, folder / entry.path) for entry in manifest.files]
    write_manifest(folder, manifest)
    call = s4m("refine", "-c", done.config, "refine.points=2")
    refused(call, 3, "format version 7", f"s4m pseudo-label -c {done.config} refine.points=2")
    assert remade(call[2], s4m) == 0
    assert s4m("refine", "-c", done.config, "refine.points=2")[0] == 0
    assert len(list((done.folder / "work").glob("refine/*/manifest.json"))) == 2


def test_an_artifact_of_another_format_version(done, s4m):
    manifest = done.run().folder(PseudoLabel()) / "manifest.json"
    change(manifest, lambda data: data.update(format_version=7))
    call = s4m("refine", "-c", done.config, "refine.points=2")
    refused(call, 3, "format version 7", "--force")
    assert remade(call[2], s4m) == 0
    assert s4m("refine", "-c", done.config, "refine.points=2")[0] == 0


def test_artifacts_of_an_earlier_s4m(done, s4m):
    """The format version is in every fingerprint: what an earlier s4m made lies beside."""
    for number, path in enumerate((done.folder / "work").glob("*/*/manifest.json")):
        name = path.parent.name
        change(path, lambda data: data.update(format_version=1))
        for pointer in path.parents[1].glob("latest*"):
            pointer.write_text(pointer.read_text().replace(name, f"{number:016x}"))
        path.parent.rename(path.parents[1] / f"{number:016x}")
    version = f"is of format version 1, this s4m reads {FORMAT_VERSION}"
    call = s4m("train-teacher", "-c", done.config)
    refused(call, 3, "structure is stale", version, "Make it with: s4m structure -c")
    _, out, _ = s4m("status", "--json", "-c", done.config)
    rows = json.loads(out)
    assert {row["state"] for row in rows} == {"stale"}
    assert [row for row in rows if version not in row["why"]] == []
    assert remade(call[2], s4m) == 0
    assert s4m("train-teacher", "-c", done.config, "teacher.iterations=1")[0] == 0


def test_a_missing_input_names_the_command_that_makes_it(workshop, s4m):
    refused(s4m("refine", "-c", workshop.config), 2, "s4m pseudo-label")


def test_a_stale_input_is_told_from_a_missing_one(done, s4m):
    call = s4m("refine", "-c", done.config, "pseudo_label.min_score=0.03")
    refused(call, 3, "stale", "s4m pseudo-label")


def test_bad_unlabelled_images_are_set_aside_and_the_rest_goes_on(done, s4m):
    folder = done.folder / "scenes/unlabelled"
    (folder / "000003.jpg").write_bytes(b"no picture")
    broken = folder / "000005.jpg"
    broken.write_bytes(broken.read_bytes()[:600])
    for stage in ("pseudo-label", "refine"):
        code, _, err = s4m(stage, "-c", done.config)
        assert code == 4, err
    run = done.run()
    for stage in (PseudoLabel(), Refine()):
        from s4m_pipeline.artifacts.tables import read_table

        aside = read_table(run.folder(stage), "quarantine").to_pylist()
        assert [row["file_name"] for row in aside] == ["000003.jpg", "000005.jpg"]
        assert {row["stage"] for row in aside} == {"pseudo-label"}
        assert all(row["error"] for row in aside)
        manifest = run.store.manifest(stage.name, run.fingerprint(stage))
        assert manifest.counts["quarantined"] == 2
        assert manifest.counts["images"] == 16
    code, _, err = s4m("train-student", "-c", done.config)
    assert code == 0, err


def test_bad_labelled_and_validation_images_are_set_aside_by_training(workshop, s4m):
    (workshop.folder / "scenes/labelled/000002.jpg").write_bytes(b"no picture")
    (workshop.folder / "scenes/validation/000001.jpg").write_bytes(b"no picture")
    for stage in ("structure", "train-teacher"):
        code, _, err = s4m(stage, "-c", workshop.config)
        assert code == 4, err
    run = workshop.run()
    for stage, count in ((Structure(), 1), (TrainTeacher(), 2)):
        manifest = run.store.manifest(stage.name, run.fingerprint(stage))
        assert manifest.counts["quarantined"] == count
    code, _, err = s4m("evaluate", "-c", workshop.config, "--of", "teacher")
    assert code == 4, err
    assert "000001.jpg" in err


def test_a_damaged_manifest_is_told_and_force_mends_it(done, s4m):
    manifest = done.run().folder(PseudoLabel()) / "manifest.json"
    manifest.write_text("{")
    refused(s4m("pseudo-label", "-c", done.config), 3, "damaged", "--force")
    code, out, _ = s4m("status", "-c", done.config, "--json")
    assert code == 0
    assert {r["stage"]: r["state"] for r in json.loads(out)}["pseudo-label"] == "damaged"
    assert s4m("pseudo-label", "-c", done.config, "--force")[0] == 0


def test_a_file_cut_short_is_told_by_its_own_stage_and_status_and_force_mends_it(done, s4m):
    table, *_ = table_files(done.run().folder(PseudoLabel()), "predictions")
    table.write_bytes(table.read_bytes()[:100])
    refused(s4m("pseudo-label", "-c", done.config), 3, table.name, "--force")
    _, out, _ = s4m("status", "-c", done.config, "--json")
    assert {r["stage"]: r["state"] for r in json.loads(out)}["pseudo-label"] == "damaged"
    assert s4m("pseudo-label", "-c", done.config, "--force")[0] == 0


def test_run_tells_a_mistake_of_a_late_stage_before_the_first_one_starts(workshop, s4m):
    refused(s4m("run", "-c", workshop.config, "student.model=m2f"), 2, "m2f")
    refused(s4m("run", "-c", workshop.config, "student.batch_size=1"), 2, "student.batch_size")
    refused(s4m("run", "-c", workshop.config, "student.labelled_batch=0"), 2, "labelled_batch")
    assert not list((workshop.folder / "work").glob("structure/*/"))


@pytest.mark.parametrize("command", [("run",), ("run", "--dry-run"), ("refine",)])
def test_prompt_weights_that_do_not_fit_the_prompts_are_told_before_any_work(
    workshop, s4m, command
):
    setting = "refine.fuse_prompt_weights=[1,2]"
    refused(s4m(*command, "-c", workshop.config, setting), 2, "[1.0, 2.0] must be 1 number, one")
    assert not list((workshop.folder / "work").glob("*/*/"))


@pytest.mark.parametrize("policy", ["none", "auto"])
def test_prompt_weights_are_held_against_the_prompts_where_a_policy_has_them(workshop, s4m, policy):
    settings = (f"refine.policy={policy}", "refine.fuse_prompt_weights=[1,2]")
    code, _, err = s4m("run", "-c", workshop.config, *settings, "--dry-run")
    assert (code, "must be 1 number" in err) == ((0, False) if policy == "none" else (2, True))


def test_a_model_that_needs_weights_says_so(workshop, s4m):
    call = s4m("train-teacher", "-c", workshop.config, "teacher.model=mask2former_r50")
    refused(call, 2, "ImageNet", "teacher.weights")


def test_start_weights_that_are_missing_or_none(workshop, s4m):
    call = s4m("train-teacher", "-c", workshop.config, "teacher.weights=no.pth")
    refused(call, 2, "no.pth")


def test_start_weights_of_another_network_are_refused_before_any_work(workshop, s4m):
    import torch

    (workshop.folder / "empty.pth").touch()
    torch.save({"layer1.0.conv1.weight": torch.zeros(3)}, workshop.folder / "other.pth")
    settings = ("student.start=model",)
    for name, message in (("empty.pth", "empty.pth"), ("other.pth", "another network")):
        for stage in ("teacher", "student"):
            call = s4m("run", "-c", workshop.config, *settings, f"{stage}.weights={name}")
            refused(call, 2, message)
        call = s4m("refine", "--calibrate", "-c", workshop.config, f"teacher.weights={name}")
        refused(call, 2, message)
    assert not list((workshop.folder / "work").glob("structure/*/"))


def test_start_weights_that_fit_are_counted(done, s4m):
    run = done.run()
    source = run.folder(TrainTeacher()) / "checkpoint.pth"
    again = ("teacher.iterations=1", f"teacher.weights={source}")
    code, _, err = s4m("train-teacher", "-c", done.config, *again)
    assert code == 0
    (message,) = [line for line in err.splitlines() if "tensors start from" in line]
    fitting, total = (int(word) for word in message.split() if word.isdigit())
    assert fitting == total > 100


def test_all_images_bad_is_a_failure_without_a_manifest(done, s4m):
    for path in (done.folder / "scenes/unlabelled").glob("*.jpg"):
        path.write_bytes(b"no picture")
    code, _, err = s4m("pseudo-label", "-c", done.config)
    assert code == 1
    assert "18 images were set aside" in err
    run = done.run()
    assert not run.store.is_complete("pseudo-label", run.fingerprint(PseudoLabel()))
