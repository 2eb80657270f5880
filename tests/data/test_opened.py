"""Pictures that are too large are refused before they are decoded, whatever their format."""

from __future__ import annotations

import io
import struct
import subprocess
import time
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from s4m_pipeline.artifacts.file_facts import FileFacts
from s4m_pipeline.config_data import MOST_MEGAPIXELS, DataSection, LabelledSet
from s4m_pipeline.data.formats.cityscapes.reader import read_instance_ids
from s4m_pipeline.data.images import image_size, read_extremes, read_image
from s4m_pipeline.data.reading import Reading
from s4m_pipeline.engine.image_sets import ImageSets
from s4m_pipeline.errors import UsageError
from s4m_pipeline.review.report_gallery import read_picture


def stored(kind, mode="RGB", **options):
    stream = io.BytesIO()
    Image.new(mode, (20, 24)).save(stream, kind, **options)
    return bytearray(stream.getvalue())


def bomb(kind, width=20_000, height=20_000):
    """A small file whose header names a canvas of 400 megapixels."""
    if kind == "GIF":
        data = stored("GIF", "P")
        data[6:10] = struct.pack("<HH", width, height)
    elif kind in ("PNG", "PNG16"):
        data = stored("PNG", "RGB" if kind == "PNG" else "I;16")
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "BMP":
        data = stored("BMP")
        data[18:26] = struct.pack("<ii", width, height)
    elif kind == "JPEG":
        data = stored("JPEG")
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    elif kind == "TIFF":
        data = stored("TIFF")
        for tag, side in ((256, width), (257, height)):
            at = data.index(struct.pack("<HH", tag, 4), 8)
            data[at + 8 : at + 12] = struct.pack("<I", side)
    elif kind == "WEBP":  # frames may be smaller than their canvas
        more = [Image.new("RGB", (20, 24), "red")]
        data = stored("WEBP", save_all=True, append_images=more)
        at = data.index(b"VP8X") + 12
        data[at : at + 6] = struct.pack("<I", 16_000 - 1)[:3] + struct.pack("<I", 12_000 - 1)[:3]
    return bytes(data)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "PNG16", "BMP", "JPEG", "TIFF", "WEBP"])
def test_a_canvas_that_is_too_large_is_refused_before_it_is_decoded(tmp_path, kind):
    path = tmp_path / "a.png"
    path.write_bytes(bomb(kind))
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(UsageError) as error:
        read_image(path)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()
    assert time.process_time() - start < 1
    told = str(error.value)
    assert told.startswith(f"{path}: ")
    assert f"the {MOST_MEGAPIXELS} megapixels of data.max_megapixels" in told
    assert len(told.splitlines()) == 2
    assert read_extremes(path) is None
    assert read_picture(path) is None
    with pytest.raises(UsageError, match="megapixels"):
        read_instance_ids(path)


def test_the_limit_is_a_setting_and_nothing_warns(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 255, (1000, 1001, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    with pytest.raises(UsageError, match=r"1001 x 1000 pixels are more than the 1 megapixels"):
        read_image(path, Reading(megapixels=1))
    assert np.array_equal(read_image(path, Reading(megapixels=2)), pixels)
    assert image_size(path, megapixels=None) == (1000, 1001)
    with pytest.raises(UsageError, match="megapixels"):
        image_size(path, megapixels=1)


def test_a_picture_beyond_pillows_own_limit_can_be_allowed(tmp_path, monkeypatch):
    """As 20 000 x 20 000 pixels are, here with a thousandth of Pillow's limit."""
    path = tmp_path / "a.png"
    Image.new("L", (1000, 999), 7).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        assert (read_image(path, Reading(megapixels=1)) == 7).all()


def test_a_limit_of_ones_own_counts_towards_fingerprints(tmp_path, monkeypatch):
    """Another limit may set other pictures aside; the usual one leaves fingerprints as they are."""
    data = DataSection(labelled=LabelledSet(images=tmp_path, annotations=tmp_path / "a.json"))
    usual = ImageSets(data, FileFacts(None))
    own = ImageSets(data.model_copy(update={"max_megapixels": 400}), FileFacts(None))
    assert "data.max_megapixels" not in usual.reading_inputs()
    assert own.reading_inputs()["data.max_megapixels"] == "400"
    assert own.reading.megapixels == 400


def test_plain_values_keep_the_limit():
    rule = Reading(megapixels=400)
    assert Reading.from_plain(rule.plain()) == rule
    assert Reading.from_plain({}) == Reading()
    assert Reading().megapixels == 110


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_read(tmp_path, kind):
    frames = [Image.new("RGB", (20, 24), (0, 0, shade)) for shade in (40, 200, 90)]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(tmp_path / "a.x", kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(tmp_path / "a.x") as image:
        assert image.n_frames == 3
        first = np.asarray(image.convert("RGB"))
    assert first[0, 0].tolist() == [0, 0, 40]
    assert np.array_equal(read_image(tmp_path / "a.x"), first)


@pytest.mark.parametrize("name", ["a.eps", "a.jpg"])
def test_a_drawing_is_no_picture_and_no_other_program_runs(tmp_path, monkeypatch, name):
    def never(*args, **options):
        raise AssertionError(f"ran {args}")

    monkeypatch.setattr(subprocess, "check_call", never)
    monkeypatch.setattr(subprocess, "Popen", never)
    path = tmp_path / name
    Image.new("RGB", (20, 24)).save(path, "EPS")
    with pytest.raises(UsageError, match=r"EPS is no format of pixels; save it as PNG"):
        read_image(path)
    with pytest.raises(UsageError):
        image_size(path)
    assert read_picture(path) is None
