"""``keep: best`` in a run: what its manifest says, what is evaluated, what changes with it."""

import json
from dataclasses import replace

import pytest

from s4m_pipeline.artifacts.training_files import CHECKPOINT, LAST
from s4m_pipeline.config_section import result_settings
from s4m_pipeline.engine.perform import perform
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.checkpoints import read_checkpoint
from s4m_pipeline.stages.calibration.cross_fit import CrossFit
from s4m_pipeline.stages.evaluate import Evaluate
from s4m_pipeline.stages.train_teacher import TrainTeacher
from s4m_pipeline.workflow.rounds import RoundResult

KEEP = ("teacher.keep=best", "teacher.validation_interval=5")


@pytest.fixture(scope="module")
def kept(finished, workshop_once):
    return workshop_once("kept", finished, lambda own: perform(own.run(*KEEP), TrainTeacher()))


def chosen(kept):
    run = kept.run(*KEEP)
    return run, run.store.manifest("train-teacher", run.fingerprint(TrainTeacher()))


def test_the_manifest_says_which_weights_and_why(kept):
    run, manifest = chosen(kept)
    found, folder = manifest.metrics["kept"], run.folder(TrainTeacher())
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    course = {x["iteration"]: x["coco/segm_AP"] for x in log if "coco/segm_AP" in x}
    assert sorted(course) == [5, 10, 15, 20, 25, 30, 35, 40]
    best = max(course.values())
    assert found["value"] == best
    assert found["iteration"] == min(i for i, value in course.items() if value == best)
    assert (found["weights"], found["measure"], found["of"]) == ("best", "coco/segm_AP", 40)
    assert read_checkpoint(folder / CHECKPOINT).info["kept"]["iteration"] == found["iteration"]
    listed = {entry.path for entry in manifest.files}
    assert (LAST in listed) == (folder / LAST).is_file() == (found["iteration"] != 40)


def test_evaluation_reports_the_figure_that_chose_and_says_that_it_cannot_judge(kept, s4m):
    _, manifest = chosen(kept)
    code, out, _ = s4m("evaluate", "-c", kept.config, *KEEP, "--of", "teacher", "--json")
    figures = json.loads(out)
    assert code == 0
    # evaluate takes four images at a time, which moves a score in its last bits
    assert figures["segm"]["AP"] == pytest.approx(manifest.metrics["kept"]["value"], abs=2e-3)
    assert figures["chosen_here"] is True
    _, out, _ = s4m("evaluate", "-c", kept.config, *KEEP, "--of", "teacher")
    assert "Validation that chooses cannot judge" in " ".join(out.split())
    folder = kept.run(*KEEP).folder(TrainTeacher())
    _, out, _ = s4m("evaluate", "-c", kept.config, "--of", folder)
    assert "cannot judge" in " ".join(out.split())
    _, out, _ = s4m("evaluate", "-c", kept.config, *KEEP, "--of", "teacher", "--split", "labelled")
    assert "cannot judge" not in " ".join(out.split())
    _, out, _ = s4m("evaluate", "-c", kept.config, "--of", "teacher")
    assert "cannot judge" not in " ".join(out.split())


def test_compare_shows_both(kept, s4m):
    from s4m_pipeline.workflow.compare import evaluations, kept_ends

    run, _ = chosen(kept)
    assert kept_ends(run) == ["teacher"], "the best of this training are not its last"
    assert kept_ends(kept.run()) == []
    both = evaluations(run.config, Evaluate("all"), (), kept_ends(run))
    assert list(both) == ["teacher", "student-averaged", "student-last", "teacher-end"]
    assert both["teacher-end"].label == "teacher-end"
    assert both["teacher-end"].checkpoint(run).name == LAST
    words = f"evaluate -c {kept.config} {' '.join(KEEP)} --of teacher --end --json".split()
    _, out, _ = s4m(*words)
    ends = json.loads(out)
    _, plain, _ = s4m("evaluate", "-c", kept.config, "--of", "teacher", "--json")
    assert ends == json.loads(plain), "choosing changes nothing in the training"
    assert "chosen_here" not in ends


def test_an_end_that_is_not_there_is_refused(kept, s4m):
    code, _, err = s4m("evaluate", "-c", kept.config, "--of", "teacher", "--end")
    assert code == 2
    assert "no other weights than its checkpoint's" in err
    folder = kept.run(*KEEP).folder(TrainTeacher())
    assert s4m("evaluate", "-c", kept.config, "--of", folder, "--end")[0] == 2


def test_what_chooses_is_in_the_fingerprint(finished):
    def of(*overrides):
        return finished.run(*overrides).fingerprint(TrainTeacher())

    assert of() == of("teacher.validation_interval=7"), "validations do not change the last weights"
    assert len({of(), of(*KEEP), of("teacher.keep=best", "teacher.validation_interval=7")}) == 3
    best = finished.run(*KEEP)
    assert set(TrainTeacher().sources(best)) == {"labelled", "validation"}
    section = best.config.teacher
    assert result_settings(section)["keep"] == "best"
    stage = CrossFit()
    assert stage.settings(best.config) == stage.settings(finished.run().config)


def test_best_weights_need_validation_images(finished):
    run = finished.run(*KEEP, "data.validation=null")
    with pytest.raises(UsageError, match=r"teacher\.keep is 'best', but there is no data\.valid"):
        TrainTeacher().check(run)


def test_a_round_says_that_its_validation_chose():
    result = RoundResult(1, 0.4, 0.5, (0.5, 0.5, 0.5), 0.3)
    assert "cannot judge" not in str(result)
    assert "validation that chooses weights cannot judge them" in str(replace(result, chosen=True))
