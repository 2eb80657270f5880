"""Write a COCO file without the entries that cannot be used, so that it trains. No torch."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s4m_pipeline.data.check.faults import Fault, FaultCounter
from s4m_pipeline.data.clean.annotations import Kept
from s4m_pipeline.data.clean.pictures import usable_categories, usable_pictures
from s4m_pipeline.data.folders import require_folder
from s4m_pipeline.data.formats.coco.text import CocoText
from s4m_pipeline.data.formats.coco.values import PANOPTIC, is_panoptic, meant
from s4m_pipeline.data.image_set import only_crowds
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.parallel import Progress, silent


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of a file.

    Attributes:
        images: Image entries that are kept, and all that there were.
        annotations: Likewise annotations.
        mended: Entries that were written otherwise, such as ``1`` for ``1.0``.
        left_out: What was left out, by kind.
    """

    images: tuple[int, int]
    annotations: tuple[int, int]
    mended: int
    left_out: list[Fault]

    @property
    def lost_pictures(self) -> bool:
        """Whether a picture is left out, not only annotations or a second entry of a picture."""
        kinds = {"bad-image-entry", "bad-id", "duplicate-image-id", "outside-name", "missing-image"}
        return any(fault.kind in kinds for fault in self.left_out)


def clean(
    annotations: Path,
    images: Path,
    out: Path,
    progress: Progress = silent,
    outside: bool = False,
) -> Cleaned:
    """Leave out what cannot be used of a COCO file, and write the rest.

    What is kept stands as it stood, but for what ``pictures`` and ``annotations`` mend.

    Args:
        annotations: The COCO file.
        images: The folder its file names are relative to.
        out: The file to write.
        progress: Shows how far it is.
        outside: Whether file names may lead out of the folder; else such images are left out.

    Raises:
        UsageError: The file is not COCO's, its classes cannot be told apart, nothing is left to
            train on, or ``out`` cannot be written or is the file itself.
    """
    require_folder(images)
    if out.resolve() == annotations.resolve():
        raise UsageError(f"{annotations} would be replaced; give another --out")
    used: Counter[Any] = Counter()
    text = CocoText(annotations, lambda place, entry: _count_class(annotations, entry, used))
    if not text.count:
        raise UsageError(f"{annotations}: no annotations in it")
    faults = FaultCounter()
    pictures = usable_pictures(text.images, images, faults, outside)
    categories, classes, classes_mended = usable_categories(
        text.other.get("categories", []), annotations, used, faults
    )
    kept = Kept(pictures, classes, faults)
    with progress("clean", text.count, unit="annotations") as advance:
        for place in range(text.count):
            kept.add(place, json.loads(text.annotation(place)))
            advance(1, "")
    _require_label(kept, text, annotations)
    text.other["categories"] = categories
    text.write(out, pictures.entries, kept.places, kept.texts)
    return Cleaned(
        images=(len(pictures.entries), len(text.images)),
        annotations=(len(kept.places), text.count),
        mended=pictures.mended + classes_mended + kept.mended,
        left_out=faults.listed(),
    )


def _count_class(source: Path, entry: Any, used: Counter[Any]) -> None:
    if is_panoptic(entry):
        raise UsageError(f"{source}: {PANOPTIC}")
    category = meant(entry.get("category_id")) if isinstance(entry, dict) else None
    if isinstance(category, int):
        used[category] += 1


def _require_label(kept: Kept, text: CocoText, source: Path) -> None:
    """Refuse a file of which nothing is left to train on."""
    if kept.crowds < len(kept.places):
        return
    if kept.places:
        raise UsageError(f"{source}: {only_crowds(len(kept.places))}")
    found = kept.faults.listed()  # what follows from an image that is left out comes last
    kinds = sorted(found, key=lambda fault: (fault.kind == "image-left-out", -fault.count))
    told = f"{kinds[0].meaning}: {kinds[0].count:,}, the first is {kinds[0].examples[0]}"
    raise UsageError(
        f"{source}: not one of the {text.count:,} annotations can be used, nothing is left.\n{told}"
    )
