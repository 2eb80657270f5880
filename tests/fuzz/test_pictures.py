"""Pictures of every common format with other bytes are read whole or refused."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from s4m_pipeline.data.formats.cityscapes.reader import convert_image
from s4m_pipeline.data.images import (
    has_frames,
    image_orientation,
    image_size,
    read_extremes,
    read_image,
)
from s4m_pipeline.review.report_gallery import read_picture
from tests.fuzz.answers import answer, feed, fuzzed
from tests.fuzz.inputs import damaged_bytes


def saved(kind, image, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pictures() -> dict[str, bytes]:
    pixels = np.random.default_rng(3).integers(0, 255, (24, 20, 3), dtype=np.uint8)
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) << 8)
    more = {"save_all": True, "append_images": [Image.fromarray(255 - pixels)]}
    found = {
        **{kind: saved(kind, image, exif=exif) for kind in ("PNG", "JPEG", "WEBP", "TIFF")},
        **{kind: saved(kind, image) for kind in ("BMP", "PPM", "TGA", "QOI", "DDS", "SGI", "PCX")},
        "GIF": saved("GIF", image.convert("P")),
        "several in a GIF": saved("GIF", image, **more),
        "several in a TIFF": saved("TIFF", image, **more),
        "several in a WebP": saved("WEBP", image, **more),
        "several in a PNG": saved("PNG", image, **more),
        "16 bits in a PNG": saved("PNG", deep),
        "16 bits in a TIFF": saved("TIFF", deep),
        "floats in a TIFF": saved("TIFF", Image.fromarray(pixels[..., 0].astype(np.float32))),
        "colours of 16 bits": cv2.imencode(".png", pixels.astype(np.uint16) << 8)[1].tobytes(),
        **{f"TIFF {how}": saved("TIFF", image, compression=how) for how in ("tiff_lzw", "jpeg")},
        "deflated TIFF": saved("TIFF", image, compression="tiff_adobe_deflate"),
        "progressive JPEG": saved("JPEG", image, progressive=True),
        "EPS": saved("EPS", image),
        "ICO": saved("ICO", image),
    }
    for kind in ("JPEG2000", "AVIF"):  # not in every build of Pillow
        if kind in Image.SAVE:
            found[kind] = saved(kind, image)
    return found


Image.init()
PICTURES = pictures()


@fuzzed
@given(st.sampled_from(sorted(PICTURES)).flatmap(lambda kind: damaged_bytes(PICTURES[kind])))
@pytest.mark.filterwarnings("ignore")
def test_images(folder, data):
    path = folder / "picture.png"
    feed(path, data)
    size = answer(lambda: image_size(path))
    answer(lambda: (image_orientation(path), has_frames(path), read_extremes(path)))
    answer(lambda: read_picture(path))
    pixels = answer(lambda: read_image(path))
    if pixels is not None:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert size is None or pixels.shape[:2] == size


IDS = saved("PNG", Image.fromarray(np.full((24, 20), 26001, np.uint16)))


@fuzzed
@given(damaged_bytes(IDS) | st.sampled_from(sorted(PICTURES)).map(PICTURES.get))
@pytest.mark.filterwarnings("ignore")
def test_pictures_of_instance_ids(folder, data):
    photo, path = folder / "photo.png", folder / "ids.png"
    photo.write_bytes(PICTURES["BMP"])
    feed(path, data)
    found = answer(lambda: convert_image(photo, path))
    assert found is None or (found["height"], found["width"]) == (24, 20)
