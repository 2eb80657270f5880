"""The guide's table of settings holds every setting, with the default that it has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from s4m_pipeline.config import RunConfig, Section

GUIDE = Path(__file__).parents[1] / "docs" / "guide.md"
NO_DEFAULT = "–"


def settings_told() -> dict[str, str]:
    """The default's cell of each setting, by its dotted name."""
    told: dict[str, str] = {}
    sections = [""]
    text = GUIDE.read_text().partition("| section | key | default | meaning |")[2]
    for line in text.partition("\n\n")[0].splitlines()[2:]:
        section, keys, defaults, _ = (cell.strip() for cell in line[1:].split("|", 3))
        sections = re.findall(r"`([^`]+)`", section) or sections
        for key, default in zip(re.findall(r"`([^`]+)`", keys), defaults.split(", "), strict=True):
            for name in sections:
                told[f"{name}.{key}".lstrip(".")] = default
    return told


def settings_there() -> dict[str, str]:
    """The same from the configuration's own classes."""
    there: dict[str, str] = {}
    for name, field in RunConfig.model_fields.items():
        if isinstance(field.default, Section):
            for key in type(field.default).model_fields:
                there[f"{name}.{key}"] = as_told(getattr(field.default, key))
        elif name == "data":
            there |= {f"data.{key}": NO_DEFAULT for key in ("labelled", "unlabelled", "validation")}
        else:
            there[name] = NO_DEFAULT if field.is_required() else as_told(field.default)
    return there


def as_told(value: Any) -> str:
    """A default as YAML has it on one line."""
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}`"


def test_every_setting_is_told_with_its_default() -> None:
    told, there = settings_told(), settings_there()
    shared = {key for key in there if key.partition(".")[0] in ("teacher", "student")}
    assert told.keys() == there.keys()
    for key, default in there.items():
        if key in shared and " / " in told[key]:
            of_teacher, of_student = told[key].split(" / ")
            assert default == (of_teacher if key.startswith("teacher") else of_student), key
        else:
            assert told[key] == default, key
