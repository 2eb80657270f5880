"""What documents tell users is so: settings and defaults, reason codes, commands and options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from s4m_pipeline.cli import VERBOSE
from s4m_pipeline.commands.app import build_app
from s4m_pipeline.config import RunConfig
from s4m_pipeline.config_data import DataSection
from s4m_pipeline.config_file import load_config
from s4m_pipeline.config_section import Section
from s4m_pipeline.refinement.reasons import Reason

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "guide.md"
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
RUN_FILES = sorted((ROOT / "s4m_pipeline" / "configs" / "runs").glob("*.yaml"))
RECIPES = ROOT / "docs" / "extending.md"
"""Its commands need its code; tests/test_extending.py types them."""
NO_DEFAULT = "–"
OLD_FLAG = "Now a command of its own"
"""How the help of a flag that has become a command begins."""
APP = typer.main.get_command(build_app())


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
            sets = ("labelled", "unlabelled", "validation")
            for key, own in DataSection.model_fields.items():
                there[f"data.{key}"] = NO_DEFAULT if key in sets else as_told(own.default)
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


def test_every_reason_code_is_told() -> None:
    table = GUIDE.read_text().partition("| `reason_code` | `decision` | why |")[2]
    lines = table.partition("\n\n")[0].splitlines()[2:]
    assert lines[0].startswith("| (none) |")
    codes = [re.findall(r"`([^`]+)`", line.split("|")[1]) for line in lines[1:]]
    assert codes == [[reason.value] for reason in Reason]


def command_lines(text: str) -> list[str]:
    """The lines of a text that begin with ``s4m``: in blocks, in comments of YAML, in backticks."""
    joined = re.sub(r"\\\n(?:#\s*)?", " ", text)
    parts = re.split(r"^```.*\n", joined, flags=re.MULTILINE)
    prose, blocks = parts[::2], parts[1::2]
    typed = [re.findall(r"^s4m .*$", block, re.MULTILINE) for block in blocks]
    typed += [re.findall(r"^# +(s4m .*)$", part, re.MULTILINE) for part in prose]
    typed += [re.findall(r"`(s4m\s[^`]+)`", part) for part in prose]
    return [" ".join(line.split()) for lines in typed for line in lines]


def fault_of(line: str) -> str:
    """What is wrong with a command line; empty where it can be typed."""
    command, words = APP, shlex.split(line, comments=True)[1:]
    words = [word for word in words if word not in (*VERBOSE, "--help")]
    while words and (nested := getattr(command, "commands", {})):
        if words[0] not in nested:
            return "" if words[0] in names(command) else f"no {words[0]}"
        command, words = nested[words[0]], words[1:]
    known = names(command)
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("-") and name not in known:
            return f"no {name}"
        if (getattr(known.get(name), "help", None) or "").startswith(OLD_FLAG):
            return f"{name} is a command now"
    return ""


def names(command: Any) -> dict[str, Any]:
    """A command's options by all their names."""
    return {
        name: option for option in command.params for name in (*option.opts, *option.secondary_opts)
    }


@pytest.mark.parametrize("document", [*DOCUMENTS, *RUN_FILES], ids=lambda path: path.name)
def test_every_command_line_can_be_typed(document: Path) -> None:
    lines = command_lines(document.read_text(encoding="utf-8"))
    faults = {line: fault_of(line) for line in lines if document != RECIPES}
    assert {line: fault for line, fault in faults.items() if fault} == {}
    if document.name in ("README.md", "guide.md", "RESULTS.md", "coco.yaml"):
        assert lines


def test_every_option_that_the_guide_names_is_one() -> None:
    spans = re.findall(r"`(-[^`]+)`", GUIDE.read_text())
    assert {span.split()[0] for span in spans} - {n for c in commands() for n in names(c)} == set()


def commands(command: Any = APP) -> Iterator[Any]:
    """A command and all below it."""
    yield command
    for nested in getattr(command, "commands", {}).values():
        yield from commands(nested)


def test_overrides_in_command_lines_are_settings(tmp_path: Path) -> None:
    run = tmp_path / "run.yaml"
    run.write_text("work_dir: w\ndata: {labelled: {images: i, annotations: a.json}}\n")
    for document in DOCUMENTS:
        for line in command_lines(document.read_text(encoding="utf-8")):
            words = shlex.split(line, comments=True)
            settings = [word for word in words if re.match(r"[a-z_]+\.[a-z_]+=", word)]
            if document != RECIPES:
                load_config(run, settings)


def test_a_command_line_that_cannot_be_typed_is_told() -> None:
    text = """`s4m refin -c run.yaml` and `s4m
    refine --points 3`

```
s4m data check --annotations a.json \\
  --colour red   # --no-option in a comment
s4m refine -c run.yaml --calibrate
s4m -v status -c run.yaml --json
s4m data check --headers
```
"""
    faults = [fault_of(line) for line in command_lines(text)]
    assert faults == [
        "no --colour",
        "--calibrate is a command now",
        "",
        "",
        "no refin",
        "no --points",
    ]
