"""The batched SAM 2 engine against `SAM2ImagePredictor`, with seeded random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sam2.sam2_image_predictor import SAM2ImagePredictor

from s4m_pipeline.refinement.ask import RefinePolicy, refine_images
from s4m_pipeline.refinement.choice import segmenter_mask
from s4m_pipeline.segmenter.base import Candidates, Frame, Prompts
from s4m_pipeline.segmenter.build import build_segmenter
from s4m_pipeline.segmenter.sam2 import Sam2Segmenter
from tests.segmenter.fakes import decode_mask, teacher_instance

SIZES = [(120, 200), (333, 250), (64, 64)]


@pytest.fixture(scope="module")
def small() -> Sam2Segmenter:
    return _tiny(192)


def _tiny(image_size: int) -> Sam2Segmenter:
    segmenter = build_segmenter("sam2.1_hiera_tiny", "random", image_size, "cpu")
    assert isinstance(segmenter, Sam2Segmenter)
    return segmenter


def _images(sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    images = []
    for height, width in sizes:
        coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
        images.append(np.kron(coarse, np.ones((16, 16, 1), np.uint8))[:height, :width])
    return images


def _prompts(sizes: list[tuple[int, int]], kind: str, count: int) -> list[Prompts]:
    rng = np.random.default_rng(1)
    out = []
    for height, width in sizes:
        per = 0 if kind == "box" else 3
        points = rng.random((count, per, 2)).astype(np.float32) * [width - 1, height - 1]
        labels = np.ones((count, per), np.int32)
        labels[:, 2:] = 0
        corner = rng.random((count, 2)) * [width / 2, height / 2]
        far = corner + np.array([width / 3, height / 3])
        boxes = np.concatenate([corner, far], 1).astype(np.float32)
        out.append(Prompts(points.astype(np.float32), labels, None if kind == "points" else boxes))
    return out


def _predictor(segmenter: Sam2Segmenter) -> SAM2ImagePredictor:
    predictor = SAM2ImagePredictor(segmenter.model)
    if segmenter.image_size != 1024:
        cells = segmenter.image_size // 16
        predictor._bb_feat_sizes = [(4 * cells,) * 2, (2 * cells,) * 2, (cells, cells)]
    return predictor


def _compare(
    predictor: SAM2ImagePredictor,
    image: np.ndarray,
    prompts: Prompts,
    found: Candidates,
    multimask: bool,
    image_size: int,
) -> None:
    """Logits, scores and full-size masks of one image's instances, predicted one by one.

    The image is already set in the predictor.
    """
    height, width = image.shape[:2]
    frame = Frame(height, width, image_size, image_size)
    for i in range(len(prompts)):
        logits, ious, low = predictor.predict(
            prompts.points[i] if prompts.points.shape[1] else None,
            prompts.labels[i] if prompts.points.shape[1] else None,
            None if prompts.boxes is None else prompts.boxes[i],
            multimask_output=multimask,
            return_logits=True,
        )
        span = np.abs(low).max()
        assert np.abs(found.logits[i].numpy() - low).max() < 1e-4 * span
        np.testing.assert_allclose(found.ious[i].numpy(), ious, atol=1e-5)
        for own, theirs in zip(found.logits[i].numpy(), logits, strict=True):
            mask = decode_mask(segmenter_mask(own, frame, image_size), height, width)
            differs = mask != (theirs > 0)
            assert np.abs(theirs[differs]).max(initial=0) < 1e-4 * span
            assert differs.mean() < 1e-3


@pytest.mark.parametrize("kind", ["points", "box", "box+points"])
@pytest.mark.parametrize("multimask", [True, False])
def test_same_masks_as_the_predictor(small: Sam2Segmenter, kind: str, multimask: bool) -> None:
    images, prompts = _images(SIZES), _prompts(SIZES, kind, 3)
    found = small.decode(small.encode(images), prompts, multimask)
    predictor = _predictor(small)
    for image, prompt, candidates in zip(images, prompts, found, strict=True):
        predictor.set_image(image)
        assert candidates.logits.shape == (3, 3 if multimask else 1, 48, 48)
        _compare(predictor, image, prompt, candidates, multimask, 192)
    shares = torch.cat([(c.logits > 0).flatten(2).float().mean(2) for c in found])
    assert ((shares > 0.01) & (shares < 0.99)).any()  # there is an outline to compare


@pytest.mark.slow
def test_same_masks_as_the_predictor_at_1024() -> None:
    segmenter = _tiny(1024)
    sizes = [(300, 500), (480, 360)]
    images = _images(sizes)
    embeddings = segmenter.encode(images)
    predictor = _predictor(segmenter)
    asked = [
        (multimask, prompts, segmenter.decode(embeddings, prompts, multimask))
        for kind, multimask in (("points", True), ("points", False), ("box", False))
        for prompts in [_prompts(sizes, kind, 2)]
    ]
    for index, image in enumerate(images):
        predictor.set_image(image)
        for multimask, prompts, found in asked:
            _compare(predictor, image, prompts[index], found[index], multimask, 1024)


def test_input_equals_that_of_the_predictor(small: Sam2Segmenter) -> None:
    images = _images(SIZES)
    transforms = _predictor(small)._transforms
    found = small.preprocess(images)
    for image, own in zip(images, found, strict=True):
        assert torch.equal(own, transforms(image))


def test_single_instance_keeps_its_axes(small: Sam2Segmenter) -> None:
    embeddings = small.encode(_images(SIZES[:1]))
    for multimask, count in ((True, 3), (False, 1)):
        (found,) = small.decode(embeddings, _prompts(SIZES[:1], "points", 1), multimask)
        assert found.logits.shape == (1, count, 48, 48)
        assert found.ious.shape == (1, count)


def test_images_without_instances(small: Sam2Segmenter) -> None:
    prompts = _prompts(SIZES, "points", 2)
    prompts[1] = Prompts(np.zeros((0, 3, 2), np.float32), np.zeros((0, 3), np.int32))
    found = small.decode(small.encode(_images(SIZES)), prompts, True)
    assert [tuple(c.logits.shape) for c in found] == [
        (2, 3, 48, 48),
        (0, 3, 48, 48),
        (2, 3, 48, 48),
    ]
    nothing = small.decode(small.encode(_images(SIZES[:1])), [prompts[1]], False)
    assert nothing[0].logits.shape == (0, 1, 48, 48)


@pytest.mark.parametrize("kind", ["points", "box+points"])
@pytest.mark.parametrize("max_prompts", [1, 4, 100])
def test_mixed_chunks_give_the_same(small: Sam2Segmenter, kind: str, max_prompts: int) -> None:
    embeddings, prompts = small.encode(_images(SIZES)), _prompts(SIZES, kind, 3)
    prompts[2].points = prompts[2].points[:, :2]  # another shape: it makes a batch of its own
    prompts[2].labels = prompts[2].labels[:, :2]
    expected = small.decode(embeddings, prompts, True)
    mixed = Sam2Segmenter("mixed", small.model, max_prompts)
    mixed.decoder.mix_images = True
    for a, b in zip(mixed.decode(embeddings, prompts, True), expected, strict=True):
        torch.testing.assert_close(a.logits, b.logits, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(a.ious, b.ious, atol=1e-5, rtol=1e-5)


def test_mask_prompts_reach_the_decoder(small: Sam2Segmenter) -> None:
    embeddings, (prompts,) = small.encode(_images(SIZES[:1])), _prompts(SIZES[:1], "box", 2)
    masks = torch.linspace(-6, 6, 48).view(1, 1, 1, 48).repeat(2, 1, 48, 1)
    masks[1] *= -1
    (plain,) = small.decode(embeddings, [prompts], False)
    (found,) = small.decode(
        embeddings, [Prompts(prompts.points, prompts.labels, prompts.boxes, masks)], False
    )
    assert (found.logits - plain.logits).abs().max() > 1e-3
    predictor = _predictor(small)
    predictor.set_image(_images(SIZES[:1])[0])
    assert prompts.boxes is not None
    for i in range(2):
        box, mask = prompts.boxes[i], masks[i].numpy()
        _, _, low = predictor.predict(box=box, mask_input=mask, multimask_output=False)
        np.testing.assert_allclose(found.logits[i].numpy(), low, atol=1e-4)


@pytest.mark.parametrize("boxed", [False, True])
def test_negative_points_and_a_second_pass_equal_the_predictors(
    small: Sam2Segmenter, boxed: bool
) -> None:
    """The predictor's own way: its low-resolution logits go in again with the same prompt."""
    height, width = SIZES[0]
    image = _images(SIZES[:1])[0]
    instances = [
        teacher_instance(height, width, (height / 12, width / 10), 6, 0),
        teacher_instance(height, width, (height / 6, width / 6), 8, 1),
    ]
    kind = "box+points" if boxed else "points"
    policy = RefinePolicy(kind, 2, "argmax-iou", 0.0, negative_points=2, second_pass=True)
    (found,) = refine_images(small, small.encode([image]), [instances], policy)
    predictor = _predictor(small)
    predictor.set_image(image)
    for own, other, mask in zip(instances, instances[::-1], found, strict=True):
        x, y, w, h = own.bbox
        prompt = {
            "point_coords": np.concatenate([own.points[:2], other.points[:2]]),
            "point_labels": np.array([1, 1, 0, 0]),
            "box": np.array([x, y, x + w, y + h]) if boxed else None,
        }
        _, ious, low = predictor.predict(**prompt, multimask_output=True)
        again = low[[int(ious.argmax())]]
        logits, ious, low = predictor.predict(
            **prompt, mask_input=again, multimask_output=False, return_logits=True
        )
        np.testing.assert_allclose(mask.candidate_ious, ious, atol=1e-5)
        expected = logits[0] > 0
        assert 0.01 < expected.mean() < 0.99
        assert mask.candidate == 0
        differs = decode_mask(mask.mask_rle, height, width) != expected
        assert np.abs(logits[0][differs]).max(initial=0) < 1e-4 * np.abs(low).max()
        assert differs.mean() < 1e-3


def test_structure_features_are_the_transformers_keys(small: Sam2Segmenter) -> None:
    image = _images(SIZES[:2])
    points = np.array([[3, 5], [100, 300], [249, 332]], np.float32)
    found = small.structure_features(small.encode(image), 1, points)
    assert found.shape == (3, 256, 12, 12)
    predictor = _predictor(small)
    predictor.set_image(image[1])
    keys: list[torch.Tensor] = []
    hook = small.model.sam_mask_decoder.transformer.register_forward_hook(
        lambda module, args, output: keys.append(output[1])
    )
    for point in points:
        predictor.predict(point[None], np.ones(1), multimask_output=False)
    hook.remove()
    expected = torch.cat(keys).transpose(1, 2).unflatten(2, (12, 12))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
