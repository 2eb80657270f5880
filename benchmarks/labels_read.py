"""Reading labels from the refined table against ``pycocotools.COCO(json)`` (row 6).

The same made labels, 114688 instances on 16384 images, lie on disk as Parquet (four shards) and as
one COCO JSON file. Read are the whole table, and four columns of it (image, class, score, area),
which is what a list of thresholds or a report needs; JSON can only be read whole. Both ways end
with every label in memory and addressable: COCO's dicts with its index, an Arrow table here.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
from harness import in_turn, report_times
from made_labels import as_coco, made_rows, write_rows
from pycocotools.coco import COCO

from s4m_pipeline.artifacts.tables import read_table

IMAGES = 16384
WHOLE_GOAL, COLUMNS_GOAL = 5, 50
FOUR = ["image_id", "category_id", "score", "area"]


def main() -> None:
    """Read both forms in turn and compare what was read."""
    rows = made_rows(IMAGES)
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "labels.json"
        write_rows(folder, rows)
        path.write_text(json.dumps(as_coco(rows)))
        for row, columns, goal in (("whole", None, WHOLE_GOAL), ("columns", FOUR, COLUMNS_GOAL)):
            coco, table, slow, fast = in_turn(
                lambda: _read_coco(path),
                lambda columns=columns: read_table(folder, "refined", columns=columns),  # type: ignore[misc]
                repeats=7,
            )
            names = columns or [*FOUR, "bbox", "mask_rle"]
            _check(coco, table, names)
            equal = f"{', '.join(names)} of {len(rows)} labels"
            report_times(f"labels_read_{row}", goal, slow, fast, equal, labels=len(rows))


def _read_coco(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def _check(coco: COCO, table: pa.Table, names: list[str]) -> None:
    """End with a message where the two did not read the same."""
    for name in names:
        values = table[name].to_pylist()
        for value, found in zip(values, coco.dataset["annotations"], strict=True):
            if _value(found, name) != value:
                raise SystemExit(f"{name} of label {found['id']} was not read the same")


def _value(found: dict[str, Any], name: str) -> Any:
    return found["segmentation"]["counts"].encode() if name == "mask_rle" else found[name]


if __name__ == "__main__":
    main()
