"""Describe what is wrong with a run's settings to the person who wrote them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from s4m_pipeline.config import RunConfig

_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a section of settings (key: value)",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "a smaller integer",
    "int_type": "an integer",
    "list_type": "a list",
    "model_type": "a section of settings (key: value)",
    "path_type": "a path (in quotes if it looks like something else)",
    "string_type": "text (in quotes if it looks like something else)",
}
"""What the setting expects, by pydantic's name of the fault."""

_BATCHES = (
    "is two settings now: set student.labelled_batch and student.unlabelled_batch, the images of "
    "each kind in a step"
)
GONE = {("student", "batch_size"): _BATCHES, ("student", "unlabelled_fraction"): _BATCHES}
"""Settings of earlier versions, with what to write instead."""

MOST_FAULTS = 20
"""Settings named at most."""
LONGEST_VALUE = 80
"""Characters shown of a value."""

_LIMITS = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
}


def describe_faults(error: ValidationError) -> str:
    """Describe all faults of a run's settings, each with its setting, in one line."""
    messages: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for fault in error.errors():
        setting = readable(".".join(_setting(fault["loc"])))
        messages.setdefault(setting, []).append(_message(fault))
        if fault["type"] not in ("missing", "extra_forbidden") and fault["loc"]:
            values[setting] = fault["input"]
    descriptions = []
    for setting, of_setting in messages.items():
        text = _joined(of_setting)
        if setting in values:
            text += f", found {_short(repr(values[setting]))}"
        descriptions.append(f"{setting}: {text}" if setting else text)
    left = len(descriptions) - MOST_FAULTS
    more = [f"and {left} more"] if left > 0 else []
    return "; ".join([*descriptions[:MOST_FAULTS], *more])


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def readable(name: str) -> str:
    """What somebody wrote, short, and with what a terminal cannot show escaped."""
    return _short(name if name.isprintable() else repr(name)[1:-1])


def _joined(messages: Sequence[str]) -> str:
    """Join a setting's messages: one for each kind of value that it allows."""
    first, *others = dict.fromkeys(messages)
    return " or ".join([first, *(other.removeprefix("expected ") for other in others)])


def _message(fault: Mapping[str, Any]) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        if fault["loc"] in GONE:
            return GONE[fault["loc"]]
        return f"unknown key{_suggestion(fault['loc'])}"
    if kind == "missing":
        return "is missing"
    if kind == "literal_error":
        return f"expected {context['expected']}"
    if kind in _LIMITS:
        return _LIMITS[kind].format(**context)
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}"
    return str(fault["msg"]).removeprefix("Value error, ")


def _setting(location: Sequence[int | str]) -> Iterator[str]:
    """The parts of a setting's name, without pydantic's names for the kinds of value it allows."""
    model: type[BaseModel] | None = RunConfig
    for place, part in enumerate(location):
        if isinstance(part, int):
            yield str(part)
        elif model is not None and (part in model.model_fields or place == len(location) - 1):
            yield part
            model = _section(model, part)


def _section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The section that a setting holds; None where it holds a value."""
    field = model.model_fields.get(name)
    annotation = None if field is None else field.annotation
    for option in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _suggestion(location: Sequence[int | str]) -> str:
    model: type[BaseModel] | None = RunConfig
    for part in location[:-1]:
        model = None if model is None else _section(model, str(part))
    known = [] if model is None else list(model.model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f", did you mean '{close[0]}'?" if close else ""
