"""Calibration on the tiny run: cross-fitting, measuring, choosing, and what refine takes of it."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_api

from s4m_pipeline.artifacts.manifest import read_manifest, verify
from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.config_prompts import PROMPTS, PromptParts
from s4m_pipeline.engine.perform import freshness, perform
from s4m_pipeline.stages.calibration import calibrate
from s4m_pipeline.stages.calibration.calibrate import Calibrate
from s4m_pipeline.stages.calibration.choice import choice_of, read_measurements
from s4m_pipeline.stages.calibration.cross_fit import FOLDS, CrossFit
from s4m_pipeline.stages.calibration.gains import ENOUGH, Measurements
from s4m_pipeline.stages.calibration.policies import S4M_RULE, calibration_policies
from s4m_pipeline.stages.refine.settings import policy_of_settings, refine_policy
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.workflow.pipeline import stages_of
from tests.workshop import CALIBRATION


def test_every_labelled_image_is_predicted_by_a_teacher_that_did_not_see_it(
    finished, tmp_path, monkeypatch
):
    from s4m_pipeline.models.labeller import labeller
    from s4m_pipeline.stages import stage_training

    seen, asked = {}, {}
    real_train = stage_training.train

    def train(spec):
        seen[spec.folder.name] = set(spec.labelled["exclude"])
        return real_train(spec)

    class Noting(labeller.Predictor):
        def __init__(self, checkpoint, device, **options):
            super().__init__(checkpoint, device, **options)
            self.fold = checkpoint.parent.name

        def predict(self, images, min_score=0.0):
            asked[self.fold] = asked.get(self.fold, 0) + len(images)
            return super().predict(images, min_score)

    monkeypatch.setattr(stage_training, "train", train)
    monkeypatch.setattr(labeller, "Predictor", Noting)
    copy = finished.copy(tmp_path / "run")
    run = copy.run("calibration.iterations=2")
    perform(run, CrossFit())
    folds = json.loads((run.folder(CrossFit()) / FOLDS).read_text())
    ids = {image.id for image in run.images.labelled.images}
    assert sorted(i for fold in folds for i in fold) == sorted(ids)
    assert [seen[str(n)] for n in range(2)] == [set(fold) for fold in folds]
    assert [asked[str(n)] for n in range(2)] == [len(fold) for fold in folds]


def test_what_a_fold_set_aside_is_listed(finished, tmp_path):
    copy = finished.copy(tmp_path / "run")
    image = sorted((copy.folder / "scenes" / "labelled").iterdir())[0]
    image.write_bytes(image.read_bytes()[:100])
    run = copy.run("calibration.iterations=2", "teacher.structure_weight=0")
    listed = {entry.path for entry in perform(run, CrossFit()).files}
    tables = {
        str(path.relative_to(run.folder(CrossFit())))
        for path in copy.folder.rglob("*.parquet")
        if "cross-fit" in path.parts
    }
    assert tables <= listed
    assert "folds/0/quarantine/00000.parquet" in listed


def test_cross_fit_leaves_predictions_and_logs_but_no_weights(calibrated):
    run = calibrated.run(*CALIBRATION)
    folder = run.folder(CrossFit())
    manifest = read_manifest(folder)
    assert verify(folder, manifest) == []
    paths = {entry.path for entry in manifest.files}
    assert {"folds.json", "folds/0/log.jsonl", "folds/1/log.jsonl"} <= paths
    assert not list(folder.rglob("*.pth"))
    table = read_table(folder, "predictions")
    assert set(table["image_id"].to_pylist()) <= {i.id for i in run.images.labelled.images}
    assert manifest.counts["images"] == 5


def test_measurements_are_ious_with_the_instance_of_the_class_that_is_overlapped_most(calibrated):
    run = calibrated.run(*CALIBRATION)
    predictions = {
        (row["image_id"], row["instance_id"]): row
        for row in read_table(run.folder(CrossFit()), "predictions").to_pylist()
    }
    truth = run.images.labelled
    size = {image.id: (image.height, image.width) for image in truth.images}

    def pixels(rle, image_id):
        return mask_api.decode({"size": size[image_id], "counts": rle}).astype(bool)

    wanted = {}
    for key, row in predictions.items():
        ours = pixels(row["mask_rle"], key[0])
        ious = [0.0]
        for true in truth.instances.get(key[0], []):
            if true.category_id == row["category_id"] and not true.iscrowd:
                theirs = pixels(true.rle, key[0])
                ious.append((ours & theirs).sum() / (ours | theirs).sum())
        if max(ious) > 0.1 and row["score"] >= 0.02:
            wanted[key] = max(ious)
    rows = read_table(run.folder(Calibrate()), "calibration").to_pylist()
    names = list(calibration_policies(run.config))
    for name in names:
        own = {(r["image_id"], r["instance_id"]): r for r in rows if r["policy"] == name}
        assert own.keys() == wanted.keys()
        for key, row in own.items():
            assert row["iou_before"] == pytest.approx(wanted[key], abs=1e-6)
            if row["decision"] == "kept":
                assert row["iou_after"] == pytest.approx(row["iou_before"], abs=1e-6)
    assert wanted


def test_one_encoder_pass_a_view_serves_all_policies(calibrated, tmp_path, monkeypatch):
    from s4m_pipeline.segmenter.sam2 import Sam2Segmenter

    passes = []
    real = Sam2Segmenter.encode

    def encode(self, images):
        passes.extend(images)
        return real(self, images)

    monkeypatch.setattr(Sam2Segmenter, "encode", encode)
    copy = calibrated.copy(tmp_path / "run")
    run = copy.run(*CALIBRATION)
    before = read_manifest(run.folder(Calibrate())).content
    perform(run, Calibrate(), force=True)
    measured_images = set(read_measurements(run.folder(Calibrate())).image_id.tolist())
    whole = [image for image in passes if image.shape[:2] == (64, 64)]
    assert len(whole) == len(measured_images)
    assert len({image.tobytes() for image in passes}) == len(passes) > len(whole)
    assert read_manifest(run.folder(Calibrate())).content == before  # the same bytes again


def test_the_choice_is_the_policy_with_the_surest_gain(calibrated):
    run = calibrated.run(*CALIBRATION)
    own = read_measurements(run.folder(Calibrate()))
    columns = {name: np.tile(getattr(own, name), 10) for name in own.__slots__}
    measurements = Measurements(**columns)  # so many that a choice is made
    metrics = choice_of(measurements, [c.id for c in run.images.labelled.categories], run.config)
    means = {
        name: (measurements.after - measurements.before)[measurements.policy == name].mean()
        for name in dict.fromkeys(measurements.policy)
    }
    low = {name: metrics["gains"][name]["all"]["all"]["low"] for name in means}
    assert metrics["best"] == max(low, key=low.get)
    assert metrics["chosen"]
    policies = calibration_policies(run.config)
    assert policy_of_settings(metrics["policy"]) == policies[metrics["best"]]
    for name, mean in means.items():
        gain = read_manifest(run.folder(Calibrate())).metrics["gains"][name]["all"]["all"]
        assert gain["after"] - gain["before"] == pytest.approx(mean, abs=1e-6)


def test_other_refinement_settings_train_no_teacher_again(calibrated):
    run = calibrated.run(*CALIBRATION, "refine.fuse_weight=0.7")
    assert freshness(run, CrossFit()).state == "fresh"
    assert freshness(run, Calibrate()).state == "stale"


def test_s4ms_own_rule_is_compared_with_three_points_and_no_gate(finished):
    policies = calibration_policies(
        finished.run("refine.max_area_ratio=2", "refine.points=5").config
    )
    assert policies[S4M_RULE].candidate == "argmax-iou"
    assert policies[S4M_RULE].min_agreement == 0
    assert policies[S4M_RULE].max_area_ratio is None
    assert policies[S4M_RULE].points == 3
    assert policies["points, fuse"].points == 5
    assert policies["points, fuse"].min_agreement == 0.05
    assert policies["points, fuse"].max_area_ratio == 2


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["refine.candidate=argmax-iou", "refine.second_pass=true"],
        ["refine.candidate=closest", "refine.policy=box"],
        ["refine.fuse_policies=[box, points]"],
        ["refine.fuse_policies=[box]", "refine.fuse_prompt_weights=[2, 1]"],
    ],
)
def test_the_configured_policy_is_compared_and_auto_changes_no_calibration(finished, settings):
    config = finished.run(*settings).config
    policies = calibration_policies(config)
    assert refine_policy(config.refine) in policies.values()
    auto = finished.run(*settings, "refine.policy=auto")
    assert calibration_policies(auto.config) == policies
    assert auto.fingerprint(Calibrate()) == finished.run(*settings).fingerprint(Calibrate())


def test_in_the_mean_of_four_each_has_a_quarter(finished):
    policies = calibration_policies(finished.run("refine.fuse_weight=0.7").config)
    (four,) = [p for p in policies.values() if p.fuse_prompts == ("box", "box+mask")]
    assert (four.prompts, four.fuse_weight) == ("points", 0.25)
    assert policies["points, fuse"].fuse_weight == 0.7


def test_prompts_added_to_the_table_are_measured(calibrated, tmp_path, s4m, monkeypatch):
    monkeypatch.setitem(PROMPTS, "mask", PromptParts(mask=True))
    copy = calibrated.copy(tmp_path / "run")
    assert freshness(copy.run(*CALIBRATION), CrossFit()).state == "fresh"
    code, out, err = s4m("refine", "--calibrate", "-c", copy.config, *CALIBRATION)
    assert code == 0, err
    own = read_measurements(copy.run(*CALIBRATION).folder(Calibrate()))
    for name in ("mask, single", "mask, fuse"):
        assert name in out
        assert (own.policy == name).sum() == (own.policy == "box, single").sum() > 0


def test_a_choice_by_too_few_instances_is_warned_of(calibrated, tmp_path, s4m):
    copy = calibrated.copy(tmp_path / "run")
    settings = (*CALIBRATION, "refine.fuse_weight=0.7")
    code, out, err = s4m("refine", "--calibrate", "-c", copy.config, *settings)
    count = read_manifest(copy.run(*settings).folder(Calibrate())).counts["instances"]
    assert 0 < count < ENOUGH
    assert f"{count} instances could be measured, too few to choose by" in err
    assert "keep the policy that you have; refine.policy=auto is 'points, fuse'" in err
    assert "Too few instances to choose by; auto takes: points, fuse" in out
    assert code == 0
    auto = copy.run(*settings, "refine.policy=auto")
    assert freshness(auto, Calibrate()).state == "fresh"
    assert set(Refine().policy(auto).values()) == {
        calibration_policies(auto.config)["points, fuse"]
    }


def test_a_calibration_by_another_rule_is_stale(calibrated, monkeypatch):
    monkeypatch.setattr(calibrate, "RULE", calibrate.RULE + 1)
    standing = freshness(calibrated.run(*CALIBRATION), Calibrate())
    assert standing.state == "stale"
    assert standing.why == "this version of s4m chooses differently"


def test_calibrating_where_only_thresholds_need_it_prints_the_predictions_folder(
    calibrated, tmp_path, s4m
):
    copy = calibrated.copy(tmp_path / "run")
    settings = (*CALIBRATION, "refine.policy=none", "pseudo_label.thresholds=precision")
    settings = (*settings, "student.structure_weight=0")
    code, out, err = s4m("refine", "--calibrate", "-c", copy.config, *settings)
    assert (code, out.strip()) == (0, str(copy.run(*settings).folder(CrossFit()))), err
    assert "refine.policy is none: there is no policy to measure" in err
    code, out, err = s4m("refine", "--calibrate", "--json", "-c", copy.config, *settings)
    assert (code, out) == (2, "")
    assert "no policy to measure" in err


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_calibration_with_an_unreadable_image_is_printed_before_code_4(
    calibrated, tmp_path, s4m, flags
):
    copy = calibrated.copy(tmp_path / "run")
    run = copy.run(*CALIBRATION)
    path = run.folder(Calibrate()) / "manifest.json"
    manifest = read_manifest(path.parent)
    manifest.counts["quarantined"] = 1
    path.write_text(json.dumps(manifest.to_dict()))
    code, out, _ = s4m("refine", "--calibrate", "-c", copy.config, *CALIBRATION, *flags)
    assert code == 4
    if flags:
        assert json.loads(out)["best"] == manifest.metrics["best"]
    else:
        assert manifest.metrics["best"] in out


def test_auto_refines_as_the_calibration_says(calibrated, tmp_path):
    copy = calibrated.copy(tmp_path / "run")
    settings = (*CALIBRATION, "refine.policy=auto")
    run = copy.run(*settings)
    assert [s.name for s in stages_of(run.config)][2:4] == ["cross-fit", "calibrate"]
    folder = run.folder(Calibrate())
    manifest = read_manifest(folder)  # of box+points: auto compares the same policies
    policy = {"policy": "box", "points": 3, "candidate": "fuse", "min_agreement": 0.3}
    off = {"classes": [1], "sizes": []}
    manifest.metrics |= {"policy": policy, "off": off, "best": "made up"}
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest.to_dict()))
    refinement = perform(run, Refine())
    assert refinement.metrics["policy"]["off"]["classes"] == [1]
    assert refinement.inputs["calibration"] == folder.name
    rows = read_table(run.folder(Refine()), "refined").to_pylist()
    labels = [row for row in rows if row["decision"] != "dropped"]
    assert {row["reason"] for row in labels if row["category_id"] == 1} == {
        "calibrated: refinement does not help such instances"
    }
    others = [row for row in labels if row["category_id"] != 1]
    assert any(row["decision"] == "refined" for row in others)


def test_auto_without_a_calibration_names_the_command_that_makes_one(finished, tmp_path, s4m):
    copy = finished.copy(tmp_path / "run")
    code, _, err = s4m("refine", "-c", copy.config, "refine.policy=auto")
    assert code == 2
    assert "s4m calibrate" in err


def test_calibrate_prints_policies_sizes_and_classes(calibrated, s4m):
    code, out, _ = s4m("refine", "--calibrate", "-c", calibrated.config, *CALIBRATION)
    assert code == 0
    run = calibrated.run(*CALIBRATION)
    for name in calibration_policies(run.config):
        assert name in out
    for word in ("small", "medium", "large", "95 %", "auto"):
        assert word in out
    for category in run.images.labelled.categories:
        assert category.name in out
    code, out, _ = s4m("refine", "--calibrate", "--json", "-c", calibrated.config, *CALIBRATION)
    assert json.loads(out)["best"] in calibration_policies(run.config)


def test_an_interrupted_calibration_goes_on_without_training_again(finished, tmp_path, monkeypatch):
    from s4m_pipeline.stages import stage_training
    from s4m_pipeline.stages.calibration.cross_fit_worker import CrossFitWorker

    copy = finished.copy(tmp_path / "run")
    run = copy.run("calibration.iterations=3")
    trained, stopped = [], []
    real_train, real_process = stage_training.train, CrossFitWorker.process

    def train(spec):
        before = spec.folder / "checkpoint.pth"
        trained.append(before.is_file())
        return real_train(spec)

    def process(self, shard, advance):
        if not stopped:
            stopped.append(shard)
            raise KeyboardInterrupt
        return real_process(self, shard, advance)

    monkeypatch.setattr(stage_training, "train", train)
    monkeypatch.setattr(CrossFitWorker, "process", process)
    with pytest.raises(KeyboardInterrupt):
        perform(run, CrossFit())
    assert freshness(run, CrossFit()).state == "unfinished"
    perform(copy.run("calibration.iterations=3"), CrossFit())
    assert trained == [False, False, True, True]  # what was trained is found, not made again


def test_more_folds_than_images_are_refused(finished, s4m):
    code, _, err = s4m("refine", "--calibrate", "-c", finished.config, "calibration.folds=6")
    assert code == 2
    assert "only 5 images" in err


def test_nothing_to_measure_is_told(calibrated, tmp_path, s4m):
    copy = calibrated.copy(tmp_path / "run")
    settings = ("calibration.iterations=20", "refine.min_score=1")
    code, _, err = s4m("refine", "--calibrate", "-c", copy.config, *settings)
    assert code == 2
    assert "refine.min_score" in err
