"""Pictures found again by content: exact, by pixels, resized and recompressed; others are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.fft
from PIL import Image, ImageFilter

from s4m_pipeline.data.check.check import check_coco
from s4m_pipeline.data.check.duplicates import find_repeated, find_shared
from s4m_pipeline.data.check.picture_prints import (
    Print,
    alike,
    code_signs,
    perceptual_code,
    take_print,
)


def _picture(seed: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """A smooth random picture of a width and height."""
    noise = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def _prints(folder: Path) -> list[Print]:
    return [take_print(path.name, path)[0] for path in sorted(folder.iterdir())]


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders: the second has four pictures of the first in other forms, and its own."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    for number in range(12):
        _picture(number).save(first / f"{number:02}.png")
        _picture(100 + number).save(second / f"{number:02}.png")
    (second / "bytes.png").write_bytes((first / "03.png").read_bytes())
    _picture(5).save(second / "pixels.bmp")
    _picture(7).resize((120, 90)).save(second / "small.jpg", quality=50)
    _picture(9).save(second / "compressed.jpg", quality=30)
    return first, second


@pytest.mark.parametrize("processes", [1, 2])
def test_each_form_is_found_and_nothing_else(sets: tuple[Path, Path], processes: int) -> None:
    found = find_shared(_prints(sets[0]), _prints(sets[1]), processes)
    assert [(m.kind, m.picture.name, m.other.name) for m in found] == [
        ("same-file", "03.png", "bytes.png"),
        ("same-pixels", "05.png", "pixels.bmp"),
        ("near-duplicate", "07.png", "small.jpg"),
        ("near-duplicate", "09.png", "compressed.jpg"),
    ]
    assert find_repeated(_prints(sets[0])) == []


def test_repeated_pictures_name_the_earlier_one(sets: tuple[Path, Path]) -> None:
    (sets[0] / "x.png").write_bytes((sets[0] / "01.png").read_bytes())
    (sets[0] / "y.png").write_bytes((sets[0] / "01.png").read_bytes())
    _picture(4).save(sets[0] / "z.jpg", quality=40)
    found = find_repeated(_prints(sets[0]))
    assert [(m.kind, m.picture.name, m.other.name) for m in found] == [
        ("same-file", "x.png", "01.png"),
        ("same-file", "y.png", "01.png"),
        ("near-duplicate", "z.jpg", "04.png"),
    ]


def test_a_code_in_common_is_not_enough(tmp_path: Path) -> None:
    """The same blurred layout, other pixels: the codes agree, the pixels do not."""
    picture = np.asarray(_picture(1, (256, 256)).convert("RGB"), np.int16)
    checks = (np.indices((256, 256)) // 8).sum(0) % 2 * 160 - 80
    Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "plain.png")
    Image.fromarray((picture + checks[..., None]).clip(0, 255).astype(np.uint8)).save(
        tmp_path / "checked.png"
    )
    codes = [taken.code for taken in _prints(tmp_path)]
    signs = code_signs(codes)
    assert (63 - signs[0] @ signs[1]) / 2 <= 8
    assert not alike(tmp_path / "plain.png", tmp_path / "checked.png")
    assert find_repeated(_prints(tmp_path)) == []


def test_another_shape_is_another_picture(tmp_path: Path) -> None:
    _picture(1).save(tmp_path / "a.png")
    _picture(1).resize((240, 120)).save(tmp_path / "b.png")
    assert not alike(tmp_path / "a.png", tmp_path / "b.png")


def test_flat_pictures_are_compared_by_pixels_alone(tmp_path: Path) -> None:
    for number, level in enumerate((100, 100, 101)):
        Image.new("RGB", (32, 32), (level,) * 3).save(tmp_path / f"{number}.png")
    found = find_repeated(_prints(tmp_path))
    assert [(m.picture.name, m.other.name) for m in found] == [("1.png", "0.png")]


def test_the_code_is_the_cosine_transform_of_scipy() -> None:
    picture = _picture(3).filter(ImageFilter.GaussianBlur(2))
    grey = picture.convert("L").resize((32, 32), Image.Resampling.BOX)
    low = scipy.fft.dctn(np.asarray(grey, float))[:8, :8].ravel()
    # scipy's factors are the same for all but the first row and column, and never negative
    signs = code_signs([perceptual_code(np.asarray(picture))])[0]
    assert signs.shape == (63,)
    expected = np.where(low[1:] > np.median(low[1:]), 1, -1)
    assert (signs == expected).sum() >= 61  # two may change sides where the median is near


def test_the_two_photographs_in_train_and_valid(shared_dir: Path) -> None:
    train, valid = (shared_dir / "data/animals7" / name for name in ("train", "valid"))
    known = ("ce7043029c91888c", "ee20241cb0882084")
    prints = [
        [take_print(path.name, path)[0] for path in sorted(folder.glob("*.jpg")) if wanted(path)]
        for folder, wanted in (
            (train, lambda path: path.name.startswith(("c", "e"))),
            (valid, lambda path: path.name.startswith(("c", "e"))),
        )
    ]
    found = find_shared(*prints)
    assert [m.picture.name[:16] for m in found] == list(known)
    assert [m.other.name[:16] for m in found] == list(known)


@pytest.mark.slow
def test_check_names_what_train_and_valid_share(shared_dir: Path) -> None:
    folder = shared_dir / "data/animals7"
    sets = [(folder / n / "_annotations.coco.json", folder / n) for n in ("train", "valid", "test")]
    found = {f.kind: f for f in check_coco(*sets[0], against=sets[1:])}
    assert found["same-file"].count == 2
    assert "ee20241cb0882084" in found["same-file"].examples[0]
    assert "ce7043029c91888c" in found["same-file"].examples[1]
    assert found["repeated-image"].count == 2  # a bear and a monkey, each resized
    assert not {"same-pixels", "near-duplicate", "unreadable-other"} & set(found)
