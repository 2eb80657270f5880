"""YAML as a run's file may use it: what PyYAML's safe loader reads otherwise than written is
refused, and nothing that is read grows beyond what was written.

A key that stands twice has one value too many, ``010`` is 8 to YAML 1.1, and ``1:30`` is 90.
Aliases that refer to aliases multiply. Numbers remember how they are written, for messages.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

LONGEST = 1 << 20
"""Characters of a run's file at most; the longest that anybody needs has a few thousand."""
DEEPEST = 32
"""Levels of brackets or indentation at most; settings need four."""
MOST_VALUES = 10_000
"""Values at most, those of aliases counted wherever they are used."""

_TAG = "tag:yaml.org,2002:"
_VALUE_TAGS = tuple(_TAG + name for name in ("null", "bool", "int", "float", "str", "timestamp"))
_TAGS = (*_VALUE_TAGS, *(_TAG + name for name in ("map", "seq", "merge")))
_PLAIN_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]*[0-9a-fA-F]|0b[01_]*[01])")


class YamlError(Exception):
    """Text that is not YAML, or uses what a run's file may not; the message is one line."""


class WrittenInt(int):
    """An integer that shows itself as it is written, such as ``2024_05``."""

    written: str

    def __repr__(self) -> str:
        return self.written


class WrittenFloat(float):
    """A number that shows itself as it is written."""

    written: str

    def __repr__(self) -> str:
        return self.written


def read_yaml(text: str) -> Any:
    """Read a document.

    Args:
        text: The document.

    Returns:
        Mappings, lists, texts, booleans, None, `WrittenInt` and `WrittenFloat`. Dates are texts.

    Raises:
        YamlError: It is not YAML, or uses what a run's file may not.
    """
    if len(text) > LONGEST:
        raise YamlError(f"longer than the {LONGEST:,} characters that settings may take")
    try:
        loader = _Loader(text)
        try:
            return _apart(loader.get_single_data())
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise YamlError(f"not valid YAML: {' '.join(str(error).split())}") from error


def _apart(value: Any) -> Any:
    """A copy in which what an alias repeats stands on its own, so that it can be changed alone."""
    if isinstance(value, dict):
        return {key: _apart(inner) for key, inner in value.items()}
    return [_apart(inner) for inner in value] if isinstance(value, list) else value


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, of which only plain values, lists and mappings are left."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Compose a value; refuse too many levels, too many values, and aliases of themselves."""
        is_alias = self.check_event(yaml.AliasEvent)
        line = self.peek_event().start_mark.line + 1
        self._depth += 1
        if self._depth > DEEPEST:
            raise YamlError(f"line {line}: more than {DEEPEST} levels in each other")
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if is_alias and id(node) not in self._sizes:
            raise YamlError(f"line {line}: an alias stands within what it refers to")
        if not is_alias:
            self._sizes[id(node)] = self._size(node)
        if self._sizes[id(node)] > MOST_VALUES:
            raise YamlError(f"line {line}: more than {MOST_VALUES:,} values, with those of aliases")
        return node

    def _size(self, node: Node) -> int:
        """How many values a node holds, counted where they are used."""
        if isinstance(node, SequenceNode):
            return 1 + sum(self._sizes[id(inner)] for inner in node.value)
        if isinstance(node, MappingNode):
            pairs = ((self._sizes[id(key)], self._sizes[id(value)]) for key, value in node.value)
            return 1 + sum(key + value for key, value in pairs)
        return 1

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """Read a value; refuse those of other kinds."""
        if node.tag not in _TAGS:
            raise YamlError(
                f"{_line(node)}: '{_short(node.tag)}' is no kind of value for a setting"
            )
        if isinstance(node, ScalarNode) != (node.tag in _VALUE_TAGS or node.tag == _TAG + "merge"):
            raise YamlError(f"{_line(node)}: this is not of the kind '{_short(node.tag)}'")
        return super().construct_object(node, deep)

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Compose a section; refuse a key that stands twice. Keys are words, however they look."""
        section: MappingNode = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], int] = {}
        for number, (key, _) in enumerate(section.value):
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                raise YamlError(f"line {line}: a setting's name is a word, not a list or a section")
            if key.tag != _TAG + "merge":
                key.tag = _TAG + "str"
            before = first.setdefault((key.tag, key.value), line)
            if len(first) <= number:
                lines = f"lines {before} and {line}" if before != line else f"line {line}"
                raise YamlError(f"{key.value!r} stands twice, in {lines}: keep one of them")
        return section


def _line(node: Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _short(tag: str) -> str:
    return tag.replace(_TAG, "!!")


def _integer(loader: _Loader, node: ScalarNode) -> WrittenInt:
    number: WrittenInt = _as_written(loader, node, WrittenInt)
    text = node.value
    if _PLAIN_INTEGER.fullmatch(text) is None:
        meant = text.lstrip("+-").lstrip("0_") or "0"
        hint = (
            f"write {meant} for a number, or '{text}'" if meant.isdecimal() else f"write '{text}'"
        )
        raise YamlError(f"{_line(node)}: {text} is another number to YAML; {hint} for a name")
    return number


def _as_written(loader: _Loader, node: ScalarNode, kind: type[Any]) -> Any:
    """The number that a scalar is, with its text."""
    construct = {WrittenInt: loader.construct_yaml_int, WrittenFloat: loader.construct_yaml_float}
    try:
        number = kind(construct[kind](node))
    except ValueError as error:  # no number at all (!!int x), or one with thousands of digits
        raise YamlError(f"{_line(node)}: {node.value[:40]!r} is no number") from error
    number.written = node.value
    return number


def _number(loader: _Loader, node: ScalarNode) -> WrittenFloat:
    if ":" in node.value:
        raise YamlError(
            f"{_line(node)}: {node.value} is another number to YAML; write it in quotes"
        )
    number: WrittenFloat = _as_written(loader, node, WrittenFloat)
    return number


def _boolean(loader: _Loader, node: ScalarNode) -> bool:
    if node.value.lower() not in loader.bool_values:
        raise YamlError(f"{_line(node)}: {node.value[:40]!r} is neither true nor false")
    return bool(loader.construct_yaml_bool(node))


def _date(loader: _Loader, node: ScalarNode) -> str:
    """No setting is a date, but folders are named by dates."""
    return str(loader.construct_scalar(node))


_Loader.add_constructor(_TAG + "int", _integer)
_Loader.add_constructor(_TAG + "float", _number)
_Loader.add_constructor(_TAG + "bool", _boolean)
_Loader.add_constructor(_TAG + "timestamp", _date)
