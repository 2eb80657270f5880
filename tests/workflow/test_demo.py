"""The demo's folder; its whole run is ``make demo``."""

import json

import pytest

from s4m_pipeline.config_file import load_config
from s4m_pipeline.errors import UsageError
from s4m_pipeline.workflow import demo


@pytest.fixture(autouse=True)
def _few_scenes(monkeypatch):
    monkeypatch.setattr(demo, "SCENES", {"labelled": 2, "unlabelled": 3, "validation": 2})


def test_the_demo_writes_scenes_and_a_run_file_that_loads(tmp_path):
    path = demo.prepare_demo(tmp_path / "demo", seed=5)
    config = load_config(path)
    assert config.seed == 5
    assert config.teacher.iterations == config.student.iterations
    assert (config.student.labelled_batch, config.student.unlabelled_batch) == (2, 6)
    assert config.teacher.batch_size == 8, "models that are compared see as many images"
    assert len(list(config.data.unlabelled.images.glob("*.jpg"))) == 3
    assert json.loads(config.data.labelled.annotations.read_text())["annotations"]


def test_the_demo_goes_on_in_its_own_folder_and_refuses_others(tmp_path):
    folder = tmp_path / "demo"
    demo.prepare_demo(folder, seed=5)
    demo.prepare_demo(folder, seed=5)
    with pytest.raises(UsageError, match="another seed"):
        demo.prepare_demo(folder, seed=6)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="holds no demo"):
        demo.prepare_demo(tmp_path / "other", seed=5)


@pytest.mark.parametrize(
    ("override", "message"),
    [("teacher.foo=3", "teacher.foo: unknown key"), ("student.model=nomodel", "'nomodel'")],
)
def test_wrong_overrides_are_refused_before_a_scene_is_drawn(tmp_path, override, message):
    with pytest.raises(UsageError, match=message):
        demo.run_demo(tmp_path / "demo", 0, [override])
    assert not (tmp_path / "demo").exists()


def test_a_file_in_place_of_the_demos_folder_is_told_as_one(tmp_path):
    (tmp_path / "demo").touch()
    with pytest.raises(UsageError, match="demo: is a file, not a folder"):
        demo.prepare_demo(tmp_path / "demo", seed=5)


def test_a_demo_stopped_while_scenes_are_drawn_goes_on(tmp_path, monkeypatch):
    from s4m_pipeline.data.scenes import scenes

    real, calls = scenes.generate_scenes, []

    def stops(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(demo, "generate_scenes", stops)
    with pytest.raises(KeyboardInterrupt):
        demo.prepare_demo(tmp_path / "demo", seed=5)
    demo.prepare_demo(tmp_path / "demo", seed=5)
    assert (tmp_path / "demo" / "scenes" / "validation.json").is_file()
