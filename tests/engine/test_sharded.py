"""What the inference stages share: images read and prepared ahead."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from s4m_pipeline.artifacts.shards import PORTION
from s4m_pipeline.config import StructureSection
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.engine import sharded
from s4m_pipeline.engine.reading import load_prepared
from s4m_pipeline.stages.structure import Structure


def test_images_are_prepared_in_the_readers_threads_in_order_and_bad_ones_set_aside(
    tmp_path: Path,
) -> None:
    records = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((4, 6, 3), number, np.uint8)).save(path)
        records.append(ImageRecord(number, path.name, path, 4, 6))
    records[2].path.write_bytes(b"no picture")
    threads: set[threading.Thread] = set()

    def prepare(image: np.ndarray) -> int:
        threads.add(threading.current_thread())
        return int(image.max())

    aside: list[dict[str, Any]] = []
    images = list(load_prepared(records, "pseudo-label", aside, prepare))
    pairs = [(record.id, prepared) for record, prepared in images]
    assert pairs == [(n, n) for n in (0, 1, 3, 4, 5)]
    assert [(row["image_id"], row["stage"]) for row in aside] == [(2, "pseudo-label")]
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("images", [20, 5_000, 200_000])
def test_a_shards_structural_maps_fit_the_memory_set_aside_for_them(
    images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [ImageRecord(n, "", Path(), 4, 6) for n in range(images)]
    monkeypatch.setattr(Structure, "records", lambda self, run: records)
    run: Any = SimpleNamespace(config=SimpleNamespace(structure=StructureSection()))
    shards = Structure().shards(run)
    largest = max(len(shard.image_ids) for shard in shards)
    section = run.config.structure
    assert largest * section.points * section.grid**2 <= sharded.SHARD_BYTES
    assert largest % PORTION == 0
    assert sum(len(shard.image_ids) for shard in shards) == images
