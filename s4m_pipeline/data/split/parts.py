"""What a split is: the images of its parts, and the files that they are written to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Split:
    """Image ids of a split.

    Attributes:
        name: P in the files' names, such as 10 or 2.5.
        labelled: Images that keep their annotations.
        validation: Images held back with their annotations; in neither of the other two.
        listed: The list that the labelled images were taken from; None where they were drawn.
    """

    name: str
    labelled: frozenset[int]
    validation: frozenset[int]
    listed: Path | None = None


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """Files of a written split; None where a file was not asked for.

    Attributes:
        labelled: COCO file of the labelled images.
        unlabelled: COCO file of the unlabelled ones, without annotations.
        validation: COCO file of the images held back.
        listed: List of the labelled images.
    """

    labelled: Path
    unlabelled: Path
    validation: Path | None
    listed: Path | None
