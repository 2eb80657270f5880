from pathlib import Path

import pytest

from s4m_pipeline.config import starts_from_teacher
from s4m_pipeline.config_file import load_config
from s4m_pipeline.config_section import result_settings
from s4m_pipeline.configs import (
    RUNS,
    expects_weights,
    model_config_digest,
    model_config_path,
    model_names,
    start_weights,
)
from s4m_pipeline.errors import UsageError

MINIMAL = """
work_dir: work
data:
  labelled: {images: photos, annotations: labelled.json}
"""


@pytest.fixture
def run_file(tmp_path):
    def write(text=MINIMAL):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return write


def test_every_setting_has_a_default_but_the_paths(run_file, tmp_path):
    config = load_config(run_file())
    assert config.work_dir == tmp_path / "work"
    assert config.data.labelled.images == tmp_path / "photos"
    assert config.segmenter.name == "sam2.1_hiera_large"
    assert config.refine.candidate == "fuse"
    assert config.student.ema == 0.9996


def test_overrides_are_read_as_yaml(run_file):
    config = load_config(run_file(), ["refine.points=5", "device=cpu", "student.ema=0.9"])
    assert (config.refine.points, config.device, config.student.ema) == (5, "cpu", 0.9)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["refine.pointz=5"], r"refine\.pointz: unknown key, did you mean 'points'"),
        (["refine.points=many"], r"refine\.points: .*integer.*'many'"),
        (["refine.points=-1"], r"refine\.points"),
        (["pseudo_label.score=1.5"], r"pseudo_label\.score"),
        (["refine.candidate=best"], r"refine\.candidate.*'fuse'"),
        (["refine.points=40"], r"stores only 16"),
        (["pseudo_label.min_score=0.8"], r"min_score is above"),
        (["points"], r"not of the form"),
        (["seed.x=1"], r"'seed' is not a section"),
        (["data.labeled.images=x"], r"unknown key, did you mean 'labelled'"),
    ],
)
def test_wrong_settings_are_named(run_file, overrides, message):
    text = MINIMAL + "seed: 0\n"
    with pytest.raises(UsageError, match=message) as caught:
        load_config(run_file(text), overrides)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize("written", ["off", "Off", "no", "'off'"])
def test_off_is_the_word_though_yaml_reads_it_as_false(run_file, written):
    assert load_config(run_file(), [f"student.paste={written}"]).student.paste == "off"
    text = MINIMAL + f"student: {{paste: {written}}}\n"
    assert load_config(run_file(text)).student.paste == "off"


def test_none_is_a_word_and_booleans_stay_booleans(run_file):
    overrides = ["refine.policy=none", "refine.second_pass=on", "student.ignore_score=null"]
    config = load_config(run_file(), [*overrides, "segmenter.compile=off"])
    assert (config.refine.policy, config.refine.second_pass) == ("none", True)
    assert (config.student.ignore_score, config.segmenter.compile) == (None, False)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("student.paste=on", r"student\.paste: cannot be true or false.*found True"),
        (
            "refine.duplicate_iou=off",
            r"refine\.duplicate_iou: cannot be true or false.*found False",
        ),
        ("student.ignore_score=off", r"student\.ignore_score: .*use null to switch it off"),
        ("refine.max_area_ratio=no", r"refine\.max_area_ratio: .*use null to switch it off"),
        ("teacher.iterations=yes", r"teacher\.iterations: cannot be true or false"),
        ("refine.policy=off", r"refine\.policy: cannot be true or false"),
    ],
)
def test_a_boolean_is_no_number_and_no_other_word(run_file, override, message):
    """Taken for 0, 'off' would call any two masks duplicates, or ignore all predictions."""
    with pytest.raises(UsageError, match=message):
        load_config(run_file(), [override])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "device=gpu",
            "device: expected auto, cpu, cuda, or one GPU by its number, such as cuda:1",
        ),
        ("student=3", "student: expected a section of settings (key: value)"),
        ("data.labelled=photos", "data.labelled: expected a section of settings (key: value)"),
        ("seed=x", "seed: expected an integer"),
        ("teacher.batch_size=1.5", "teacher.batch_size: expected an integer"),
        ("teacher.iterations=0", "teacher.iterations: must be above 0"),
        ("refine.min_score=2", "refine.min_score: must be at most 1"),
        ("student.ema=1", "student.ema: must be below 1"),
        ("student.ema=-1", "student.ema: must be at least 0"),
        ("student.ema=high", "student.ema: expected a number"),
        ("student.ignore_score=abc", "student.ignore_score: expected a number or 'auto'"),
        ("refine.second_pass=maybe", "refine.second_pass: expected true or false"),
        ("refine.gate=stop", "refine.gate: expected 'keep' or 'drop'"),
        ("refine.fuse_policies=box", "refine.fuse_policies: expected a list"),
        ("teacher.model=4", "teacher.model: expected text (in quotes"),
    ],
)
def test_faults_are_told_in_the_words_of_the_run_file(run_file, override, told):
    with pytest.raises(UsageError) as caught:
        load_config(run_file(), [override])
    message = str(caught.value)
    assert told in message
    assert ", found " in message
    for word in ("Input should", "Section", "pattern", "instance", "constrained"):
        assert word not in message


@pytest.mark.parametrize(
    ("given", "views"),
    [
        ("[image]", ["image"]),
        ("[1]", ["image"]),
        ("[image, flip, 1.35, flip 1.35]", ["image", "flip", "1.35", "flip 1.35"]),
        ("[flip 1.350, 2, 1, flip 1]", ["image", "flip", "flip 1.35", "2"]),
        ("[0.75, image]", ["image", "0.75"]),
    ],
)
def test_views_are_brought_to_one_spelling_and_order(run_file, given, views):
    config = load_config(run_file(), [f"pseudo_label.views={given}"])
    assert config.pseudo_label.views == views
    shown = f"[{', '.join(config.pseudo_label.views)}]"
    assert load_config(run_file(), [f"pseudo_label.views={shown}"]) == config


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("flip", r"expected a list of views, such as \[image, flip, 1\.35, flip 1\.35\]"),
        ("{flip: true}", "expected a list of views"),
        ("true", "expected a list of views|cannot be true or false"),
        ("[]", "has no 'image'"),
        ("[flip]", "has no 'image'"),
        ("[image, flop]", "'flop' is no view"),
        ("[image, true]", "'True' is no view"),
        ("[image, ' ']", "' ' is no view"),
        ("[image, -2]", "'-2' is no view"),
        ("[image, .nan]", r"'\.nan' is no view"),
        ("[image, flip1.35]", "'flip1.35' is no view"),
        ("[image, 0.1]", r"the scale of view '0\.1' is not from 0\.25 to 4"),
        ("[image, flip 9]", "the scale of view 'flip 9'"),
        ("[image, 1.0]", "lists view 'image' twice"),
        ("[image, flip, flip 1]", "lists view 'flip' twice"),
        (f"[image, {', '.join(f'1.{n:02}' for n in range(1, 17))}]", "has 17 views; 16 are"),
    ],
)
def test_views_that_are_none_are_refused(run_file, given, message):
    with pytest.raises(UsageError, match=message) as caught:
        load_config(run_file(), [f"pseudo_label.views={given}"])
    assert "pseudo_label.views" in str(caught.value)


def test_teachers_are_words_paths_and_artifacts_of_the_work_folder(run_file, tmp_path):
    (tmp_path / "train-teacher" / ("a" * 16)).mkdir(parents=True)
    names = ["cross-fit", "rounds", "../seed 1/checkpoint.pth"]
    names += [f"train-teacher/{'a' * 16}", f"train-student/{'b' * 16}"]
    config = load_config(run_file(), [f"pseudo_label.teachers=[{', '.join(names)}]"])
    assert config.pseudo_label.teachers == [
        "cross-fit",
        "rounds",
        str(tmp_path / "../seed 1/checkpoint.pth"),
        str(tmp_path / "train-teacher" / ("a" * 16)),
        str(tmp_path / "work" / "train-student" / ("b" * 16)),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[a.pth, b.pth, a.pth]", "lists 'a.pth' twice"),
        ("[' ']", "names nothing"),
        ("a.pth", "expected a list"),
        ("[3]", "expected text"),
        ('["a\\0b"]', "holds a zero character"),
    ],
)
def test_teachers_that_are_none_are_refused(run_file, given, message):
    with pytest.raises(UsageError, match=message):
        load_config(run_file(), [f"pseudo_label.teachers={given}"])


def test_the_place_in_a_list_is_told(run_file):
    with pytest.raises(UsageError, match=r"refine\.fuse_policies\.1: expected 'points'.*'no-such'"):
        load_config(run_file(), ["refine.fuse_policies=[box, no-such]"])


def test_a_missing_setting_is_called_missing(run_file):
    with pytest.raises(UsageError, match=r"data\.labelled\.annotations: is missing$"):
        load_config(run_file("work_dir: w\ndata: {labelled: {images: photos}}\n"))


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "is empty"), ("# nothing\n", "is empty"), ("- a\n", "a list"), ("words\n", "'words'")],
)
def test_a_file_without_settings_is_told_in_plain_words(run_file, text, told):
    with pytest.raises(UsageError) as caught:
        load_config(run_file(text))
    assert told in str(caught.value)
    assert "NoneType" not in str(caught.value)


def test_all_faults_are_reported_at_once(run_file):
    with pytest.raises(UsageError) as caught:
        load_config(run_file(), ["refine.pointz=5", "teacher.iterations=0"])
    assert "pointz" in str(caught.value)
    assert "teacher.iterations" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a: [", "!!python/object:os.system {}"])
def test_a_file_that_is_no_mapping_is_a_usage_error(run_file, text):
    with pytest.raises(UsageError, match=r"run\.yaml"):
        load_config(run_file(text))


@pytest.mark.parametrize("old", ["batch_size=16", "unlabelled_fraction=0.75", "batch_size=x"])
def test_a_batch_with_a_fraction_is_refused_with_the_two_settings_that_take_its_place(
    run_file, old
):
    with pytest.raises(UsageError) as caught:
        load_config(run_file(), [f"student.{old}"])
    told = str(caught.value)
    name = old.partition("=")[0]
    assert f"student.{name}: is two settings now" in told
    assert "student.labelled_batch" in told
    assert "student.unlabelled_batch" in told
    with pytest.raises(UsageError, match=r"teacher\.unlabelled_fraction: unknown key"):
        load_config(run_file(), ["teacher.unlabelled_fraction=0.5"])
    load_config(run_file(), ["teacher.batch_size=16"])


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"none\.yaml"):
        load_config(tmp_path / "none.yaml")


def test_settings_of_place_are_not_among_those_of_the_result(run_file):
    config = load_config(run_file())
    assert "batch_size" not in result_settings(config.pseudo_label)
    assert "workers" not in result_settings(config.teacher)
    assert result_settings(config.teacher)["batch_size"] == 4


@pytest.mark.parametrize("path", sorted(RUNS.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_run_files_are_valid(path: Path):
    config = load_config(path)
    assert model_config_path(config.teacher.model).is_file()


def test_unknown_model_names_the_known_ones():
    with pytest.raises(UsageError, match="mask2former_r50"):
        model_config_path("mask2former_r5")


@pytest.mark.parametrize(
    ("model", "near"),
    [("mask2former_r5", "mask2former_r50"), ("swin_t", "mask2former_swin_t_coco")],
)
def test_names_near_an_unknown_model_are_told_in_one_line(model, near):
    with pytest.raises(UsageError) as caught:
        model_config_path(model)
    message = str(caught.value)
    assert near in message.replace(",", "").split()
    assert len(message.splitlines()) == 1
    assert len(message) < 300


def test_all_models_are_named_where_none_is_near():
    with pytest.raises(UsageError) as caught:
        model_config_path("nomodel")
    assert set(model_names()) <= set(str(caught.value).replace(",", "").split())
    assert len(str(caught.value).splitlines()) == 3


def test_model_digest_follows_its_bases(tmp_path):
    (tmp_path / "base.py").write_text("a = 1\n")
    (tmp_path / "model.py").write_text('_base_ = ["./base.py"]\n')
    before = model_config_digest(tmp_path / "model.py")
    (tmp_path / "base.py").write_text("a = 2\n")
    assert model_config_digest(tmp_path / "model.py") != before


def test_start_weights_are_those_of_the_nearest_config(tmp_path):
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "a.pth").write_bytes(b"a")
    (tmp_path / "b.pth").write_bytes(b"b")
    (tmp_path / "bases" / "base.py").write_text('start = "a.pth"\n')
    model = tmp_path / "model.py"
    model.write_text('_base_ = "bases/base.py"\n')
    assert start_weights(model) == tmp_path / "bases" / "a.pth"
    digest = model_config_digest(model)
    (tmp_path / "bases" / "a.pth").write_bytes(b"c")
    assert model_config_digest(model) != digest
    model.write_text('_base_ = ["bases/base.py"]\nstart = "b.pth"\n')
    assert start_weights(model) == tmp_path / "b.pth"
    model.write_text('_base_ = ["bases/base.py"]\nstart = None\n')
    assert start_weights(model) is None
    model.write_text('start = "none.pth"\n')
    for function in (start_weights, model_config_digest):
        with pytest.raises(UsageError, match=r"none\.pth"):
            function(model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('root = "/"\nstart = root + "b.pth"\n', r"model\.py, line 2: 'start'"),
        ("start = 3\n", r"model\.py: 'start'"),
        ('_base_ = ["a" + name]\n', r"model\.py, line 1: '_base_'"),
        ("_base_ = [1]\n", r"model\.py: '_base_'"),
        ('_base_ = ["none.py"]\n', r"none\.py"),
        ("model = dict(\n", r"model\.py: no valid Python"),
    ],
)
def test_model_configs_that_cannot_be_digested(tmp_path, text, message):
    (tmp_path / "model.py").write_text(text)
    with pytest.raises(UsageError, match=message):
        model_config_digest(tmp_path / "model.py")


def test_a_base_in_a_package_counts_by_its_name(tmp_path):
    digests = set()
    for base in ("mmdet::a/one.py", "mmdet::a/two.py"):
        (tmp_path / "base.py").write_text(f'_base_ = ["{base}"]\n')
        (tmp_path / "model.py").write_text('_base_ = ["./base.py"]\n')
        digests.add(model_config_digest(tmp_path / "model.py"))
    (tmp_path / "model.py").write_text('_base_ = ["./base.py"]\nother = 1\n')
    digests.add(model_config_digest(tmp_path / "model.py"))
    assert len(digests) == 3


def test_expected_weights_are_inherited_and_can_be_taken_back(tmp_path):
    assert "ResNet-50" in expects_weights("mask2former_r50")
    assert expects_weights("mask2former_demo") is None
    base = f'_base_ = ["{model_config_path("mask2former_r50")}"]\n'
    model = tmp_path / "model.py"
    model.write_text(base)
    assert "ResNet-50" in expects_weights(model)
    model.write_text(base + 'expects_weights = "mine"\n')
    assert expects_weights(model) == "mine"
    model.write_text(base + "expects_weights = None\n")
    assert expects_weights(model) is None


def test_model_names_leave_bases_out():
    assert "mask2former_r50" in model_names()
    assert not any(name.startswith("_") for name in model_names())


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], True),
        (["student.model=mask2former_lite0"], False),
        (["student.weights=random"], False),
        (["student.start=model"], False),
        (["student.model=mask2former_lite0", "student.start=teacher"], True),
    ],
)
def test_a_student_of_the_teachers_model_goes_on_from_the_teacher(tmp_path, overrides, expected):
    path = tmp_path / "run.yaml"
    path.write_text("work_dir: work\ndata: {labelled: {images: a, annotations: b.json}}\n")
    assert starts_from_teacher(load_config(path, overrides)) is expected


def test_weights_and_the_teacher_are_not_both_a_start(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("work_dir: work\ndata: {labelled: {images: a, annotations: b.json}}\n")
    with pytest.raises(UsageError, match="choose one"):
        load_config(path, ["student.start=teacher", "student.weights=random"])
