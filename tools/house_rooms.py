"""The package's rooms, from the top: which modules make up each, and which room a file is in.

A room may use those below it; docs/architecture.md says what lives in each.
"""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "s4m_pipeline"

ROOMS: dict[str, tuple[str, ...]] = {
    "cli, commands": ("cli", "commands"),
    "workflow": ("workflow",),
    "stages": ("stages",),
    "labels": ("labels",),
    "models": ("models",),
    "engine": ("engine",),
    "training_data": ("training_data",),
    "refinement": ("refinement",),
    "metrics": ("metrics",),
    "data": ("data",),
    "segmenter": ("segmenter",),
    "execution": ("execution",),
    "review": ("review",),
    "configs": ("configs",),
    "devices": ("devices",),
    "artifacts": ("artifacts",),
    "ground": (
        "console",
        "config_file",
        "config_faults",
        "config",
        "config_data",
        "config_prompts",
        "config_section",
        "config_views",
        "config_yaml",
        "errors",
        "late",
        "object_sizes",
        "strict_json",
        "system_errors",
        "wording",
    ),
}
"""Modules and packages directly inside the package, by room."""


def room_of(name: str) -> str:
    """The room of a module or package that lies directly inside the package.

    Args:
        name: Without the package's name, such as ``stages`` or ``cli``.

    Raises:
        ValueError: It is in no room; ``ROOMS`` is to be told.
    """
    for room, members in ROOMS.items():
        if name in members:
            return room
    raise ValueError(f"s4m_pipeline.{name} is in no room: add it to tools/house_rooms.py")
