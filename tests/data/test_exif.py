"""EXIF orientations in every format that has them: masks fit, upright and as stored."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from s4m_pipeline.data.check.check import check_coco
from s4m_pipeline.data.exif import upright_values
from s4m_pipeline.data.formats import image_folder
from s4m_pipeline.data.images import image_orientation, image_size, read_image, read_sized_image
from s4m_pipeline.data.levels import Levels
from s4m_pipeline.data.reading import Reading
from s4m_pipeline.errors import UsageError
from tests.small_sets import write_json

STORED = Reading(upright=False)


def scene() -> np.ndarray:
    """A picture without any symmetry, and its object (200 and more)."""
    picture = np.full((60, 90, 3), 40, np.uint8)
    picture[5:20, 10:50] = 220
    picture[20:40, 10:18] = 220
    return picture


def as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores for an upright picture: the standard's rows and columns, by hand.

    The standard says where the stored row 0 and column 0 lie in the upright picture.
    """
    row0, column0 = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    stored = upright
    if "right" in (row0, column0):
        stored = np.flip(stored, 1)
    if "bottom" in (row0, column0):
        stored = np.flip(stored, 0)
    return np.ascontiguousarray(stored if row0 in ("top", "bottom") else stored.swapaxes(0, 1))


def save(path: Path, stored: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 95, "subsampling": 0}}
    Image.fromarray(stored).save(path, exif=exif, **options.get(path.suffix, {}))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_masks_fit_upright_and_as_stored(tmp_path: Path, suffix: str, orientation: int) -> None:
    picture, path = scene(), tmp_path / f"a{suffix}"
    stored = as_stored(picture, orientation)
    save(path, stored, orientation)
    assert image_orientation(path) == orientation
    for reading, drawn_on in ((Reading(), picture), (STORED, stored)):
        read = read_sized_image(path, *drawn_on.shape[:2], reading)
        assert iou(read[..., 0] > 128, drawn_on[..., 0] > 128) > 0.99
        assert image_size(path, reading.upright) == drawn_on.shape[:2]
        (record,) = image_folder.load(tmp_path, reading.upright).images
        assert (record.height, record.width) == drawn_on.shape[:2]
    assert np.array_equal(upright_values(stored, orientation), picture)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "I", "F"])
def test_all_modes_of_tiff_are_turned(tmp_path: Path, mode: str, orientation: int) -> None:
    picture, path = np.where(scene() > 128, 255, 0).astype(np.uint8)[..., 0], tmp_path / "a.tif"
    stored = as_stored(picture, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).convert(mode).save(path, exif=exif)
    for reading, expected in ((Reading(), picture), (STORED, stored)):
        levels = Levels(0, 255) if mode in "IF" else None
        read = read_image(path, Reading(levels, reading.upright))
        assert iou(read[..., 0] > 128, expected > 128) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["grey.png", "grey.tif", "colour.png"])
def test_pictures_of_more_than_eight_bits_are_turned_too(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    deep = scene().astype(np.uint16) * 16
    path = tmp_path / kind
    stored = as_stored(deep, orientation)
    if kind == "colour.png":
        assert cv2.imwrite(str(path), stored)
        save_exif(path, orientation)
    else:
        save(path, stored[..., 0], orientation)
    for upright, expected in ((True, deep), (False, stored)):
        read = read_image(path, Reading(Levels(0, 4095), upright))
        assert np.array_equal(read, expected >> 4)


def save_exif(path: Path, orientation: int) -> None:
    """Put an orientation into a PNG whose pixels Pillow cannot write."""
    import struct
    import zlib

    exif = Image.Exif()
    exif[0x0112] = orientation
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    content = path.read_bytes()
    path.write_bytes(content[:33] + chunk + content[33:])  # after the header's chunk


def test_a_message_of_another_size_names_exif(tmp_path: Path) -> None:
    picture, path = scene(), tmp_path / "a.jpg"
    save(path, as_stored(picture, 6), 6)
    with pytest.raises(UsageError, match=r"EXIF orientation 6 turns it.*data\.exif: ignore"):
        read_sized_image(path, 90, 60)
    with pytest.raises(UsageError, match=r"EXIF orientation 6 turned it.*data\.exif: upright"):
        read_sized_image(path, 60, 90, STORED)
    with pytest.raises(UsageError) as other:
        read_sized_image(path, 61, 90)
    assert "EXIF" not in str(other.value)


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("drawn_on", ["upright", "stored"])
def test_the_check_counts_them_and_says_which_picture_fits(
    tmp_path: Path, drawn_on: str, decode: bool
) -> None:
    images = []
    for number, orientation in enumerate((1, 2, 3, 6, 6, 8), 1):
        picture = scene()
        picture[50, number] = 255
        stored = as_stored(picture, orientation)
        name = f"{number}.png"
        save(tmp_path / name, stored, orientation)
        height, width = (picture if drawn_on == "upright" else stored).shape[:2]
        images.append({"id": number, "file_name": name, "height": height, "width": width})
    content = {"images": images, "annotations": [], "categories": []}
    write_json(tmp_path / "set.json", content)
    for reading in (Reading(), STORED):
        found = check_coco(tmp_path / "set.json", tmp_path, decode=decode, reading=reading)
        kinds = {fault.kind: fault for fault in found}
        assert {kind: kinds[kind].count for kind in kinds if kind[:5] == "exif-"} == {
            "exif-2": 1,
            "exif-3": 1,
            "exif-6": 2,
            "exif-8": 1,
            "exif-hint": 1,
        }
        assert kinds["exif-6"].is_note
        fits = {"upright": "data.exif: upright fits", "stored": "data.exif: ignore fits"}
        assert fits[drawn_on] in kinds["exif-hint"].examples[0]
        assert "3 of 3 telling sizes fit the picture" in kinds["exif-hint"].examples[0]
        if reading.upright == (drawn_on == "upright"):
            assert "size-mismatch" not in kinds
        else:
            assert kinds["size-mismatch"].count == 3
            assert "EXIF orientation 6" in kinds["size-mismatch"].examples[0]


def test_where_no_size_tells_the_check_says_so(tmp_path: Path) -> None:
    save(tmp_path / "a.png", as_stored(scene(), 3), 3)
    images = [{"id": 1, "file_name": "a.png", "height": 60, "width": 90}]
    content = {"images": images, "annotations": [], "categories": []}
    write_json(tmp_path / "set.json", content)
    kinds = {fault.kind: fault for fault in check_coco(tmp_path / "set.json", tmp_path)}
    assert "no size tells" in kinds["exif-hint"].examples[0]
