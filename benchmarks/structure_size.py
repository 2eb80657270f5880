"""Bytes of stored structural targets against 128 x 64 x 64 float32 maps (row 8).

The segmenter's features have 64 x 64 cells, and each image has 128 query points. Where the folder
given by `--shared` has `weights/mobilesam` (and onnxruntime is installed), it is MobileSAM on three
photographs of its `data`; otherwise the demo's segmenter at 512 px on generated scenes, half of the
points on objects. The stored rows are read back through the store that training reads, turned into
floats, and held against maps computed apart in float64 from the same features; an image whose
relative root mean square error is over 1 % ends the script.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from harness import report
from PIL import Image

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.artifacts.tables import table_files, write_table
from s4m_pipeline.data.scenes.scenes import make_scene
from s4m_pipeline.segmenter.base import Segmenter
from s4m_pipeline.segmenter.build import build_segmenter
from s4m_pipeline.segmenter.structure import draw_query_points, structure_target
from s4m_pipeline.training_data.structure_store import StructureRow, StructureStore

POINTS, GRID = 128, 64
GOAL, TOLERANCE = 4, 0.01
DEMO_SIDE, DEMO_IMAGES, PHOTOGRAPHS = 512, 4, 3
CHUNK = 8


def main() -> None:
    """Store the targets, read them back, and compare bytes and values."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    shared = parser.parse_args().shared
    weights = shared / "weights" / "mobilesam"
    if weights.is_dir() and find_spec("onnxruntime"):
        segmenter = build_segmenter("mobilesam", weights, None, "cpu")
        images = _photographs(shared / "data")
    else:
        segmenter = build_segmenter("demo", None, DEMO_SIDE, "cpu")
        images = _scenes()
    rows, exact = [], []
    for number, (image, union) in enumerate(images, 1):
        row, maps = _targets(segmenter, number, image, union)
        rows.append(row)
        exact.append(maps)
    with tempfile.TemporaryDirectory() as name:
        write_table(Path(name) / "structure" / "00000.parquet", "structure", rows, [])
        stored = sum(path.stat().st_size for path in table_files(Path(name), "structure"))
        store = StructureStore(Path(name))
        errors = [_error(store.read(n), maps) for n, maps in enumerate(exact, 1)]
    worst = max(errors)
    if worst > TOLERANCE:
        raise SystemExit(f"relative RMSE {worst:.3%} is over {TOLERANCE:.0%}")
    floats = len(rows) * POINTS * GRID**2 * 4
    each = f"{stored / len(rows) / 1024:.0f} KiB an image"
    print(
        f"{segmenter.name}: {len(rows)} images, {each} against {floats / len(rows) / 1024:.0f} KiB"
    )
    equal = f"relative RMSE at most {worst:.3%}, allowed {TOLERANCE:.0%}"
    report("structure_size", floats / stored, GOAL, equal, bytes=stored, naive_bytes=floats)


def _targets(
    segmenter: Segmenter, number: int, image: np.ndarray, union: np.ndarray | None
) -> tuple[dict[str, object], np.ndarray]:
    """An image's row of the structure table, and its maps float64 (P, GRID, GRID)."""
    height, width = image.shape[:2]
    points = draw_query_points(union, POINTS, rng(0, "structure", number), (height, width))
    embeddings = segmenter.encode([image])
    target = structure_target(segmenter, embeddings, 0, points, GRID)
    row = {
        "image_id": number,
        "file_name": f"{number}.jpg",
        "height": height,
        "width": width,
        "grid": GRID,
        "points": target.points.reshape(-1).tolist(),
        "similarity": target.similarity.tobytes(),
        "scale": target.scale.tolist(),
        "offset": target.offset.tolist(),
    }
    with torch.inference_mode():
        maps = [
            _maps(segmenter.structure_features(embeddings, 0, some), some, (height, width))
            for some in np.array_split(points, POINTS // CHUNK)
        ]
    return row, np.concatenate(maps)


def _maps(features: torch.Tensor, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cosine similarities by torch's own, over a square image or the part that it covers."""
    height, width = size
    side, longest = features.shape[-1], max(size)
    at = ((points + 0.5) * (side / longest)).astype(int)
    query = features[torch.arange(len(points)), :, at[:, 1], at[:, 0]].double()
    maps = F.cosine_similarity(features.double(), query[..., None, None], dim=1)
    rows, columns = round(height * side / longest), round(width * side / longest)
    covered = maps[:, None, :rows, :columns]
    resized = F.interpolate(covered, (GRID, GRID), mode="bilinear", align_corners=False)
    return resized[:, 0].numpy()


def _error(row: StructureRow | None, exact: np.ndarray) -> float:
    """Relative root mean square error of what was stored."""
    if row is None:
        raise SystemExit("an image's targets were not stored")
    found = row.offset[:, None, None] + row.scale[:, None, None] * row.similarity.astype(np.float64)
    return float(np.sqrt(((found - exact) ** 2).mean() / (exact**2).mean()))


def _scenes() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Generated scenes and the union of their masks."""
    for number in range(DEMO_IMAGES):
        scene = make_scene(rng(0, "structure size", number), DEMO_SIDE)
        yield scene.image, np.any(scene.masks, axis=0)


def _photographs(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Square parts of photographs, so that the model's input has no padding."""
    paths = sorted(folder.glob("*/**/*.jpg"))
    for path in paths[:: max(1, len(paths) // PHOTOGRAPHS)][:PHOTOGRAPHS]:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        side = min(pixels.shape[:2])
        yield np.ascontiguousarray(pixels[:side, :side]), None


if __name__ == "__main__":
    main()
