"""Pictures of more than 8 bits are checked by one rule; none is twice there for being dark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from s4m_pipeline.data.check.check import check_coco
from s4m_pipeline.data.levels import Levels
from s4m_pipeline.data.reading import Reading
from tests.small_sets import write_json


def _set(folder: Path, pictures: dict[str, np.ndarray]) -> tuple[Path, Path]:
    images = []
    for number, (name, values) in enumerate(pictures.items(), 1):
        Image.fromarray(values).save(folder / name)
        height, width = values.shape[:2]
        images.append({"id": number, "file_name": name, "height": height, "width": width})
    content = {"images": images, "annotations": [], "categories": []}
    write_json(folder / "set.json", content)
    return folder / "set.json", folder


def _found(files: tuple[Path, Path], **options: object) -> dict[str, tuple[str, ...]]:
    faults = check_coco(*files, decode=True, **options)  # type: ignore[arg-type]
    unlabelled = {"no-annotations", "no-categories"}  # the sets here have pictures alone
    return {f.kind: f.examples for f in faults if f.kind not in unlabelled}


def test_dark_pictures_of_a_twelve_bit_set_are_told_apart(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    dark = [draw.integers(0, 14, (48, 48)).astype(np.uint16) for _ in range(2)]
    whole = draw.integers(0, 4096, (48, 48)).astype(np.uint16)
    whole[0, 0] = 4095
    found = _found(_set(tmp_path, {"a.png": dark[0], "b.png": dark[1], "c.tif": whole}))
    assert found.keys() == {"few-levels", "deep-image"}
    assert found["few-levels"] == (
        "image 1 (a.png): 0..13 of the levels 0..4095",
        "image 2 (b.png): 0..13 of the levels 0..4095",
    )
    assert found["deep-image"][2] == "image 3 (c.tif): 0..4095 of the levels 0..4095"


def test_levels_that_are_given_count(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).integers(0, 4096, (48, 48)).astype(np.uint16)
    files = _set(tmp_path, {"a.png": whole, "b.png": whole // 16})
    assert "few-levels" in _found(files)  # 0..255 of 0..4095
    assert "few-levels" not in _found(files, reading=Reading(Levels(0, 500)))


def test_sets_that_no_rule_holds_for(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    fractions = draw.random((20, 20)).astype(np.float32)
    counts = draw.integers(0, 4096, (20, 20)).astype(np.uint16)
    found = _found(_set(tmp_path, {"a.tif": fractions, "b.png": counts}))
    assert found.keys() == {"no-common-levels"}


def test_two_black_pictures_are_not_the_same_picture(tmp_path: Path) -> None:
    black = np.zeros((32, 32), np.uint8)
    assert _found(_set(tmp_path, {"a.png": black, "b.png": black, "c.png": black + 255})) == {}
    nearly = black.copy()
    nearly[3, 4] = 9
    assert _found(_set(tmp_path, {"d.png": nearly, "e.png": nearly})).keys() == {"repeated-image"}
    # black on these levels, yet the same picture
    dim = np.random.default_rng(0).integers(0, 14, (48, 48)).astype(np.uint16)
    found = _found(_set(tmp_path, {"f.png": dim, "g.png": dim, "h.png": dim * 300}))
    assert found["repeated-image"] == ("image 2 (g.png) is image 1 (f.png), same file",)
