"""A small generated tree in Cityscapes' real layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 128, 256
FRAMES = (
    "aachen/aachen_000000_000019",
    "aachen/aachen_000001_000019",
    "zurich/zurich_000000_000019",
    "zurich/zurich_000005_000019",
)


def write_tree(root: Path, split: str = "val") -> None:
    """Write images and instance ids as Cityscapes' archives have them."""
    generator = np.random.default_rng(0)
    for number, frame in enumerate(FRAMES):
        values = draw_values(generator, number)
        image = root / "leftImg8bit" / split / f"{frame}_leftImg8bit.png"
        truth = root / "gtFine" / split / f"{frame}_gtFine_instanceIds.png"
        for path in (image, truth):
            path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(image)
        Image.fromarray(values).save(truth)


def draw_values(generator: np.random.Generator, number: int) -> np.ndarray:
    """Instance ids: stuff, void, groups, a caravan, and ellipses of all evaluated classes."""
    values = np.full((HEIGHT, WIDTH), 7, np.uint16)  # road
    values[:20] = 23  # sky
    values[-6:] = 1  # ego vehicle
    values[30:50, :40] = 26  # a group of cars
    values[30:50, 60:90] = 24  # a group of persons
    values[60:70, 200:230] = 4  # static
    values[75:90, 200:230] = 29001  # a caravan by itself
    labels = [24, 25, 26, 27, 28, 31, 32, 33] if number % 2 else [24, 26, 26, 33]
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    for place, label in enumerate([*labels, 26, 24]):
        y, x = generator.integers(30, 110), 16 + 24 * place
        b, a = generator.uniform(6, 14), generator.uniform(6, 16)
        values[((rows - y) / b) ** 2 + ((columns - x) / a) ** 2 < 1] = label * 1000 + place
    values[110:114, 100:104] = 26099  # a car too small to be asked for
    return values
