"""What every section of a run's file has: unknown keys are faults, and booleans are no numbers.

Numbers are finite, and texts can be names of files.
"""

from __future__ import annotations

from typing import Any, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    JsonValue,
    ValidationInfo,
    field_validator,
)

PLACE: dict[str, JsonValue] = {"place": True}
"""Marks a setting that cannot change a stage's result."""


class Section(BaseModel):
    """A section of the run's file. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        """Read ``off``, which YAML takes for false, as a word; refuse booleans for other values.

        A number for a name or a path stays as it is written, so that the fault shows it so.
        """
        alternatives = _alternatives(cls.model_fields[str(info.field_name)].annotation)
        if isinstance(value, str):
            return _sound(value)
        if isinstance(value, list):
            value = [_sound(item) if isinstance(item, str) else item for item in value]
        if not isinstance(value, bool):
            return _plain(value) if alternatives & {int, float} else value
        if bool in alternatives:
            return value
        if not value and "off" in alternatives:
            return "off"
        null = "; use null to switch it off" if type(None) in alternatives else ""
        raise ValueError(f"cannot be true or false (YAML reads on, off, yes and no as these){null}")


def _sound(text: str) -> str:
    """Refuse a text that can be no name of a file, though YAML's escapes can write it."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError("holds half a character (a lone surrogate)") from error
    if "\0" in text:
        raise ValueError("holds a zero character, which no name has")
    return text


def _plain(value: Any) -> Any:
    """Numbers without the memory of how they are written."""
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    for kind in (int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            return kind(value)
    return value


def _alternatives(annotation: Any) -> set[Any]:
    """The types and literal values that an annotation allows."""
    parts = get_args(annotation)
    if not parts:
        return {annotation}
    return set().union(*(_alternatives(part) for part in parts))


def result_settings(section: Section) -> dict[str, Any]:
    """The settings of a section that can change a result, as JSON values."""
    dumped = section.model_dump(mode="json")
    for name, info in type(section).model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("place"):
            dumped.pop(name, None)
    return dumped
