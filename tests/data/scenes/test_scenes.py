"""Generated scenes: seeded, disjoint visible masks, truth equal to what was painted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.data.scenes.scenes import (
    MIN_VISIBLE_SHARE,
    Layer,
    class_names,
    compose,
    generate_scenes,
    make_scene,
)
from s4m_pipeline.data.scenes.shapes import SHAPES, draw_shape
from s4m_pipeline.data.scenes.textures import GROUNDS, PATTERNS
from s4m_pipeline.errors import UsageError

STYLES = sorted(SHAPES)


@pytest.mark.parametrize("style", STYLES)
def test_same_seed_same_scene(style: str) -> None:
    first, second = (make_scene(rng(3, "test", style), 128, style) for _ in range(2))
    other = make_scene(rng(4, "test", style), 128, style)

    assert np.array_equal(first.image, second.image)
    assert first.labels == second.labels
    assert all(np.array_equal(a, b) for a, b in zip(first.masks, second.masks, strict=True))
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [64, 128, 160])
def test_scene_has_disjoint_visible_objects(style: str, size: int) -> None:
    counts = []
    for index in range(20):
        scene = make_scene(rng(5, style, size, index), size, style)
        assert scene.image.shape == (size, size, 3)
        assert scene.image.dtype == np.uint8
        assert len(scene.labels) == len(scene.masks)
        assert all(mask.dtype == bool and mask.shape == (size, size) for mask in scene.masks)
        layers = np.stack(scene.masks).astype(int)
        assert layers.sum(axis=0).max() == 1
        assert layers.sum(axis=(1, 2)).min() >= 60 * (size / 128) ** 2
        assert set(scene.labels) <= set(range(len(class_names(style))))
        counts.append(len(scene.masks))
    assert max(counts) <= 6
    assert np.mean(counts) > 2.5


def test_objects_do_overlap_and_stay_visible() -> None:
    """Some objects are partly hidden, or the scenes would be too easy; none is nearly hidden."""
    from s4m_pipeline.data.scenes.scenes import _choose_masks

    shares = []
    for index in range(40):
        placed = [mask for mask, _ in _choose_masks(rng(6, index), 128, "demo")]
        for depth, mask in enumerate(placed):
            above = np.any(placed[depth + 1 :], axis=0) if placed[depth + 1 :] else False
            shares.append((mask & ~above).sum() / mask.sum())
    assert min(shares) >= MIN_VISIBLE_SHARE
    assert np.mean(np.array(shares) < 0.98) > 0.1


def test_truth_is_what_was_painted() -> None:
    """Objects of one flat colour each: the pixels of that colour are the object's truth."""
    generator = rng(7, "compose")
    ground = np.full((128, 128, 3), 200.0, np.float32)
    layers = []
    for value in range(6):
        mask = draw_shape(generator, "demo", "star", 28.0, 128)
        surface = np.full((128, 128, 3), 10.0 * (value + 1), np.float32)
        layers.append(Layer(mask, surface, np.zeros((128, 128), np.float32), 0))

    picture, masks = compose(ground, layers)

    for value, mask in enumerate(masks):
        assert np.array_equal(picture[..., 0] == 10.0 * (value + 1), mask)
    assert np.array_equal(picture[..., 0] == 200.0, ~np.any(masks, axis=0))


def test_shadow_darkens_what_lies_below_only() -> None:
    mask = np.zeros((32, 32), bool)
    mask[8:16, 8:16] = True
    shadow = np.zeros((32, 32), np.float32)
    shadow[8:20, 8:20] = 0.25
    surface = np.full((32, 32, 3), 50.0, np.float32)

    picture, _ = compose(np.full((32, 32, 3), 100.0, np.float32), [Layer(mask, surface, shadow, 0)])

    assert np.all(picture[mask] == 50.0)
    assert np.all(picture[17, 8:20] == 75.0)
    assert np.all(picture[24:] == 100.0)


@pytest.mark.parametrize(
    ("family", "area"),
    [("disc", lambda a: 0.68 < a <= 1.01), ("star", lambda a: 0.3 < a < 0.7)],
)
def test_shape_fills_its_circle_as_it_should(family: str, area: object) -> None:
    """Area of whole shapes, as a share of the circle around them."""
    for index in range(10):
        mask = draw_shape(rng(8, family, index), "demo", family, 20.0, 400)
        if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
            continue
        assert area(mask.sum() / (np.pi * 20.0**2))  # type: ignore[operator]


def test_styles_share_nothing() -> None:
    for catalogue in (SHAPES, PATTERNS):
        assert set(catalogue) == {"demo", "pretrain"}
        assert not set(catalogue["demo"]) & set(catalogue["pretrain"])
        assert not set(catalogue["demo"].values()) & set(catalogue["pretrain"].values())
    assert GROUNDS["demo"] is not GROUNDS["pretrain"]


@pytest.mark.parametrize(("style", "bar"), [("pretrain", 0.35), ("demo", 1.0)])
def test_colour_alone_does_not_tell_the_class(style: str, bar: float) -> None:
    """Mean colours of the classes lie closer together than the objects of one class."""
    colours: dict[int, list[np.ndarray]] = {}
    for index in range(150):
        scene = make_scene(rng(9, index), 128, style)
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            colours.setdefault(label, []).append(scene.image[mask].mean(axis=0))
    means = np.stack([np.mean(values, axis=0) for values in colours.values()])
    within = np.mean([np.std(values, axis=0) for values in colours.values()])
    assert means.std(axis=0).max() < bar * within


def test_generated_set_reads_back_with_coco(tmp_path: Path) -> None:
    path = generate_scenes(tmp_path, 4, seed=11, split="labelled")

    coco = COCO(str(path))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == class_names()
    assert coco.getImgIds() == [1, 2, 3, 4]
    for image_id in coco.getImgIds():
        record = coco.imgs[image_id]
        pixels = np.asarray(Image.open(tmp_path / "labelled" / record["file_name"]), np.int64)
        assert pixels.shape == (record["height"], record["width"], 3)
        scene = make_scene(rng(11, "scene", "demo", "labelled", 128, image_id - 1))
        assert np.abs(pixels - scene.image).mean() < 6.0
        found = coco.imgToAnns[image_id]
        assert [one["category_id"] - 1 for one in found] == scene.labels
        for one, mask in zip(found, scene.masks, strict=True):
            assert np.array_equal(coco.annToMask(one).astype(bool), mask)
            ys, xs = np.nonzero(mask)
            expected = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert one["bbox"] == [float(value) for value in expected]
            assert one["area"] == len(xs)


def test_generated_sets_follow_from_seed_and_split(tmp_path: Path) -> None:
    def files(folder: str, count: int, seed: int, split: str) -> list[bytes]:
        path = generate_scenes(tmp_path / folder, count, seed, split, size=64)
        return [image.read_bytes() for image in sorted((path.parent / split).iterdir())]

    base = files("a", 3, 1, "train")
    assert files("b", 3, 1, "train") == base
    assert files("c", 2, 1, "train") == base[:2]
    assert not set(files("d", 3, 2, "train")) & set(base)
    assert not set(files("e", 3, 1, "valid")) & set(base)


def test_unlabelled_set_has_no_truth(tmp_path: Path) -> None:
    path = generate_scenes(tmp_path, 2, 1, "unlabelled", size=64, with_masks=False)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["annotations"] == []
    assert len(content["images"]) == 2
    assert len(content["categories"]) == len(class_names())


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="style"):
        make_scene(rng(0), 128, "photographs")
    with pytest.raises(UsageError, match="style"):
        generate_scenes(tmp_path, 1, 0, "x", style="photographs")
    with pytest.raises(UsageError, match="at least 32"):
        make_scene(rng(0), 8)
    with pytest.raises(UsageError, match="at least one"):
        generate_scenes(tmp_path, 0, 0, "x")
    assert list(tmp_path.iterdir()) == []
