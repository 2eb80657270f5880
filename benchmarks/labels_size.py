"""The refined table's bytes on disk against the same labels in two usual forms (row 5).

Against COCO JSON: one file as COCO's results are written, with RLE masks, boxes, areas and scores.
Against PNG masks: one picture an instance, as Cityscapes' results are written, each with 1 bit a
pixel, the smallest that Pillow writes; the lines of text that go with them are not counted.
The table holds what those hold; its columns that only training needs are left as empty as they
can be. The labels are made: 3500 instances of natural outline on 500 images of 480 x 640.
"""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import report
from made_labels import SIZE, as_coco, made_rows, write_rows
from PIL import Image
from pycocotools import mask as mask_api

from s4m_pipeline.artifacts.tables import read_table

IMAGES = 500
COCO_GOAL, PNG_GOAL = 2.8, 3.5


def main() -> None:
    """Write the labels in each form, read them back, compare, and print the sizes."""
    rows = made_rows(IMAGES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = sum(path.stat().st_size for path in write_rows(folder, rows))
        (folder / "labels.json").write_text(json.dumps(as_coco(rows)))
        text = (folder / "labels.json").stat().st_size
        pictures = _write_pictures(folder, rows)
        stored = read_table(folder, "refined").to_pylist()
        _check_json(stored, json.loads((folder / "labels.json").read_text()))
        _check_pictures(stored, folder)
    each = {"parquet": table, "COCO JSON": text, "PNG": pictures}
    print(
        f"{len(rows)} labels; " + ", ".join(f"{k} {v / len(rows):.0f} B" for k, v in each.items())
    )
    details = {"bytes": table, "labels": len(rows)}
    equal = f"every mask, box, area, score and class of {len(rows)} labels read back"
    report("labels_size_json", text / table, COCO_GOAL, equal, naive_bytes=text, **details)
    equal = f"every pixel of {len(rows)} masks read back"
    report("labels_size_png", pictures / table, PNG_GOAL, equal, naive_bytes=pictures, **details)


def _write_pictures(folder: Path, rows: list[dict[str, Any]]) -> int:
    """Write each mask as a PNG file of 1 bit a pixel; give the bytes of all."""
    total = 0
    for number, row in enumerate(rows):
        stream = io.BytesIO()
        Image.fromarray(_decoded(row["mask_rle"])).save(stream, "PNG", optimize=True)
        (folder / f"{number}.png").write_bytes(stream.getvalue())
        total += len(stream.getvalue())
    return total


def _decoded(rle: bytes) -> np.ndarray:
    """bool (H, W)."""
    return np.asarray(mask_api.decode({"size": list(SIZE), "counts": rle}), bool)


def _check_json(stored: list[dict[str, Any]], content: dict[str, Any]) -> None:
    """End with a message where table and JSON do not hold the same."""
    for row, found in zip(stored, content["annotations"], strict=True):
        same = (
            all(row[key] == found[key] for key in ("image_id", "category_id", "area", "score"))
            and row["bbox"] == found["bbox"]
            and row["mask_rle"].decode() == found["segmentation"]["counts"]
            and [row["height"], row["width"]] == found["segmentation"]["size"]
        )
        if not same:
            raise SystemExit(f"label {found['id']} differs between Parquet and COCO JSON")


def _check_pictures(stored: list[dict[str, Any]], folder: Path) -> None:
    """End with a message where table and pictures do not hold the same."""
    for number, row in enumerate(stored):
        picture = np.asarray(Image.open(folder / f"{number}.png"))
        if not np.array_equal(picture, _decoded(row["mask_rle"])):
            raise SystemExit(f"label {number} differs between Parquet and PNG")


if __name__ == "__main__":
    main()
