"""Pictures of several frames or pages are told: the first is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s4m_pipeline.data.check.check import check_coco
from s4m_pipeline.data.images import read_image
from tests.small_sets import write_json


@pytest.mark.parametrize("decode", [True, False])
def test_pictures_of_several_frames(tmp_path: Path, decode: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (2, 24, 30), np.uint8)
    first, second = (Image.fromarray(one) for one in noise)
    for name in ("a.gif", "b.tif", "c.png", "d.webp"):
        first.save(tmp_path / name, save_all=True, append_images=[second], lossless=True)
    first.save(tmp_path / "e.tif")
    first.convert("RGB").save(
        tmp_path / "f.jpg", "MPO", save_all=True, append_images=[second.convert("RGB")]
    )
    names = ["a.gif", "b.tif", "c.png", "d.webp", "e.tif", "f.jpg"]
    images = [{"id": i, "file_name": n, "height": 24, "width": 30} for i, n in enumerate(names)]
    write_json(tmp_path / "set.json", {"images": images, "annotations": [], "categories": []})
    faults = check_coco(tmp_path / "set.json", tmp_path, decode=decode)
    told = {fault.kind: fault for fault in faults}["several-frames"]
    assert told.examples == tuple(f"image {i} ({names[i]})" for i in range(4))
    assert told.is_note
    assert (read_image(tmp_path / "b.tif")[..., 0] == noise[0]).all()
