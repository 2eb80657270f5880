"""The demo's segmenter: its structure, its shipped weights and how good they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from sam2.modeling.sam2_base import SAM2Base

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.data.scenes.scenes import Scene, make_scene
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.segmenter.demo import (
    DEMO_STRIDE,
    DEMO_WEIGHTS,
    DemoSegmenter,
    build_demo_model,
    load_demo_weights,
)
from s4m_pipeline.segmenter.sam2 import _load

HELD_OUT_SEED = 770_000
"""No other code draws scenes with this seed."""

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@pytest.fixture(scope="module")
def model() -> DemoSegmenter:
    model = build_demo_model()
    load_demo_weights(model)
    return model


def _encode(model: DemoSegmenter, image: np.ndarray) -> list[torch.Tensor]:
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    return model.forward_image((pixels - MEAN) / DEVIATION)["backbone_fpn"]


def _decode(
    model: DemoSegmenter,
    image: np.ndarray,
    points: np.ndarray,
    labels: np.ndarray,
    multimask: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """SAM 2's own way to decode: logits (N, C, H, W) at the image's size and IoU (N, C)."""
    fine, middle, embedding = _encode(model, image)
    sparse, dense = model.sam_prompt_encoder(
        points=(torch.from_numpy(points), torch.from_numpy(labels)), boxes=None, masks=None
    )
    logits, ious, _, _ = model.sam_mask_decoder(
        image_embeddings=embedding,
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
        repeat_image=True,
        high_res_features=[fine, middle],
    )
    return F.interpolate(logits, image.shape[:2], mode="bilinear", align_corners=False), ious


def _three_points(scene: Scene, index: int) -> tuple[np.ndarray, np.ndarray]:
    points = []
    for number, mask in enumerate(scene.masks):
        y, x = np.nonzero(mask)
        chosen = rng(HELD_OUT_SEED, "points", index, number).choice(len(x), 3, replace=False)
        points.append(np.stack([x[chosen], y[chosen]], axis=1))
    return np.stack(points).astype(np.float32), np.ones((len(points), 3), np.int32)


def _boxes(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    corners = []
    for mask in scene.masks:
        y, x = np.nonzero(mask)
        corners.append([[x.min(), y.min()], [x.max() + 1, y.max() + 1]])
    return np.array(corners, np.float32), np.tile(np.array([2, 3], np.int32), (len(corners), 1))


def _mean_iou(model: DemoSegmenter, style: str, prompt: str, scenes: int = 15) -> float:
    ious: list[float] = []
    for index in range(scenes):
        scene = make_scene(rng(HELD_OUT_SEED, style, index), 128, style)
        points, labels = _three_points(scene, index) if prompt == "points" else _boxes(scene)
        with torch.inference_mode():
            logits, _ = _decode(model, scene.image, points, labels)
        predicted, truth = (logits[:, 0] > 0).numpy(), np.stack(scene.masks)
        overlap = (predicted & truth).sum(axis=(1, 2))
        ious.extend(overlap / (predicted | truth).sum(axis=(1, 2)))
    return float(np.mean(ious))


@pytest.mark.parametrize("size", [64, 128, 160])
def test_shapes_follow_the_input_size(size: int) -> None:
    model = build_demo_model(size)
    image = make_scene(rng(1, size), size, "demo").image
    with torch.inference_mode():
        fine, middle, embedding = _encode(model, image)
        logits, ious = _decode(
            model, image, np.full((2, 1, 2), 20, np.float32), np.ones((2, 1), np.int32), True
        )
    cells = size // DEMO_STRIDE
    assert embedding.shape == (1, model.hidden_dim, cells, cells)
    assert fine.shape[-1] == 4 * cells
    assert middle.shape[-1] == 2 * cells
    assert model.sam_prompt_encoder.mask_input_size == (4 * cells, 4 * cells)
    assert logits.shape == (2, 3, size, size)
    assert ious.shape == (2, 3)
    assert bool(((ious >= 0) & (ious <= 1)).all())


def test_encoding_is_that_of_sam2_base(model: DemoSegmenter) -> None:
    """The merged convolutions give what SAM 2's own code gives."""
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = SAM2Base.forward_image(model, images)
        actual = model.forward_image(images)
    assert len(actual["backbone_fpn"]) == model.num_feature_levels == 3
    for ours, theirs in zip(actual["backbone_fpn"], expected["backbone_fpn"], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        actual["vision_features"], expected["vision_features"], atol=1e-4, rtol=1e-4
    )
    for ours, theirs in zip(actual["vision_pos_enc"], expected["vision_pos_enc"], strict=True):
        assert ours.shape[-2:] == theirs.shape[-2:]


@pytest.mark.parametrize("size", [0, -32, 100, 144])
def test_size_that_the_stride_forbids(size: int) -> None:
    with pytest.raises(UsageError, match="multiple of 32"):
        build_demo_model(size)


def test_shipped_weights_are_small_and_half_precision() -> None:
    assert DEMO_WEIGHTS.stat().st_size < 8_000_000
    with safe_open(DEMO_WEIGHTS, "pt") as file:
        assert file.metadata()["trained_on"] == "generated scenes, style pretrain"
        assert {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118 == {torch.float16}


def test_weights_load_as_float32_and_are_finite(model: DemoSegmenter) -> None:
    for value in model.state_dict().values():
        assert value.dtype == torch.float32
        assert bool(torch.isfinite(value).all())


def test_files_that_are_not_weights(tmp_path: Path) -> None:
    model = build_demo_model()
    with pytest.raises(ArtifactError, match=r"missing\.safetensors"):
        load_demo_weights(model, tmp_path / "missing.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        load_demo_weights(model, broken)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    with pytest.raises(ArtifactError, match="another model"):
        load_demo_weights(model, other)


@pytest.mark.parametrize(("prompt", "bar"), [("points", 0.77), ("box", 0.80)])
@pytest.mark.parametrize("style", ["pretrain", "demo"])
def test_masks_are_good_on_held_out_scenes(
    model: DemoSegmenter, style: str, prompt: str, bar: float
) -> None:
    iou = _mean_iou(model, style, prompt)
    assert iou > bar


def test_random_weights_miss_the_bar() -> None:
    """The bar above says something: an untrained model is far below it."""
    torch.manual_seed(0)
    assert _mean_iou(build_demo_model(), "pretrain", "points", scenes=5) < 0.4


def test_candidate_scores_tell_good_masks_from_bad(model: DemoSegmenter) -> None:
    """Predicted and actual IoU of the three candidates go together."""
    predicted, actual = [], []
    for index in range(15):
        scene = make_scene(rng(HELD_OUT_SEED, "scores", index), 128, "pretrain")
        points, labels = _three_points(scene, index)
        with torch.inference_mode():
            logits, ious = _decode(model, scene.image, points[:, :1], labels[:, :1], True)
        masks, truth = (logits > 0).numpy(), np.stack(scene.masks)[:, None]
        overlap = (masks & truth).sum(axis=(2, 3))
        actual.append((overlap / np.maximum((masks | truth).sum(axis=(2, 3)), 1)).ravel())
        predicted.append(ious.numpy().ravel())
    correlation = np.corrcoef(np.concatenate(predicted), np.concatenate(actual))[0, 1]
    assert correlation > 0.4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    """They make every mask empty; a flipped bit in an exponent is enough."""
    path = tmp_path / "weights.safetensors"
    with safe_open(DEMO_WEIGHTS, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    next(iter(tensors.values())).view(-1)[3] = value
    save_file(tensors, path)
    with pytest.raises(ArtifactError, match="NaN or infinite"):
        load_demo_weights(build_demo_model(64), path)
    model = torch.nn.Linear(2, 2)
    state = {**model.state_dict(), "bias": torch.tensor([1, value])}
    torch.save({"model": state}, tmp_path / "sam2.pt")
    with pytest.raises(UsageError, match="of 'bias' are NaN or infinite"):
        _load(model, "sam2.1_hiera_tiny", tmp_path / "sam2.pt")
