"""Large pictures with many small objects, made of photographs side by side, with their masks.

    python benchmarks/mosaics.py --data ../shared/data/animals7 --out mosaics --pictures 20 --rows 7

A mosaic has 1 024 x 2 048 pixels: ``--rows`` rows of squares and twice as many columns. Each square
shows the middle of a photograph of ``--split``, and its instances with it. Photographs are drawn by
``--seed``, each as often as the others. What comes out is a COCO file and its folder of pictures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as mask_api

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.image_set import ImageRecord, ImageSet, Instance
from s4m_pipeline.data.images import read_image

HEIGHT, WIDTH = 1024, 2048
LEAST_AREA = 64
"""Pixels that an instance must keep to be one of the mosaic's."""


@dataclass(frozen=True, slots=True)
class Piece:
    """An instance of a mosaic.

    Attributes:
        category_id: Its class.
        mask: bool (h, w), its pixels in its square.
        x: The square's first column in the mosaic.
        y: The square's first row in the mosaic.
    """

    category_id: int
    mask: np.ndarray
    x: int
    y: int

    def rle(self) -> bytes:
        """COCO's compressed counts of its mask in the mosaic."""
        whole = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
        height, width = self.mask.shape
        whole[self.y : self.y + height, self.x : self.x + width] = self.mask
        return bytes(mask_api.encode(whole)["counts"])


def photographs(data: Path, split: str) -> ImageSet:
    """The labelled photographs of a split of ``animals7`` or ``nuclei``."""
    return coco.load(data / split / "_annotations.coco.json", data / split)


def mosaic(
    images: ImageSet, records: Sequence[ImageRecord], rows: int
) -> tuple[np.ndarray, list[Piece]]:
    """Put photographs side by side.

    Args:
        images: Has the records' instances.
        records: 2 * rows * rows photographs, row by row.
        rows: Rows of squares.

    Returns:
        uint8 (1024, 2048, 3), and the instances.
    """
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    ys = np.linspace(0, HEIGHT, rows + 1).round().astype(int)
    xs = np.linspace(0, WIDTH, 2 * rows + 1).round().astype(int)
    pieces = []
    for number, record in enumerate(records):
        row, column = divmod(number, 2 * rows)
        y, x = int(ys[row]), int(xs[column])
        size = (int(xs[column + 1]) - x, int(ys[row + 1]) - y)
        box = _middle(record, size)
        pixels = Image.fromarray(read_image(record.path)).resize(size, Image.Resampling.BOX, box)
        picture[y : y + size[1], x : x + size[0]] = np.asarray(pixels)
        for instance in images.instances.get(record.id, ()):
            mask = _shrunk(instance, record, size, box)
            if mask.sum() >= LEAST_AREA:
                pieces.append(Piece(instance.category_id, mask, x, y))
    return picture, pieces


def _middle(record: ImageRecord, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest part of a picture with a square's proportions: left, top, right, bottom."""
    scale = min(record.width / size[0], record.height / size[1])
    width, height = size[0] * scale, size[1] * scale
    left, top = max(0.0, record.width - width) / 2, max(0.0, record.height - height) / 2
    return left, top, min(left + width, record.width), min(top + height, record.height)


def _shrunk(
    instance: Instance,
    record: ImageRecord,
    size: tuple[int, int],
    box: tuple[float, float, float, float],
) -> np.ndarray:
    """An instance's mask in its square: a pixel is its where more than half of what it shows is."""
    rle = {"size": [record.height, record.width], "counts": instance.rle}
    mask = Image.fromarray(np.asarray(mask_api.decode(rle)) * np.uint8(255))
    return np.asarray(mask.resize(size, Image.Resampling.BOX, box)) > 127


def drawn(images: ImageSet, pictures: int, rows: int, seed: int) -> Iterator[list[ImageRecord]]:
    """The photographs of each mosaic, in turns through shuffled ones."""
    draw = rng(seed, "mosaics", rows)
    records: list[ImageRecord] = []
    for _ in range(pictures):
        while len(records) < 2 * rows * rows:
            records += [images.images[n] for n in draw.permutation(len(images.images))]
        yield records[: 2 * rows * rows]
        records = records[2 * rows * rows :]


def write_mosaics(out: Path, images: ImageSet, pictures: int, rows: int, seed: int) -> None:
    """Write mosaics as PNG files and ``annotations.json``."""
    out.mkdir(parents=True, exist_ok=True)
    listed, annotations = [], []
    for number, records in enumerate(drawn(images, pictures, rows, seed), 1):
        picture, pieces = mosaic(images, records, rows)
        name = f"{number:04d}.png"
        Image.fromarray(picture).save(out / name)
        listed.append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
        for piece in pieces:
            annotations.append(_annotation(piece, number, len(annotations) + 1))
    categories = [{"id": c.id, "name": c.name} for c in images.categories]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    (out / "annotations.json").write_text(json.dumps(content))
    print(f"{out}: {len(listed)} pictures, {len(annotations)} instances")


def _annotation(piece: Piece, image: int, number: int) -> dict[str, object]:
    rle = {"size": [HEIGHT, WIDTH], "counts": piece.rle()}
    return {
        "id": number,
        "image_id": image,
        "category_id": piece.category_id,
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": piece.rle().decode()},
        "bbox": mask_api.toBbox(rle).tolist(),
        "area": int(mask_api.area(rle)),
        "iscrowd": 0,
    }


def main() -> None:
    """Write the mosaics."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="animals7 or nuclei")
    parser.add_argument("--split", default="train")
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--rows", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    images = photographs(args.data, args.split)
    write_mosaics(args.out, images, args.pictures, args.rows, args.seed)


if __name__ == "__main__":
    main()
