"""Images of a set that show the same picture, which a split keeps in one part. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from s4m_pipeline.data.check.duplicates import find_repeated
from s4m_pipeline.data.check.entries import ImageEntry
from s4m_pipeline.data.check.faults import FaultCounter
from s4m_pipeline.data.check.files import BATCH, check_files
from s4m_pipeline.data.check.picture_levels import find_deep, with_levels
from s4m_pipeline.data.reading import PLAIN
from s4m_pipeline.execution.parallel import Progress


class Alike:
    """Groups of image ids that show the same picture.

    Args:
        pairs: Ids of images that are alike; who is like the same one is alike as well.
    """

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        group_of: dict[int, set[int]] = {}
        for first, second in pairs:
            group = group_of.get(first, {first}) | group_of.get(second, {second})
            group_of.update(dict.fromkeys(group, group))
        self._group_of: Mapping[int, set[int]] = group_of

    def __len__(self) -> int:
        """How many images are like another."""
        return len(self._group_of)

    def closure(self, ids: Iterable[int]) -> frozenset[int]:
        """The ids, and those of all images that are like one of them."""
        return frozenset(other for key in ids for other in self._group_of.get(key, {key}))

    def places(self, ids: Sequence[int]) -> list[list[int]]:
        """The groups among some ids, as places in them."""
        place_of = {key: place for place, key in enumerate(ids)}
        groups = {min(group): group for group in self._group_of.values()}
        found = [[place_of[key] for key in sorted(g) if key in place_of] for g in groups.values()]
        return [group for group in found if len(group) > 1]


def find_alike(
    folder: Path, images: Sequence[ImageEntry], processes: int, progress: Progress
) -> Alike:
    """Find images that ``s4m data check`` finds to occur twice by content.

    Args:
        folder: The folder of images.
        images: Their entries, no file name twice.
        processes: How many processes decode and compare pictures.
        progress: Shows how far it is.
    """
    processes = min(processes, -(-len(images) // BATCH))  # to start more takes longer than to work
    deep = find_deep(folder, images, processes, progress)
    reading = with_levels(PLAIN, [deep], FaultCounter())
    prints = check_files(folder, images, None, True, processes, progress, reading).prints
    id_of = {folder / image.file_name: image.id for image in images}
    matches = find_repeated(prints, processes, progress)
    return Alike((id_of[match.other.path], id_of[match.picture.path]) for match in matches)
