"""What users edit or start from: model configs (MMEngine, Python) and run files (YAML)."""

from __future__ import annotations

import ast
import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap
from typing import Any

from s4m_pipeline.artifacts.fingerprint import digest_of, file_digest
from s4m_pipeline.errors import UsageError

MODELS = Path(__file__).parent / "models"
RUNS = Path(__file__).parent / "runs"
PACKAGE = "package:"
"""Begins the name of a file inside an installed package: ``package:NAME/PATH``."""


def model_names() -> list[str]:
    """Names of the model configs that ship with the package (bases left out)."""
    return sorted(p.stem for p in MODELS.glob("*.py") if not p.stem.startswith("_"))


def model_config_path(model: str | Path) -> Path:
    """Find a model config by its name or path.

    A config given by path is Python code and runs when it is read: use only what is trusted.

    Raises:
        UsageError: There is no such name, or no such file.
    """
    path = Path(model) if str(model).endswith(".py") else MODELS / f"{model}.py"
    if not path.is_file():
        raise UsageError(f"model '{model}': {_unknown_model(model)}")
    return path


def _unknown_model(model: str | Path) -> str:
    """What is wrong with a model's name or path, and which names are near it."""
    if str(model).endswith(".py"):
        return "no such file"
    names = model_names()
    if Path(model).is_file():
        return "a model config is a Python file, whose name ends in .py"
    close = difflib.get_close_matches(str(model), names, n=3, cutoff=0.6)
    close += [name for name in names if str(model) in name and name not in close]
    if close:
        return f"neither a file nor a model's name; near it: {', '.join(close[:6])}"
    listed = ", ".join(names)
    lines = wrap(listed, len(listed) // 2 + max(map(len, names)))
    return "\n".join(["neither a file nor one of these names:", *lines])


def model_config_digest(model: str | Path) -> str:
    """Digest of a model config and of what it names: its bases and its files of weights.

    The config is read, not run. A base inside an installed package (``mmdet::...``) counts by its
    name.

    Raises:
        UsageError: A file is missing, or a name in the config is no plain string.
    """
    configs, packaged = _with_bases(model)
    weights = [path for path in backbone_weights(model).values() if path.is_file()]
    start = start_weights(model)
    files = {*configs, *weights, *([] if start is None else [start])}
    return digest_of(sorted([*(file_digest(path) for path in files), *packaged]))


def start_weights(model: str | Path) -> Path | None:
    """The file of weights that a model config starts from: ``start = "file"``.

    A config's assignment counts before its bases', ``None`` takes it back, and the path is relative
    to the file that assigns it. The config is read, not run.

    Raises:
        UsageError: There is no such file, or it is not given as a plain string.
    """
    name, config = _assigned_text(model, "start")
    if name is None:
        return None
    path = _beside(config, name)
    if not path.is_file():
        raise UsageError(f"{config}: no weights to start from here: {path}")
    return path


def expects_weights(model: str | Path) -> str | None:
    """What weights a model config is made to start from, in words: ``expects_weights = "..."``.

    A config's assignment counts before its bases', and ``None`` takes it back.

    Raises:
        UsageError: It is not given as a plain string.
    """
    return _assigned_text(model, "expects_weights")[0]


def backbone_weights(model: str | Path) -> dict[str, Path]:
    """The files that a model config or its bases give a part as ``weights``.

    Returns:
        Paths by how the config writes them; each is relative to the config that does. They need not
        exist. Files inside packages (``package:...``) are left out.
    """
    files: dict[str, Path] = {}
    for config in _with_bases(model)[0]:
        for node in ast.walk(syntax_tree(config)):
            for value in values_of(node, "weights"):
                text = value.value if isinstance(value, ast.Constant) else None
                if isinstance(text, str) and not text.startswith(PACKAGE):
                    files.setdefault(text, _beside(config, text))
    return files


def configs_of(model: str | Path) -> list[Path]:
    """A config's file with those of its bases, each before its own; not those inside packages."""
    return _with_bases(model)[0]


def _with_bases(model: str | Path) -> tuple[list[Path], list[str]]:
    """A config's file with those of its bases, each before its own; and bases inside packages."""
    pending, files, packaged = [Path(os.path.abspath(model_config_path(model)))], [], []
    while pending:
        config = pending.pop(0)
        if config in files:
            continue
        files.append(config)
        bases = _assigned(config, "_base_") or []
        bases = [bases] if isinstance(bases, str) else bases
        if not all(isinstance(base, str) for base in bases):
            raise UsageError(f"{config}: '_base_' must be a path or a list of paths, not {bases!r}")
        for base in bases:
            if "::" in base:
                packaged.append(base)
            else:
                pending.append(_beside(config, base))
    return files, packaged


def _assigned_text(model: str | Path, name: str) -> tuple[str | None, Path]:
    """The string that a config or its nearest base assigns to a name, and the file that does."""
    configs = _with_bases(model)[0]
    for config in configs:
        value = _assigned(config, name)
        if isinstance(value, str):
            return value, config
        if value is None:
            return None, config
        if value != ():
            raise UsageError(f"{config}: '{name}' must be a string or None, not {value!r}")
    return None, configs[0]


def _assigned(config: Path, name: str) -> Any:
    """The literal that a config assigns to a name at its outermost level; () without one."""
    value: Any = ()
    for node in syntax_tree(config).body:
        for expression in values_of(node, name):
            try:
                value = ast.literal_eval(expression)
            except (ValueError, TypeError, SyntaxError) as error:
                raise UsageError(
                    f"{config}, line {node.lineno}: '{name}' must be written out, not computed:\n"
                    f"{ast.unparse(node)}"
                ) from error
    return value


def values_of(node: ast.AST, name: str) -> list[ast.expr]:
    """The values that one node of a syntax tree gives to a variable, an argument or a key."""
    if isinstance(node, ast.keyword):
        return [node.value] if node.arg == name else []
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return [v for k, v in pairs if isinstance(k, ast.Constant) and k.value == name]
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    if not any(isinstance(target, ast.Name) and target.id == name for target in targets):
        return []
    value = getattr(node, "value", None)
    return [] if value is None else [value]


def syntax_tree(config: Path) -> ast.Module:
    """A config's syntax tree; an empty one for a base in another language."""
    if config.suffix != ".py":
        return ast.Module([], [])
    try:
        return ast.parse(config.read_text())
    except OSError as error:
        raise UsageError(f"{config}: {error.strerror or error}") from error
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{config}: no valid Python config ({error})") from error


def _beside(config: Path, name: str) -> Path:
    """A path that a config gives, relative to that config."""
    return Path(os.path.abspath(config.parent / Path(name).expanduser()))


def may_have(model: str | Path, name: str) -> bool:
    """Whether a model config, or a base of it, names a module; True where it cannot be known.

    The config is read, not run. A base inside an installed package is not looked into.
    """
    configs, packaged = _with_bases(model)
    return bool(packaged) or _is_named(configs, name)


def names_module(model: str | Path, name: str) -> bool:
    """Whether a model config, or a base of it outside installed packages, names a module."""
    return _is_named(configs_of(model), name)


def _is_named(configs: Iterable[Path], name: str) -> bool:
    return any(name in config.read_text() for config in configs)


def write_run_template(name: str, out: Path) -> None:
    """Copy a run file that ships with the package.

    Raises:
        UsageError: There is no such template, or ``out`` is there already.
    """
    source = RUNS / f"{name}.yaml"
    if not source.is_file():
        known = ", ".join(sorted(p.stem for p in RUNS.glob("*.yaml")))
        raise UsageError(f"no run file is called '{name}', only {known}")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with out.open("x") as file:  # which does not follow a link to nowhere either
            file.write(source.read_text())
    except FileExistsError as error:
        raise UsageError(f"{out} is there already; s4m init does not overwrite it") from error
