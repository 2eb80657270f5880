"""What a model config says of the most and the smallest objects that its model can find.

The config is read, not run: `--dry-run` and `data check` answer without MMEngine. What is computed
in ways that are not understood here is unknown, and then nothing is said.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s4m_pipeline.configs import configs_of, syntax_tree, values_of

MASK2FORMER_HEAD = "Mask2FormerHead"
"""Name of MMDetection's head. It is part of our head's name too; ours takes the place of theirs."""

_UNKNOWN = object()
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """Limits of a Mask2Former; None where the config does not say.

    Attributes:
        queries: Instances that it finds in an image at most.
        stride: Pixels of its input a cell of the features that masks are made of.
        scale: Long and short side, in either order, that training images are scaled to fit; the
            middle of the range where it is drawn.
    """

    queries: int | None = None
    stride: int | None = None
    scale: tuple[int, int] | None = None

    def cell(self, height: int, width: int) -> float | None:
        """Pixels of an image of this size that a cell covers at the training's scale."""
        if self.stride is None or self.scale is None:
            return None
        factor = min(max(self.scale) / max(height, width), min(self.scale) / min(height, width))
        return self.stride / factor


def limits_of(model: str | Path) -> ModelLimits:
    """The limits of a model; unknown ones for a model that is no Mask2Former.

    Args:
        model: A name in ``configs/models``, or a path to an MMEngine config.

    Raises:
        UsageError: There is no such config.
    """
    configs = configs_of(model)
    if not any(MASK2FORMER_HEAD in config.read_text() for config in configs):
        return ModelLimits()
    strides = _nearest(configs, "strides")
    stride = strides[0] if isinstance(strides, (list, tuple)) and strides else None
    scale = _train_scale(_nearest(configs, "train_pipeline", outermost=True))
    if scale is None:
        scale = _pair(_nearest(configs, "test_scale", outermost=True))
    return ModelLimits(_count(_nearest(configs, "num_queries")), _count(stride), scale)


def _nearest(configs: list[Path], name: str, outermost: bool = False) -> Any:
    """The value that the first config with this name gives to it; None where it is not known."""
    for config in configs:
        tree = syntax_tree(config)
        nodes = tree.body if outermost else ast.walk(tree)
        found = [value for node in nodes for value in values_of(node, name)]
        if found:
            value = _value(found[-1], _names(tree))
            return None if value is _UNKNOWN else value
    return None


def _names(tree: ast.Module) -> dict[str, Any]:
    """The values of a config's own variables, as far as they are understood."""
    names: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    names[target.id] = _value(node.value, names)
    return names


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of an expression of literals, names and ``dict()``; parts of it may be unknown."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return names.get(node.id, _UNKNOWN)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(inner, names) for inner in node.elts]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {word.arg: _value(word.value, names) for word in node.keywords}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {k.value: _value(v, names) for k, v in pairs if isinstance(k, ast.Constant)}
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left, names), _value(node.right, names)
        if all(type(side) in (int, float) and abs(side) < 1e9 for side in (left, right)):
            return _OPERATORS[type(node.op)](left, right) if right else _UNKNOWN
    return _UNKNOWN


def _train_scale(pipeline: Any) -> tuple[int, int] | None:
    """The scale of the last transform that scales; None where it has several, or none."""
    scales = [step["scale"] for step in _steps(pipeline) if "scale" in step]
    return _pair(scales[-1]) if scales else None


def _steps(pipeline: Any) -> Iterator[Mapping[str, Any]]:
    for step in pipeline if isinstance(pipeline, list) else []:
        if isinstance(step, dict):
            yield step


def _pair(value: Any) -> tuple[int, int] | None:
    sides = [_count(side) for side in value] if isinstance(value, list) else []
    return (sides[0], sides[1]) if len(sides) == 2 and sides[0] and sides[1] else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
