"""The table of engines: where the shards of an inference stage are processed."""

from __future__ import annotations

from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.base import Engine
from s4m_pipeline.late import load

ENGINES = {"local": "s4m_pipeline.execution.local:run_shards"}
"""Each `Engine` by its name in ``execution.engine``."""


def check_engine(name: str) -> None:
    """Raise UsageError where there is no such engine."""
    if name not in ENGINES:
        raise UsageError(f"execution.engine: there is no '{name}', only {', '.join(ENGINES)}")


def engine_named(name: str) -> Engine:
    """The engine of a name (UsageError where there is none)."""
    check_engine(name)
    run: Engine = load(ENGINES[name])
    return run
