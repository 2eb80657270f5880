"""The classes of published Mask2Formers, in the order of their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.formats.cityscapes.reader import CLASSES as CITYSCAPES
from s4m_pipeline.errors import UsageError

_COCO = """
person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant - stop_sign
parking_meter bench bird cat dog horse sheep cow elephant bear zebra giraffe - backpack umbrella -
- handbag tie suitcase frisbee skis snowboard sports_ball kite baseball_bat baseball_glove
skateboard surfboard tennis_racket bottle - wine_glass cup fork knife spoon bowl banana apple
sandwich orange broccoli carrot hot_dog pizza donut cake chair couch potted_plant bed -
dining_table - - toilet - tv laptop mouse remote keyboard cell_phone microwave oven toaster sink
refrigerator - book clock vase scissors teddy_bear hair_drier toothbrush
"""
"""COCO's ids count these words from 1; a dash is an id that no class has."""


@dataclass(frozen=True)
class Classes:
    """What the labels of a checkpoint mean.

    Attributes:
        source: Where that is known from.
        categories: ``{"id", "name"}`` in the order of labels.
    """

    source: str
    categories: list[dict[str, Any]]

    @property
    def recipe(self) -> str:
        """Whose model configs fit: cityscapes' where the classes have its names, else coco's."""
        names = {category["name"] for category in self.categories}
        return "cityscapes" if names == set(CITYSCAPES.values()) else "coco"


def _known() -> dict[str, Classes]:
    words = enumerate(_COCO.split(), start=1)
    coco = {i: word.replace("_", " ") for i, word in words if word != "-"}
    return {
        "coco": Classes("coco", _entries(coco)),
        "cityscapes": Classes("cityscapes", _entries(CITYSCAPES)),
    }


def _entries(names: Mapping[int, str]) -> list[dict[str, Any]]:
    return [{"id": i, "name": name} for i, name in sorted(names.items())]


KNOWN = _known()


def classes_of(categories: str | None, count: int) -> Classes:
    """Say what a checkpoint's labels mean.

    Args:
        categories: A name in :data:`KNOWN`, a COCO file that lists the classes (detectron2 orders
            labels by category id, and so does this), or None: the known list of that many classes.
        count: How many classes the checkpoint has.

    Raises:
        UsageError: Nothing is known, or the number of classes differs.
    """
    if categories is None:
        classes = next((known for known in KNOWN.values() if len(known.categories) == count), None)
        if classes is None:
            raise UsageError(
                f"the checkpoint has {count} classes, of which nothing is known.\n"
                f"Give --categories: {', '.join(KNOWN)}, or a COCO file that lists them."
            )
        return classes
    classes = KNOWN.get(categories) or _from_file(Path(categories))
    listed = len(classes.categories)
    if listed != count:
        raise UsageError(f"the checkpoint has {count} classes, but {classes.source} has {listed}")
    return classes


def _from_file(path: Path) -> Classes:
    """The classes of a COCO file."""
    if not path.is_file():
        raise UsageError(f"--categories is {', '.join(KNOWN)} or a COCO file, not '{path}'")
    listed = coco.load(path, path.parent, masks=False).categories
    return Classes(str(path), _entries({category.id: category.name for category in listed}))
