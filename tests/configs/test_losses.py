"""What a training's losses are, as its section of the run's file says it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from s4m_pipeline.config import StudentSection, TeacherSection
from s4m_pipeline.configs.losses import IGNORE_SCORE, OFF, StudentLosses

CHANGES: dict[str, Any] = {
    "unlabelled_weight": 1.5,
    "structure_weight": 0.25,
    "class_weight": 0.5,
    "class_temperature": 3.0,
    "quality_weight": True,
    "ignore_score": 0.125,
}


def test_every_field_is_a_setting_of_the_student_under_the_same_name() -> None:
    assert CHANGES.keys() == {field.name for field in fields(StudentLosses)}
    assert StudentLosses.of(StudentSection(**CHANGES)) == StudentLosses(**CHANGES)


def test_each_setting_alone_changes_its_own_field_alone() -> None:
    plain = StudentLosses.of(StudentSection())
    for name, value in CHANGES.items():
        losses = StudentLosses.of(StudentSection(**{name: value}))
        for field in fields(StudentLosses):
            expected = value if field.name == name else getattr(plain, field.name)
            assert getattr(losses, field.name) == expected, (name, field.name)


def test_a_teacher_has_the_structural_loss_alone() -> None:
    losses = StudentLosses.of(TeacherSection(structure_weight=0.75))
    assert losses == StudentLosses(structure_weight=0.75)
    assert losses.for_mask2former() == []


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("mask2former_lite0", "auto", IGNORE_SCORE),
        ("mask_rcnn_lite0", "auto", None),
        ("mask2former_lite0", None, None),
        ("mask_rcnn_lite0", 0.4, 0.4),
    ],
)
def test_automatic_ignore_regions_follow_the_model(
    model: str, given: Any, expected: float | None
) -> None:
    losses = StudentLosses.of(StudentSection(model=model, ignore_score=given))
    assert losses.ignore_score == expected
    assert losses.ignore_regions == (expected is not None)


def test_only_what_is_in_use_needs_a_mask2former() -> None:
    assert StudentLosses(structure_weight=1.0, class_temperature=2.0).for_mask2former() == []
    for name in OFF:
        assert StudentLosses(**{name: CHANGES[name]}).for_mask2former() == [name]
    assert StudentLosses(ignore_score=0.0).for_mask2former() == ["ignore_score"]
    assert StudentLosses(**CHANGES).for_mask2former() == list(OFF)
