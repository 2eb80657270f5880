"""Images with an EXIF orientation, and what their sizes say of the labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from s4m_pipeline.data.check.faults import FaultCounter
from s4m_pipeline.data.exif import TURNED
from s4m_pipeline.data.images import image_orientation, image_size
from s4m_pipeline.wording import counted


@dataclass(slots=True)
class TurnedImages:
    """Counts of images whose EXIF orientation turns them.

    Attributes:
        images: All of them.
        upright: Those whose entry has the size of the upright picture alone.
        stored: Those whose entry has the size of the stored picture alone.
    """

    images: int = 0
    upright: int = 0
    stored: int = 0

    def merge(self, other: TurnedImages) -> None:
        """Add another's counts."""
        self.images += other.images
        self.upright += other.upright
        self.stored += other.stored

    def look_at(self, path: Path, name: str, size: tuple[int, int], faults: FaultCounter) -> None:
        """Count an image that can be read.

        Args:
            path: Its file.
            name: How it is named to the user.
            size: Height and width that its entry says.
            faults: Where to count its orientation.
        """
        orientation = image_orientation(path)
        if orientation == 1:
            return
        self.images += 1
        faults.add(f"exif-{orientation}", name)
        stored, upright = image_size(path, upright=False), image_size(path)
        if orientation in TURNED and stored != upright:
            self.stored += size == stored
            self.upright += size == upright

    def hint(self, faults: FaultCounter) -> None:
        """Say which picture fits the sizes of the entries, where an image is turned at all."""
        if not self.images:
            return
        telling = self.stored + self.upright
        if not telling:
            text = (
                "no size tells, since a turn by 0 or 180 degrees keeps it: look at some masks; "
                "data.exif is upright, or ignore for labels drawn on stored pictures"
            )
        elif self.stored > self.upright:
            text = f"{_of(self.stored, telling)} as stored: data.exif: ignore fits"
        elif self.stored < self.upright:
            text = f"{_of(self.upright, telling)} turned upright: data.exif: upright fits"
        else:
            text = f"{_of(self.stored, telling)} as stored, the others turned upright: both occur"
        faults.add("exif-hint", text)


def _of(some: int, all_of_them: int) -> str:
    return f"{some:,} of {counted(all_of_them, 'telling size', 'telling sizes')} fit the picture"
