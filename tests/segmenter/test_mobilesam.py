"""MobileSAM's decoder in sam2's modules against `sam.onnx` under onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from s4m_pipeline.segmenter.base import Embeddings, Prompts
from s4m_pipeline.segmenter.build import build_segmenter
from s4m_pipeline.segmenter.mobilesam import MobileSam

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def folder(shared_dir: Path) -> Path:
    found = shared_dir / "weights" / "mobilesam"
    if not found.is_dir():
        pytest.skip(f"no MobileSAM weights here: {found} is missing")
    return found


@pytest.fixture(scope="module")
def segmenter(folder: Path) -> MobileSam:
    made = build_segmenter("mobilesam", folder, None, "cpu")
    assert isinstance(made, MobileSam)
    return made


@pytest.fixture(scope="module")
def photograph(shared_dir: Path) -> np.ndarray:
    paths = sorted((shared_dir / "data" / "animals7").rglob("*.jpg"))
    if not paths:
        pytest.skip("no photographs of animals7 here")
    return np.asarray(Image.open(paths[0]).convert("RGB"))


@pytest.fixture(scope="module")
def embeddings(segmenter: MobileSam, photograph: np.ndarray) -> Embeddings:
    return segmenter.encode([photograph])


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    return onnxruntime.InferenceSession(
        str(folder / "sam.onnx"), providers=["CPUExecutionProvider"]
    )


def _reference(
    session: Any,
    embeddings: Embeddings,
    coords: np.ndarray,
    labels: list[int],
    mask: np.ndarray | None,
) -> tuple[np.ndarray, float]:
    """Low-resolution logits and IoU of one prompt given in original pixels."""
    frame = embeddings.frames[0]
    scale = [frame.valid_width / frame.width, frame.valid_height / frame.height]
    real = np.array([kind >= 0 for kind in labels])[:, None]
    outputs = session.run(
        ["low_res_masks", "iou_predictions"],
        {
            "image_embeddings": embeddings.image.numpy(),
            "point_coords": np.where(real, coords * scale, 0)[None].astype(np.float32),
            "point_labels": np.array([labels], np.float32),
            "mask_input": np.zeros((1, 1, 256, 256), np.float32) if mask is None else mask,
            "has_mask_input": np.array([float(mask is not None)], np.float32),
            "orig_im_size": np.array([frame.height, frame.width], np.float32),
        },
    )
    return outputs[0][0, 0], float(outputs[1].reshape(-1)[0])


def test_three_points_give_the_single_mask(
    segmenter: MobileSam, embeddings: Embeddings, reference: Any
) -> None:
    frame = embeddings.frames[0]
    rng = np.random.default_rng(0)
    points = (rng.random((4, 3, 2)) * [frame.width, frame.height]).astype(np.float32)
    prompts = Prompts(points, np.ones((4, 3), np.int32))
    (found,) = segmenter.decode(embeddings, [prompts], multimask=False)
    assert found.logits.shape == (4, 1, 256, 256)
    for i in range(4):
        coords = np.concatenate([points[i], [[0, 0]]])
        logits, iou = _reference(reference, embeddings, coords, [1, 1, 1, -1], None)
        assert np.abs(found.logits[i, 0].numpy() - logits).max() < 1e-3
        assert found.ious[i, 0].item() == pytest.approx(iou, abs=1e-4)


def test_one_point_and_one_box_give_the_best_of_three(
    segmenter: MobileSam, embeddings: Embeddings, reference: Any
) -> None:
    frame = embeddings.frames[0]
    middle = np.array([[frame.width / 2, frame.height / 2]], np.float32)
    box = np.array([[0.2, 0.3, 0.7, 0.8]], np.float32) * np.tile([frame.width, frame.height], 2)
    none = np.zeros((1, 0, 2), np.float32)
    cases = [
        (Prompts(middle[None], np.ones((1, 1), np.int32)), np.array([*middle, [0, 0]]), [1, -1]),
        (
            Prompts(none, np.zeros((1, 0), np.int32), box.astype(np.float32)),
            box.reshape(2, 2),
            [2, 3],
        ),
    ]
    for prompts, coords, labels in cases:
        (found,) = segmenter.decode(embeddings, [prompts], multimask=True)
        assert found.logits.shape == (1, 3, 256, 256)
        logits, iou = _reference(reference, embeddings, coords, labels, None)
        best = int(found.ious[0].argmax())
        assert np.abs(found.logits[0, best].numpy() - logits).max() < 1e-3
        assert found.ious[0, best].item() == pytest.approx(iou, abs=1e-4)


def test_mask_prompt_with_box_and_point(
    segmenter: MobileSam, embeddings: Embeddings, reference: Any
) -> None:
    frame = embeddings.frames[0]
    box = np.array([[10, 20, frame.width - 50, frame.height - 30]], np.float32)
    point = np.array([[[frame.width / 2, frame.height / 2]]], np.float32)
    (first,) = segmenter.decode(embeddings, [Prompts(point, np.ones((1, 1), np.int32))], False)
    prompts = Prompts(point, np.ones((1, 1), np.int32), box, first.logits)
    (found,) = segmenter.decode(embeddings, [prompts], multimask=False)
    coords = np.concatenate([box.reshape(2, 2), point[0]])
    logits, _ = _reference(reference, embeddings, coords, [2, 3, 1], first.logits.numpy())
    assert np.abs(found.logits[0, 0].numpy() - logits).max() < 1e-3


def test_encoder_input_is_resized_normalised_and_padded(
    segmenter: MobileSam, photograph: np.ndarray, embeddings: Embeddings
) -> None:
    height, width = photograph.shape[:2]
    frame = embeddings.frames[0]
    assert max(frame.valid_height, frame.valid_width) == 1024
    assert abs(frame.valid_height / frame.valid_width - height / width) < 2e-3
    assert embeddings.image.shape == (1, 256, 64, 64)
    assert segmenter.image_size == 1024


def test_halved_passes_are_told(
    segmenter: MobileSam, embeddings: Embeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = type(segmenter.decoder)._pass

    def small(self: Any, image: Any, added: Any, rows: Any, *rest: Any) -> Any:
        if len(rows.images) > 1:
            raise torch.OutOfMemoryError("no room")
        return whole(self, image, added, rows, *rest)

    monkeypatch.setattr(type(segmenter.decoder), "_pass", small)
    monkeypatch.setattr(segmenter.decoder, "max_prompts", 2)
    monkeypatch.setattr(segmenter, "warnings", ())
    prompts = Prompts(np.full((3, 1, 2), 50, np.float32), np.ones((3, 1), np.int32))
    (found,) = segmenter.decode(embeddings, [prompts], multimask=False)
    assert len(found.logits) == 3
    assert segmenter.warnings == ["memory ran out: 1 prompts a pass"]


def test_batch_of_images_is_each_image(segmenter: MobileSam, photograph: np.ndarray) -> None:
    small = photograph[:200, :100]
    both = segmenter.encode([small, photograph])
    alone = segmenter.encode([small])
    assert both.image.shape == (2, 256, 64, 64)
    np.testing.assert_array_equal(both.image[:1].numpy(), alone.image.numpy())
    assert (both.frames[0].valid_height, both.frames[0].valid_width) == (1024, 512)
