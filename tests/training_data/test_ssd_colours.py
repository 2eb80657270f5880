"""Colours of labelled images, each change by itself against its formula, and who has them."""

from __future__ import annotations

import colorsys
import inspect
from typing import Any

import numpy as np
import pytest

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.datasets.transforms import PhotoMetricDistortion  # noqa: E402

from s4m_pipeline.configs import model_names  # noqa: E402
from s4m_pipeline.models.model_config import read_model_config  # noqa: E402
from s4m_pipeline.models.pipelines import train_pipeline  # noqa: E402
from s4m_pipeline.training_data.ssd_colours import SsdColours  # noqa: E402

OFF: dict[str, Any] = {
    "brightness": 0, "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": 0,
}  # fmt: skip
GREY = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
"""All greys, which a way to HSV and back does not change."""


def changed(image: np.ndarray, count: int = 400, **settings: Any) -> list[np.ndarray]:
    """What some draws make of an image (0 to 255, BGR)."""
    transform = SsdColours(**{**OFF, **settings})
    made = []
    for seed in range(count):
        np.random.seed(seed)
        results = transform({"img": image.copy()})
        assert results["img"].dtype == np.uint8
        made.append(results["img"])
    return made


def test_brightness_is_added_to_half_of_the_images() -> None:
    middles = [int(one[0, 128, 0]) - 128 for one in changed(GREY, brightness=32)]
    same = sum(one == 0 for one in middles)
    assert 0.4 < same / len(middles) < 0.62
    assert min(middles) < -28
    assert max(middles) > 28
    assert max(map(abs, middles)) <= 32
    for one, middle in zip(changed(GREY, 40, brightness=32), middles, strict=False):
        expected = np.clip(np.arange(256) + middle, 0, 255)
        assert np.abs(one[0, :, 0].astype(int) - expected).max() <= 1, "cut off, not wrapped"


def test_contrast_multiplies_all_values() -> None:
    made = changed(GREY, contrast=(0.5, 1.5))
    factors = np.array([one[0, 160, 0] / 160 for one in made])
    assert 0.4 < np.mean(factors == 1) < 0.62
    assert 0.5 <= factors.min() + 0.01 < 0.6
    assert 1.4 < factors.max() <= 1.5
    for one, factor in zip(made[:40], factors, strict=False):
        expected = np.clip(np.arange(256) * factor, 0, 255)
        assert np.abs(one[0, :, 0] - expected).max() <= 2.6


COLOUR = np.full((1, 1, 3), (60, 90, 200), np.uint8)
"""Blue, green, red."""


def hsv_of(image: np.ndarray) -> tuple[float, float, float]:
    blue, green, red = (float(value) / 255 for value in image[0, 0])
    return colorsys.rgb_to_hsv(red, green, blue)


def test_saturation_is_multiplied_and_nothing_else_changes() -> None:
    hue, saturation, value = hsv_of(COLOUR)
    made = [hsv_of(one) for one in changed(COLOUR, saturation=(0.5, 1.5))]
    factors = np.array([one[1] / saturation for one in made])
    assert 0.4 < np.mean(np.abs(factors - 1) < 0.015) < 0.65
    assert 0.48 < factors.min() < 0.56
    assert factors.max() == pytest.approx(1 / saturation, abs=0.02), "cut off at full saturation"
    assert all(abs(one[0] - hue) < 0.02 for one in made)
    assert all(abs(one[2] - value) < 0.01 for one in made)


def test_hue_turns_by_up_to_eighteen_of_180_steps() -> None:
    hue, saturation, value = hsv_of(COLOUR)
    made = [hsv_of(one) for one in changed(COLOUR, hue=18)]
    steps = np.array([((one[0] - hue + 0.5) % 1 - 0.5) * 180 for one in made])
    assert 0.4 < np.mean(np.abs(steps) < 0.5) < 0.65
    assert -18.8 < steps.min() < -16
    assert 16 < steps.max() < 18.8
    assert len(set(steps.round())) > 25
    assert all(abs(one[1] - saturation) < 0.02 for one in made)
    assert all(abs(one[2] - value) < 0.01 for one in made)


def test_contrast_comes_before_or_after_saturation_in_half_of_the_images_each() -> None:
    """Cut off at 255 first, a colour has another hue than when it is turned first."""
    bright = np.full((1, 1, 3), (100, 200, 250), np.uint8)
    settings = {"contrast": (1.5, 1.5), "saturation": (0.5, 0.5)}
    kinds = {tuple(one[0, 0].tolist()) for one in changed(bright, **settings)}
    assert len(kinds) == 5, "none, contrast, saturation, and both in two orders"


def test_the_ranges_are_those_of_mmdetections_kin() -> None:
    theirs = inspect.signature(PhotoMetricDistortion).parameters
    ours = inspect.signature(SsdColours).parameters
    names = {
        "brightness": "brightness_delta", "contrast": "contrast_range",
        "saturation": "saturation_range", "hue": "hue_delta",
    }  # fmt: skip
    assert all(ours[name].default == theirs[other].default for name, other in names.items())


def test_draws_follow_from_the_seed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    full = {"brightness": 32, "contrast": (0.5, 1.5), "saturation": (0.5, 1.5), "hue": 18}
    first, again = changed(image, 20, **full), changed(image, 20, **full)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({one.tobytes() for one in first}) > 15


@pytest.mark.parametrize("name", model_names())
def test_cityscapes_labelled_images_alone_have_them(name: str) -> None:
    config = read_model_config(name, 3)
    weak, strong = (
        [step["type"] for step in train_pipeline(config, strong=strong)] for strong in (False, True)
    )
    assert weak.count("SsdColours") == int(name.endswith("cityscapes"))
    assert "SsdColours" not in strong
    if name.endswith("cityscapes"):
        assert weak.index("SsdColours") > weak.index("RandomCrop")
        (step,) = [s for s in train_pipeline(config, strong=False) if s["type"] == "SsdColours"]
        defaults = inspect.signature(SsdColours).parameters
        assert {key: defaults[key].default for key in step if key != "type"} == {
            key: value for key, value in step.items() if key != "type"
        }
