"""Kinds of TIFF and JPEG 2000 that Pillow reads otherwise than they are stored, without a word."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from s4m_pipeline.data.images import image_size, read_extremes, read_image
from s4m_pipeline.data.levels import Levels
from s4m_pipeline.data.reading import Reading
from s4m_pipeline.errors import UsageError
from tests.data.tiff_files import write_tiff


@pytest.fixture
def grey() -> np.ndarray:
    """8 bits, every value, no symmetry."""
    return (np.add.outer(7 * np.arange(24), np.arange(36)) % 256).astype(np.uint8)


def _colours(grey: np.ndarray) -> np.ndarray:
    return np.dstack([grey, grey[::-1], grey[:, ::-1]])


def test_white_that_is_stored_as_0(tmp_path: Path, grey: np.ndarray) -> None:
    stored = 65535 - grey.astype(np.uint16) * 257
    path = write_tiff(tmp_path / "a.tif", stored, photometric=0)
    read = read_image(path, Reading(Levels(0, 65535)))
    assert (read == grey[..., None]).all()
    extremes = read_extremes(path)
    assert extremes is not None
    assert (extremes.low, extremes.high) == (257 * int(grey.min()), 257 * int(grey.max()))


def test_unsigned_values_of_32_bits(tmp_path: Path, grey: np.ndarray) -> None:
    stored = grey.astype(np.uint32) * 0x01010101
    path = write_tiff(tmp_path / "a.tif", stored, photometric=1)
    assert (read_image(path, Reading(Levels(0, 2**32 - 1))) == grey[..., None]).all()
    signed = write_tiff(
        tmp_path / "b.tif", grey.astype(np.int32) - 128, photometric=1, sample_format=2
    )
    assert (read_image(signed, Reading(Levels(-128, 127))) == grey[..., None]).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["signed", "planes", "associated", "floats"])
def test_what_is_not_read_rightly_is_refused(
    tmp_path: Path, grey: np.ndarray, kind: str, order: str
) -> None:
    deep, path = _colours(grey).astype(np.uint16) * 257, tmp_path / "a.tif"
    if kind == "signed":
        stored = grey.view(np.int8)
        write_tiff(path, stored, photometric=1, sample_format=2, order=order)
    elif kind == "planes":
        write_tiff(path, deep, photometric=2, planes=True, order=order)
    elif kind == "associated":
        stored = np.dstack([deep, deep[..., :1]])
        write_tiff(path, stored, photometric=2, extra=1, order=order)
    else:
        stored = grey.astype(np.float32)
        write_tiff(path, stored, photometric=0, sample_format=3, order=order)
    for read in (read_image, image_size):
        with pytest.raises(UsageError, match=r"a\.tif: not a readable image"):
            read(path)
    assert read_extremes(path) is None


@pytest.mark.parametrize("order", ["<", ">"])
def test_planes_of_eight_bits_are_read(tmp_path: Path, grey: np.ndarray, order: str) -> None:
    path = write_tiff(tmp_path / "a.tif", _colours(grey), photometric=2, planes=True, order=order)
    assert (read_image(path) == _colours(grey)).all()


def test_colours_of_sixteen_bits_in_jpeg_2000(tmp_path: Path) -> None:
    colours = np.zeros((96, 128, 3), np.uint16)  # 12 bits: by their upper bytes they were black
    colours[..., 0] = np.arange(128) * 32
    colours[..., 1] = (np.arange(96) * 42)[:, None]
    colours[..., 2] = 2048
    path = tmp_path / "a.jp2"
    assert cv2.imwrite(str(path), colours[..., ::-1])
    read = read_image(path, Reading(Levels(0, 4095))).astype(int)
    assert np.abs(read - (colours >> 4)).max() <= 1  # OpenCV writes it with some loss
    with pytest.raises(UsageError, match=r"no levels are known .* data.levels"):
        read_image(path, Reading())
