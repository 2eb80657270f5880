"""What users edit or start from: model configs (MMEngine, Python) and run files (YAML)."""

from __future__ import annotations

import ast
from pathlib import Path

from s4m_pipeline.artifacts.fingerprint import digest_of, file_digest
from s4m_pipeline.errors import UsageError

MODELS = Path(__file__).parent / "models"
RUNS = Path(__file__).parent / "runs"


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
        raise UsageError(
            f"model '{model}': neither a file nor one of the names {', '.join(model_names())}"
        )
    return path


def model_config_digest(model: str | Path) -> str:
    """Digest of a model config and of what it names: its bases, its start weights.

    The config is read, not run.
    """
    pending, digests = [model_config_path(model).resolve()], {}
    while pending:
        path = pending.pop()
        if path in digests:
            continue
        digests[path] = file_digest(path)
        if path.suffix == ".py":
            named = [*_literal(path, "_base_"), *_literal(path, "start")]
            pending += [(path.parent / name).resolve() for name in named]
    return digest_of(sorted(digests.values()))


def _literal(path: Path, name: str) -> list[str]:
    """The file names that a config assigns to ``name``: bases, or weights to start from."""
    try:
        tree = ast.parse(path.read_text())
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{path}: no valid Python config ({error})") from error
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in node.targets
        ):
            value = ast.literal_eval(node.value)
            return [value] if isinstance(value, str) else list(value or [])
    return []


def write_run_template(name: str, out: Path) -> None:
    """Copy a run file that ships with the package.

    Raises:
        UsageError: There is no such template, or ``out`` is there already.
    """
    source = RUNS / f"{name}.yaml"
    if not source.is_file():
        known = ", ".join(sorted(p.stem for p in RUNS.glob("*.yaml")))
        raise UsageError(f"no run file is called '{name}', only {known}")
    if out.exists():
        raise UsageError(f"{out} is there already; s4m init does not overwrite it")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(source.read_text())
