"""Levels: which stored values of pictures of more than 8 bits are black and white. No torch.

Pictures of 8 bits a channel are read as they are. Others (16-bit PNG and TIFF, signed values,
floats) need a rule, and it has to be one rule for all sets of a run: what a model learned from one
scale it does not find on another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from s4m_pipeline.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

BLACK_TO_WHITE = 256
ROWS = 64
"""Rows of a picture that are scaled at a time."""
FEW = 0.1
"""A picture whose values lie within this share of the levels is nearly of one colour."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The stored values that become 0 and 255.

    Attributes:
        low: Black.
        high: White.
        clips: Whether values outside become black or white, as where a window was chosen. Those
            that ``auto`` decided hold every value of the sets that it saw, so a picture outside
            of them is refused.
    """

    low: float
    high: float
    clips: bool = True

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"

    def plain(self) -> list[Any]:
        """As JSON and checkpoints hold it."""
        return [self.low, self.high, self.clips]

    @classmethod
    def from_plain(cls, value: Any) -> Levels | None:
        """The levels that `plain` wrote; None for None.

        Raises:
            UsageError: The value is no such thing.
        """
        if value is None:
            return None
        try:
            low, high, clips = value
            levels = cls(float(low), float(high), bool(clips))
        except (TypeError, ValueError):
            raise UsageError(f"not levels of pictures: {value!r}") from None
        if not levels.low < levels.high:
            raise UsageError(f"not levels of pictures: {value!r}")
        return levels

    def eight_bits(self, values: np.ndarray) -> np.ndarray:
        """Bring stored values to uint8.

        Whole numbers on 256 levels or more fall into 256 equal steps, so that 16 bits keep their
        upper byte. Others are rounded.

        Raises:
            ValueError: A value is outside, and nothing says that it may be cut off.
        """
        import numpy as np

        if not self.clips and (values.min() < self.low or values.max() > self.high):
            raise ValueError(
                f"its values {values.min():g}..{values.max():g} are outside the levels {self} of "
                "the other pictures; set data.levels to a low and a high value"
            )
        scaled = np.empty(values.shape, np.uint8)
        for row in range(0, len(values), ROWS):  # whole, its floats would take much memory
            scaled[row : row + ROWS] = self._scaled(values[row : row + ROWS])
        return scaled

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        import numpy as np

        span = self.high - self.low
        above = values.astype(np.float64) - self.low
        if values.dtype.kind in "iu" and span >= BLACK_TO_WHITE - 1:
            scaled = np.floor(above * (BLACK_TO_WHITE / (span + 1)))
        else:
            scaled = np.rint(above * ((BLACK_TO_WHITE - 1) / span))
        clipped: np.ndarray = scaled.clip(0, BLACK_TO_WHITE - 1)
        return clipped


@dataclass(frozen=True, slots=True)
class Extremes:
    """What of a picture's stored values decides the levels.

    Attributes:
        low: The lowest value.
        high: The highest.
        most_low: All values but one in a thousand are above this
        most_high: and all but one in a thousand below this.
        whole: Whether all are whole numbers.
    """

    low: float
    high: float
    most_low: float
    most_high: float
    whole: bool

    def uses_few(self, levels: Levels) -> bool:
        """Whether nearly all of its values lie within a tenth of the levels."""
        low, high = (
            min(max(value, levels.low), levels.high) for value in (self.most_low, self.most_high)
        )
        return high - low < FEW * (levels.high - levels.low)


def decided(pictures: Mapping[str, Extremes]) -> Levels | None:
    """The levels of pictures of more than 8 bits: one rule for all of them.

    The bit depth of the largest value says what is white: 0..4095 for 12 bits, and never fewer than
    8. Below 0, black is the power of two that the lowest value reaches. Fractions go from 0, or -1,
    to 1 where none is larger.

    Args:
        pictures: What is known of each, by its name.

    Returns:
        The levels; None without a picture.

    Raises:
        UsageError: Some are fractions of 1 and others are not, so that no rule holds for both.
    """
    if not pictures:
        return None
    low = min(picture.low for picture in pictures.values())
    high = max(picture.high for picture in pictures.values())
    of_one = [name for name, picture in pictures.items() if _is_of_one(picture)]
    others = [name for name, picture in pictures.items() if max(picture.high, -picture.low) > 1]
    if of_one and others:
        raise UsageError(
            f"data.levels: auto finds no rule for fractions up to 1 ({of_one[0]}) and larger "
            f"values ({others[0]}).\nSet data.levels to a low and a high value."
        )
    whole = all(picture.whole for picture in pictures.values())
    if whole:
        white = (1 << max(8, max(0, int(high)).bit_length())) - 1
    else:
        white = _power_of_two(high)
    return Levels(-_power_of_two(-low) if low < 0 else 0, white, clips=False)


def _is_of_one(picture: Extremes) -> bool:
    return not picture.whole and max(picture.high, -picture.low) <= 1


def _power_of_two(value: float) -> int:
    """The smallest power of two, from 1, that is not below a value."""
    return 1 << max(0, ceil(value) - 1).bit_length()
