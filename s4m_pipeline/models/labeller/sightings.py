"""What one network sees in one view of a picture, on the cells that all views share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from s4m_pipeline.models.predictor import InstancePredictions
from s4m_pipeline.refinement.resampling import Window, bilinear, bounds
from s4m_pipeline.refinement.soft_masks import LEAST_LOGIT

MOST_LOGIT = 30.0


@dataclass(frozen=True, slots=True)
class Lattice:
    """The cells of a network's masks in a picture.

    Attributes:
        shape: Rows and columns of cells, which may reach beyond the picture's right and lower edge.
        sides: How many cells the picture is high and wide, in fractions of cells.
        stride: Pixels of the original picture a cell.
    """

    shape: tuple[int, int]
    sides: tuple[float, float]
    stride: float

    @classmethod
    def of(cls, predictions: InstancePredictions, size: tuple[int, int]) -> Lattice:
        """Those of predictions.

        Args:
            predictions: What the network found.
            size: Height and width of the network's picture.
        """
        rows, columns = predictions.mask_logits.shape[1:]
        height, width = (side / predictions.cell for side in size)
        return cls((rows, columns), (height, width), predictions.stride)


@dataclass(frozen=True, slots=True)
class Sighting:
    """An instance that one network sees in one view.

    Attributes:
        view: Which view of which network, counted from 0.
        class_probs: float32 (K,).
        cells: The cells of the shared lattice outside which its mask is 0.
        mask: float32, the mask's probability in these cells.
    """

    view: int
    class_probs: np.ndarray
    cells: Window
    mask: np.ndarray

    @property
    def score(self) -> float:
        """Its highest class probability."""
        return float(self.class_probs.max())

    @property
    def label(self) -> int:
        """Its best class."""
        return int(self.class_probs.argmax())


def sightings_of(
    predictions: InstancePredictions, view: int, flip: bool, own: Lattice, shared: Lattice
) -> Iterator[Sighting]:
    """The instances of a view on the shared lattice; those whose mask is nowhere are left out.

    Args:
        predictions: What the network found in the view.
        view: Number of the view.
        flip: Whether left and right had changed places, which is undone.
        own: The lattice of the predictions.
        shared: The lattice that all views are brought to.
    """
    ys, xs = _places(own, shared, 0, False), _places(own, shared, 1, flip)
    for probs, logits in zip(predictions.class_probs, predictions.mask_logits, strict=True):
        near = bounds(logits > LEAST_LOGIT)
        rows = _touching(ys, near.y, near.height, own.shape[0])
        columns = _touching(xs, near.x, near.width, own.shape[1])
        if near.empty or not len(rows) or not len(columns):
            continue
        cells = Window(int(columns[0]), int(rows[0]), len(columns), len(rows))
        mask = _sampled(logits, near, ys[rows], xs[columns])
        yield Sighting(view, probs, cells, mask)


def _places(own: Lattice, shared: Lattice, axis: int, flip: bool) -> np.ndarray:
    """Where the shared cells' centres lie among the view's, whose centres are at whole numbers."""
    share = (np.arange(shared.shape[axis]) + 0.5) / shared.sides[axis]
    return (1 - share if flip else share) * own.sides[axis] - 0.5


def _touching(places: np.ndarray, first: int, count: int, all_cells: int) -> np.ndarray:
    """Numbers of the places, which stand side by side, that sample one of some cells."""
    after = (places > first - 1) | (first == 0)
    before = (places < first + count) | (first + count == all_cells)
    return np.flatnonzero(after & before)


def _sampled(logits: np.ndarray, near: Window, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """Probabilities between cell centres; only what lies about the near cells is computed."""
    top, left = max(0, near.y - 1), max(0, near.x - 1)
    some = logits[top : near.y + near.height + 1, left : near.x + near.width + 1]
    some = np.clip(some.astype(np.float32), -MOST_LOGIT, MOST_LOGIT)
    # rounded, so that cells that lie on each other are copied to the last bit
    at_y, at_x = (np.round(at, 6).astype(np.float32) for at in (ys - top, xs - left))
    return np.ascontiguousarray(bilinear(1 / (1 + np.exp(-some)), at_y, at_x))
