"""What a run's file may hold: nothing is read otherwise than it is written."""

from __future__ import annotations

import time

import pytest

from s4m_pipeline.config_file import load_config
from s4m_pipeline.config_yaml import YamlError, read_yaml
from s4m_pipeline.errors import UsageError

DATA = "work_dir: work\ndata: {labelled: {images: photos, annotations: a.json}}\n"


@pytest.fixture
def run_file(tmp_path):
    def write(text):
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(path, *overrides) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(path, overrides)
    assert len(str(caught.value).splitlines()) <= 3
    assert len(str(caught.value)) < 3000
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("seed: 1\nseed: 2\n", "seed", "lines 3 and 4"),
        ("teacher:\n  iterations: 5\n  batch_size: 2\n  iterations: 9\n", "iterations", "4 and 6"),
        ("teacher: {iterations: 5}\nseed: 1\nteacher: {batch_size: 2}\n", "teacher", "3 and 5"),
        ("seed: 1\n'seed': 2\n", "seed", "lines 3 and 4"),
        ("a: &a {x: 1}\nteacher: {<<: *a, <<: *a}\n", "<<", "in line 4"),
    ],
)
def test_a_key_that_stands_twice_is_named_with_both_lines(run_file, text, key, lines):
    message = refused(run_file(DATA + text))
    assert f"'{key}' stands twice" in message
    assert lines in message
    assert "run.yaml" in message


def test_an_override_may_not_hold_a_key_twice(run_file):
    message = refused(run_file(DATA), "teacher={iterations: 5, iterations: 6}")
    assert "'iterations' stands twice" in message


@pytest.mark.parametrize(
    ("setting", "written"),
    [
        ("data.labelled.images", "2024_05"),
        ("data.labelled.annotations", "2024.05"),
        ("work_dir", "0x10"),
        ("segmenter.checkpoint", "2024_05"),
        ("teacher.model", "1_0"),
    ],
)
def test_a_number_for_a_path_or_a_name_is_shown_as_it_is_written(run_file, setting, written):
    message = refused(run_file(DATA), f"{setting}={written}")
    assert f"{setting}: expected " in message
    assert "in quotes" in message
    assert f"found {written}" in message


def test_dates_and_numbers_in_quotes_are_names(run_file, tmp_path):
    path = run_file(DATA.replace("photos", "2024-05-01").replace("a.json", "'2024_05'"))
    labelled = load_config(path).data.labelled
    assert labelled.images == tmp_path / "2024-05-01"
    assert labelled.annotations == tmp_path / "2024_05"


@pytest.mark.parametrize("written", ["010", "1:30", "0_7", "0b_", "-012"])
def test_what_yaml_reads_as_another_number_is_refused(run_file, written):
    assert written in refused(run_file(DATA), f"seed={written}")


@pytest.mark.parametrize(
    ("written", "number"), [("90_000", 90000), ("0", 0), ("0x1F", 31), ("0b101", 5), ("+7", 7)]
)
def test_numbers_are_those_written(run_file, written, number):
    seed = load_config(run_file(DATA), [f"seed={written}"]).seed
    assert (seed, type(seed)) == (number, int)


@pytest.mark.parametrize(
    ("setting", "written", "told"),
    [
        ("seed", "-1", "must be at least 0"),  # NumPy's generators take no other seeds
        ("seed", "4294967296", "must be below 4294967296"),
        ("teacher.iterations", "9" * 30, "must be below"),
        ("teacher.iterations", "9" * 5000, "is no number"),
        ("student.unlabelled_weight", ".inf", "a finite number"),
        ("student.unlabelled_weight", "1e999", "a finite number"),
        ("student.unlabelled_weight", ".nan", "a finite number"),
        ("teacher.model", '"a\\0b"', "a zero character"),
        ("work_dir", '"\\ud800"', "half a character"),
        ("work_dir", "~nobody-has-this-name/x", "home folder"),
    ],
)
def test_values_that_nothing_can_work_with(run_file, setting, written, told):
    message = refused(run_file(DATA), f"{setting}={written}")
    assert told in message
    assert setting in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 5000, "levels"),
        ("{a: " * 5000, "levels"),
        ("&a [*a]", "within what it refers to"),
        ("a: &a {b: {c: *a}}", "within what it refers to"),
        ("a: 1\n" * 300_000, "characters"),
        ("!!binary aGVsbG8=", "no kind of value"),
        ("!!set {a, b}", "no kind of value"),
        ("!!python/name:os.system x", "no kind of value"),
        ("!!int word", "no number"),
        ("!!bool maybe", "neither true nor false"),
        ("!!str [a]", "not of the kind"),
        ("!!map a", "not of the kind"),
        ("[a]: b", "a word"),
    ],
)
def test_what_no_setting_needs_is_refused_at_once(text, told):
    start = time.monotonic()
    with pytest.raises(YamlError, match=told):
        read_yaml(text)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("inner", ["[{0}, {0}, {0}, {0}]", "{{a: {0}, b: {0}, c: {0}, d: {0}}}"])
def test_aliases_that_multiply_are_refused(run_file, inner):
    """Thirty levels of four are 10 to the 18th values."""
    lines = ["l0: &l0 x", *(f"l{n}: &l{n} {inner.format(f'*l{n - 1}')}" for n in range(1, 31))]
    message = refused(run_file(DATA + "\n".join(lines)))
    assert "10,000 values" in message


def test_a_section_taken_from_another_by_alias_changes_alone(run_file):
    text = DATA + "teacher: &t {iterations: 5}\nstudent: *t\n"
    config = load_config(run_file(text), ["student.iterations=9"])
    assert (config.teacher.iterations, config.student.iterations) == (5, 9)


def test_merged_sections_may_be_overridden_and_merged_again(run_file):
    text = DATA + (
        "teacher: &t {iterations: 5, checkpoint_interval: 3}\n"
        "student: &s {<<: *t, iterations: 6}\n"
        "calibration: {iterations: 7}\n"
    )
    config = load_config(run_file(text))
    assert (config.student.iterations, config.student.checkpoint_interval) == (6, 3)


def test_many_faults_and_long_values_stay_short(run_file):
    many = "".join(f"key_{n}: 1\n" for n in range(500))
    assert "and 480 more" in refused(run_file(DATA + many))
    assert "..." in refused(run_file(DATA + f"seed: {'x' * 100_000}\n"))
    shown = refused(run_file(DATA), "se\x1eed=[")
    assert "override 'se\\x1eed=['" in shown
    escaped = refused(run_file(DATA + '"a\\n\\u001b[31m": 1\n'))
    assert "\x1b" not in escaped
