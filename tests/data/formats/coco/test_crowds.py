"""Crowds are no labels: one rule for reading, check, split and training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from s4m_pipeline.config_data import LabelledSet
from s4m_pipeline.data.check.check import check_coco
from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.formats.coco.values import crowd_of
from s4m_pipeline.data.split.split import SplitSource
from s4m_pipeline.engine.image_sets import read_labelled
from s4m_pipeline.errors import UsageError
from tests.small_sets import coco_content, write_json

BAD: list[Any] = ["0", "1", "false", "", None, 2, -1, 0.5, [], [0], {}, float("nan")]


def _with(path: Path, value: Any, count: int | None = None) -> int:
    """Give the first annotations this iscrowd, or all of them; the number of annotations."""
    content = coco_content()
    for entry in content["annotations"][:count]:
        entry["iscrowd"] = value
    write_json(path, content)
    return len(content["annotations"])


@pytest.mark.parametrize(
    ("value", "crowd"),
    [(0, False), (1, True), (False, False), (True, True), (0.0, False), (1.0, True)],
)
def test_the_values_that_iscrowd_may_have(value: Any, crowd: bool) -> None:
    assert crowd_of({"iscrowd": value}) is crowd
    assert crowd_of({}) is False


@pytest.mark.parametrize("value", BAD)
def test_another_iscrowd_is_a_fault_everywhere(small_set: tuple[Path, Path], value: Any) -> None:
    _with(small_set[0], value, 1)
    written = f"its iscrowd is {json.dumps(value)}, not 0, 1, true or false"
    for call in (coco.load, SplitSource):
        with pytest.raises(UsageError) as raised:
            call(*small_set)
        assert written in str(raised.value)
        assert str(small_set[0]) in str(raised.value)
    found = {fault.kind: fault for fault in check_coco(*small_set)}
    assert found["bad-iscrowd"].examples == (f"annotation 0 of image 0: {written}",)


@pytest.mark.parametrize("value", [1, True])
def test_a_set_of_crowds_alone_has_no_label(small_set: tuple[Path, Path], value: Any) -> None:
    count = _with(small_set[0], value)
    said = f"{count} of {count} annotations are crowds"
    with pytest.raises(UsageError, match=f"data.labelled: {said}"):
        read_labelled(LabelledSet(annotations=small_set[0], images=small_set[1]), "data.labelled")
    with pytest.raises(UsageError, match=said):
        SplitSource(*small_set)
    found = {fault.kind: fault for fault in check_coco(*small_set)}
    assert found["only-crowds"].examples[0].startswith(said)
    assert not found["only-crowds"].is_note


def test_one_instance_that_is_no_crowd_is_enough(small_set: tuple[Path, Path]) -> None:
    count = _with(small_set[0], 1, -1)
    section = LabelledSet(annotations=small_set[0], images=small_set[1])
    assert read_labelled(section, "data.labelled").instance_count == count
    SplitSource(*small_set)
    assert "only-crowds" not in {fault.kind for fault in check_coco(*small_set)}


def test_the_cases_that_people_have(shared_dir: Path, tmp_path: Path) -> None:
    for name, said in (
        ("01-cvat-masks-all-iscrowd", r"\d+ of \d+ annotations are crowds"),
        ("02-iscrowd-as-text", r'its iscrowd is "0", not 0, 1, true or false'),
    ):
        folder = tmp_path / name
        shutil.copytree(shared_dir / "cases" / name / "scenes", folder)
        files = (folder / "labelled.json", folder / "labelled")
        section = LabelledSet(annotations=files[0], images=files[1])
        with pytest.raises(UsageError, match=said):
            read_labelled(section, "data.labelled")
        with pytest.raises(UsageError, match=said):
            SplitSource(*files)
        kinds = {fault.kind for fault in check_coco(*files)}
        assert kinds & {"only-crowds", "bad-iscrowd"}
