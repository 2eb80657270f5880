"""Holding a model that a checkpoint describes against the list of what may be built."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from s4m_pipeline.models.trust.model_list import (
    ARGUMENTS,
    PASSED_ON,
    TRAINING,
    TYPES,
    UNREAD,
    WITHOUT_TYPE,
)
from s4m_pipeline.models.trust.number_bounds import longest, most

SCOPE = "mmdet."
WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""What a text in a model may look like: never a path, an address or an expression."""
LARGEST_SCALE = 2048
"""Pixels of the shorter side; that of Cityscapes is 1024."""
MOST_PARTS = 20_000
DEEPEST = 30
"""Bounds far above those of any real model; lists that share their content multiply."""


class NotListedError(Exception):
    """A model holds something that the list does not have; the message says what and where."""


def for_prediction(model: Any) -> Any:
    """A copy of a model without what only a training reads.

    In place of a ``train_cfg`` stands None, since some detectors want the argument.

    Args:
        model: A model's config.

    Raises:
        NotListedError: It is nested or repeated beyond every real model.
    """
    return _copied(model, UNREAD, iter(range(MOST_PARTS)), 0, emptied=TRAINING)


def as_configured(model: dict[str, Any]) -> dict[str, Any]:
    """A copy of a model as a config describes it, for comparison.

    It has no weights that a training starts from, and no settings of training and prediction but
    those of the whole: a detector that is built writes them into the settings of its heads.

    Args:
        model: A model's config, or what a training stored of it.

    Raises:
        NotListedError: As `for_prediction`.
    """
    copy: dict[str, Any] = _copied(model, UNREAD, iter(range(MOST_PARTS)), 0)
    whole = {name: copy.pop(name) for name in PASSED_ON if name in copy}
    inner: dict[str, Any] = _copied(copy, PASSED_ON, iter(range(MOST_PARTS)), 0)
    return inner | whole


def check_listed(model: Any) -> None:
    """Refuse a model that holds anything but listed types, arguments and plain values.

    What only a training reads is not built, but its types must be on the list as well: a file that
    names others was made to have them run. Weights to start from (``init_cfg`` and the like) may
    say anything, since nothing reads them.

    Args:
        model: A model's config, as plain values.

    Raises:
        NotListedError: It does.
    """
    model = _copied(model, UNREAD, iter(range(MOST_PARTS)), 0)
    if not isinstance(model, dict):
        raise NotListedError(f"the model is a {type(model).__name__}")
    _check(model, "", "model", "model")


def is_usual_scale(scale: tuple[int, int]) -> bool:
    """Whether a scale of testing is one that `check_scale` lets through."""
    return min(scale) <= LARGEST_SCALE


def check_scale(scale: tuple[int, int]) -> None:
    """Refuse a scale of testing at which one image takes more memory than any model needs.

    Raises:
        NotListedError: Both sides are larger than that of any model that ships, twice over.
    """
    if not is_usual_scale(scale):
        raise NotListedError(f"its scale of testing is {scale[0]} x {scale[1]}")


def _copied(
    value: Any,
    left_out: Collection[str],
    count: Iterator[int],
    depth: int,
    emptied: str | None = None,
) -> Any:
    """A copy that shares nothing with the original, nor one part of it with another."""
    if next(count, None) is None or depth > DEEPEST:
        raise NotListedError("the model has more parts than any real one")
    if isinstance(value, dict):
        return {
            key: None if key == emptied else _copied(inner, left_out, count, depth + 1, emptied)
            for key, inner in value.items()
            if key not in left_out
        }
    if isinstance(value, (list, tuple)):
        kind = tuple if isinstance(value, tuple) else list
        return kind(_copied(inner, left_out, count, depth + 1, emptied) for inner in value)
    return value


def _check(value: Any, part: str, place: str, path: str) -> None:
    """Check a value that stands under the name ``place`` in the dictionary under ``part``."""
    if isinstance(value, dict):
        _check_part(value, place, path)
    elif isinstance(value, (list, tuple)):
        if len(value) > longest(place):
            raise NotListedError(f"{path} is a list of {len(value)}")
        for inner in value:
            _check(inner, part, place, path)
    elif isinstance(value, str):
        if not WORD.fullmatch(value):
            raise NotListedError(f"{path} is {_shown(value)}")
    elif isinstance(value, (bool, int, float)):
        if not abs(value) <= most(part, place):  # which no NaN is
            raise NotListedError(f"{path} is {_number(value)}")
    elif value is not None:
        raise NotListedError(f"{path} is a {type(value).__name__}")


def _check_part(part: dict[Any, Any], place: str, path: str) -> None:
    kind = part.get("type")
    if "type" in part:
        name = kind.removeprefix(SCOPE) if isinstance(kind, str) else kind
        if not isinstance(name, str) or name not in TYPES.get(place, "").split():
            raise NotListedError(f"{path} is of type {_shown(kind)}")
        known = ARGUMENTS[name]
    elif place in WITHOUT_TYPE:
        known = WITHOUT_TYPE[place]
    else:
        raise NotListedError(f"{path} is a dictionary without a type")
    for key, inner in part.items():
        if key == "type":
            continue
        if key not in known.split():
            owner = f"{path} ({name})" if "type" in part else path
            raise NotListedError(f"{owner} has the argument {_shown(key)}")
        _check(inner, place, key, f"{path}.{key}")


def _number(value: float) -> str:
    """A number as a message may show it: Python writes none of more than some 4000 digits."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    return str(value)


def _shown(value: Any) -> str:
    """A value as a message may show it."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
