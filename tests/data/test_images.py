"""Strict decoding: upright, RGB, and an error for what is not whole."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s4m_pipeline.data import images
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.data.images import image_size, read_image, unreadable
from s4m_pipeline.errors import UsageError


def _jpeg(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


@pytest.fixture
def pixels() -> np.ndarray:
    rows, columns = np.mgrid[0:64, 0:96]
    return np.stack([rows * 3, columns * 2, (rows + columns)], -1).astype(np.uint8)


def test_png_is_exact(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.dtype == np.uint8
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "CMYK", "1", "I;16"])
def test_all_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.full((10, 14), 200, np.uint8)
    image = Image.fromarray(grey)
    image = Image.fromarray(grey.astype(np.uint16) << 8) if mode == "I;16" else image.convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    read = read_image(path)
    assert read.shape == (10, 14, 3)
    if mode != "1":
        assert abs(read.astype(int) - 200).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, pixels: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    path.write_bytes(_jpeg(pixels, exif=exif))
    plain = tmp_path / "plain.jpg"
    plain.write_bytes(_jpeg(pixels))
    stored = read_image(plain)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(stored, 1),
    }[orientation]
    read = read_image(path)
    assert np.array_equal(read, upright)
    assert image_size(path) == read.shape[:2]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
def test_a_truncated_jpeg_is_an_error(
    tmp_path: Path, pixels: np.ndarray, share: float, progressive: bool
) -> None:
    whole = _jpeg(pixels, progressive=progressive)
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UsageError, match=r"cut\.jpg"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\xff\xd8\xff\xe0broken"])
def test_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(UsageError, match=r"bad\.jpg: not a readable image") as raised:
            read(path)
        assert len(str(raised.value).splitlines()) == 1


def test_missing(tmp_path: Path) -> None:
    for read in (read_image, image_size):
        with pytest.raises(UsageError, match=r"absent\.jpg: no such image"):
            read(tmp_path / "absent.jpg")


def test_unreadable_names_every_bad_image_in_order(tmp_path: Path, pixels: np.ndarray) -> None:
    def record(number: int, height: int = 64, width: int = 96) -> ImageRecord:
        name = f"{number:02}.jpg"
        return ImageRecord(number, name, tmp_path / name, height, width)

    records = [record(number) for number in range(30)]
    whole = _jpeg(pixels)
    for image in records:
        image.path.write_bytes(whole)
    records[3].path.unlink()
    records[11].path.write_bytes(whole[: len(whole) // 2])
    records[20] = record(20, 96, 64)
    records[21] = record(21, 0, 0)  # of unknown size
    counted: list[int] = []
    found = unreadable(records, counted.append)
    assert [image.id for image, _ in found] == [3, 11, 20]
    missing, cut, turned = (message for _, message in found)
    assert missing == f"{records[3].path}: no such image"
    assert cut.startswith(f"{records[11].path}: not a readable image (")
    assert turned.startswith(f"{records[20].path}: the image has 96 x 64 pixels, not the 64 x 96")
    assert sum(counted) == 30
    assert unreadable(records[:3]) == unreadable([]) == []


@pytest.mark.parametrize(("decoded_bytes", "most"), [(1, 1), (1 << 30, 4)])
def test_images_that_are_looked_at_are_decoded_within_the_budget(
    tmp_path, monkeypatch, decoded_bytes, most
):
    at_work, seen, lock = [], [], threading.Lock()

    def decode(record):
        with lock:
            at_work.append(record)
            seen.append(len(at_work))
        time.sleep(0.02)
        with lock:
            at_work.remove(record)

    monkeypatch.setattr(images, "_fault", decode)
    records = [ImageRecord(n, "a", tmp_path / "a", 4898, 7348) for n in range(12)]
    assert images.unreadable(records, decoded_bytes=decoded_bytes) == []
    assert len(seen) == 12
    assert max(seen) <= most


def test_unreadable_stops_where_its_callback_does(tmp_path: Path, pixels: np.ndarray) -> None:
    def stop(count: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "a.jpg"
    path.write_bytes(_jpeg(pixels))
    with pytest.raises(KeyboardInterrupt):
        unreadable([ImageRecord(1, "a.jpg", path, 64, 96)] * 50, stop)


@pytest.mark.parametrize(("size", "fine"), [((300, 3), True), ((301, 3), False), ((1, 101), False)])
def test_an_image_too_thin_to_be_scaled_is_set_aside(
    tmp_path: Path, size: tuple[int, int], fine: bool
) -> None:
    Image.new("RGB", size).save(tmp_path / "thin.png")
    record = ImageRecord(1, "thin.png", tmp_path / "thin.png", *size[::-1])
    found = [message for _, message in unreadable([record])]
    assert found == (
        []
        if fine
        else [
            f"{record.path}: {size[0]} x {size[1]} pixels are too thin, one side is more than "
            "100 times the other"
        ]
    )
