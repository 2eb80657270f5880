"""One rule for the levels of pictures of more than 8 bits; right values by hand and NumPy."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from s4m_pipeline.data.images import read_extremes, read_image, read_sized_image
from s4m_pipeline.data.levels import Extremes, Levels, decided
from s4m_pipeline.data.reading import Reading
from s4m_pipeline.errors import UsageError


@pytest.fixture
def grey() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 60)).astype(np.uint8)


def levels_of(*paths: Path) -> Levels | None:
    known = {path.name: read_extremes(path) for path in paths}
    return decided({name: extremes for name, extremes in known.items() if extremes})


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_as_many_bits_as_the_largest_value_of_all_has(
    tmp_path: Path, grey: np.ndarray, suffix: str, bits: int
) -> None:
    deep, dark = grey.astype(np.uint16) << (bits - 8), grey.astype(np.uint16)
    deep[0, 0] = (1 << bits) - 1
    paths = [tmp_path / f"deep{suffix}", tmp_path / f"dark{suffix}"]
    Image.fromarray(deep).save(paths[0])
    Image.fromarray(dark).save(paths[1])
    levels = levels_of(*paths)
    assert levels == Levels(0, (1 << bits) - 1, clips=False)
    read = [read_sized_image(path, 40, 60, Reading(levels)) for path in paths]
    expected = grey.copy()
    expected[0, 0] = 255
    assert np.array_equal(read[0], np.stack([expected] * 3, -1))
    assert np.array_equal(read[1][..., 0], grey >> (bits - 8))  # the same scale


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_of_sixteen_bits_keep_their_lower_bytes(tmp_path: Path, suffix: str) -> None:
    rgb = np.random.default_rng(1).integers(0, 4096, (20, 30, 3)).astype(np.uint16)
    rgb[0, 0] = 4095
    path = tmp_path / f"rgb{suffix}"
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    levels = levels_of(path)
    assert levels == Levels(0, 4095, clips=False)
    assert np.array_equal(read_image(path, Reading(levels)), (rgb >> 4).astype(np.uint8))


def test_a_cut_picture_of_sixteen_bit_colours_is_an_error(tmp_path: Path) -> None:
    rgb = np.random.default_rng(1).integers(0, 4096, (200, 300, 3)).astype(np.uint16)
    path = tmp_path / "rgb.png"
    assert cv2.imwrite(str(path), rgb)
    path.write_bytes(path.read_bytes()[:-90_000])
    assert read_extremes(path) is None
    with pytest.raises(UsageError, match=r"rgb\.png: not a readable image"):
        read_image(path, Reading(Levels(0, 4095)))


def test_signed_values(tmp_path: Path) -> None:
    values = np.linspace(-1024, 3071, 4096).reshape(64, 64).astype(np.int16)
    path = tmp_path / "ct.tif"
    assert cv2.imwrite(str(path), values)
    levels = levels_of(path)
    assert levels == Levels(-1024, 4095, clips=False)
    read = read_image(path, Reading(levels))[..., 0]
    assert np.array_equal(read, (values.astype(int) + 1024) * 256 // 5120)
    assert (read[0, 0], read[-1, -1]) == (0, 204)
    window = read_image(path, Reading(Levels(-160, 240)))[..., 0]
    assert (window[values <= -160] == 0).all()
    assert (window[values >= 240] == 255).all()
    assert window[values == 40][0] == 127  # 200 of 401 values are below


@pytest.mark.parametrize(
    ("top", "white"), [(1.0, 1), (0.25, 1), (1.5, 2), (200.5, 256), (255.0, 255), (4000.0, 4095)]
)
def test_floats(tmp_path: Path, top: float, white: int) -> None:
    values = np.linspace(0, top, 2048).reshape(32, 64).astype(np.float32)
    if top in (255.0, 4000.0):
        values = np.rint(values)
    path = tmp_path / "float.tif"
    Image.fromarray(values).save(path)
    levels = levels_of(path)
    assert levels == Levels(0, white, clips=False)
    read = read_image(path, Reading(levels))[..., 0].astype(float)
    assert np.abs(read - values * 255 / white).max() <= 0.51


def test_floats_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    values = np.zeros((4, 4), np.float32)
    values[1, 1] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tif")
    with pytest.raises(UsageError, match="no numbers"):
        read_image(tmp_path / "nan.tif")


def test_what_is_outside_of_levels_that_were_decided_is_no_picture_of_the_set(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bright.png"
    Image.fromarray(np.full((4, 4), 5000, np.uint16)).save(path)
    with pytest.raises(
        UsageError, match=r"bright\.png.*outside the levels 0\.\.4095.*data\.levels"
    ):
        read_image(path, Reading(Levels(0, 4095, clips=False)))
    assert (read_image(path, Reading(Levels(0, 4095))) == 255).all()


def test_a_set_without_levels_has_no_picture_of_more_bits(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 5000, np.uint16)).save(path)
    with pytest.raises(UsageError, match=r"deep\.png.*more than 8 bits.*data\.levels"):
        read_sized_image(path, 4, 4)


def test_eight_bits_are_not_touched(tmp_path: Path, grey: np.ndarray) -> None:
    for name in ("a.png", "a.tif", "a.bmp", "a.webp", "a.gif", "a.jpg"):
        Image.fromarray(grey).save(tmp_path / name)
        assert read_extremes(tmp_path / name) is None
    read = read_image(tmp_path / "a.png", Reading(Levels(0, 4095)))
    assert np.array_equal(read[..., 0], grey)


def test_fractions_and_large_values_have_no_rule_in_common() -> None:
    fractions, counts = Extremes(0, 0.5, 0, 0.5, False), Extremes(0, 4000, 0, 4000, True)
    with pytest.raises(UsageError, match=r"data\.levels.*a\.tif.*b\.tif"):
        decided({"a.tif": fractions, "b.tif": counts})
    assert decided({}) is None


def test_a_hot_pixel_does_not_hide_that_few_levels_are_used() -> None:
    hot = Extremes(0, 65535, 3, 4000, True)
    assert hot.uses_few(Levels(0, 65535))
    assert not hot.uses_few(Levels(0, 4095))
    assert Extremes(5000, 9000, 5000, 9000, True).uses_few(Levels(0, 4095))  # all white


def test_levels_come_back_from_what_is_stored() -> None:
    for levels in (Levels(0, 4095, clips=False), Levels(-160, 240)):
        assert Levels.from_plain(levels.plain()) == levels
    assert Levels.from_plain(None) is None
    for wrong in ([1, 0, True], "x", [1, 2], ["a", 2, True]):
        with pytest.raises(UsageError):
            Levels.from_plain(wrong)
