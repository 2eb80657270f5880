"""What a comparison of labels decided, in a file of its artifact."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

from s4m_pipeline.artifacts.plain_files import read_plain
from s4m_pipeline.artifacts.sealed import write_json
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.strict_json import read_json

DECISION = "decision.json"


@dataclass(frozen=True, slots=True)
class Taken:
    """The labels that a training goes on with.

    Attributes:
        labels: The refresh that made them; 0 for the round's first ones.
        count: How many they are.
        quality: Of their labeller's labels on the validation images; None where there are none.
    """

    labels: int
    count: int
    quality: float | None


def write_decision(folder: Path, taken: Taken) -> Path:
    """Write a decision into its artifact's folder; gives the file."""
    write_json(folder / DECISION, asdict(taken))
    return folder / DECISION


def read_decision(folder: Path) -> Taken:
    """Read the decision of a finished comparison, whose files are as its manifest says.

    Raises:
        ArtifactError: It is not one.
    """
    path = folder / DECISION
    try:
        values = read_json(read_plain(path))
        taken = Taken(int(values["labels"]), int(values["count"]), values["quality"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ArtifactError(f"{path} is damaged: it is no decision about labels", folder) from error
    quality = taken.quality
    if taken.labels < 0 or not (quality is None or (type(quality) is float and isfinite(quality))):
        raise ArtifactError(f"{path} is damaged: it is no decision about labels", folder)
    return taken
