from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.models.checkpoints import (
    Checkpoint,
    build_model,
    read_checkpoint,
    write_checkpoint,
)
from s4m_pipeline.models.predictor import Predictor, mask_logits, scale_image
from s4m_pipeline.models.training import TrainingSpec, train


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (50, 100), (33, 20), (64, 64)]
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture
def checkpoint(spec: TrainingSpec) -> Path:
    return train(replace(spec, iterations=1)).checkpoint


def test_predictions_fit_the_image_and_ignore_their_neighbours(
    checkpoint: Path, images: list[np.ndarray]
) -> None:
    predictor = Predictor(checkpoint, "cpu")
    assert predictor.categories[0]["id"] == 1
    together = predictor.predict(images)
    alone = [predictor.predict([image])[0] for image in reversed(images)][::-1]
    for image, one, other in zip(images, together, alone, strict=True):
        assert np.array_equal(one.mask_logits, other.mask_logits)
        assert np.array_equal(one.class_probs, other.class_probs)
        assert one.class_probs.shape == (6, len(predictor.categories))
        assert (one.class_probs.sum(1) < 1).all()
        scale = 64 / max(image.shape[:2])
        assert one.stride == pytest.approx(4 / scale, rel=0.02)
        covered = np.array(one.mask_logits.shape[1:]) * one.stride
        assert (covered >= np.array(image.shape[:2]) * 0.98).all()
        assert (covered < np.array(image.shape[:2]) + 1.05 * one.stride).all()


def test_queries_below_a_score_are_left_out_and_the_others_keep_order_and_bits(
    checkpoint: Path, images: list[np.ndarray]
) -> None:
    predictor = Predictor(checkpoint, "cpu")
    (whole,) = predictor.predict(images[:1])
    best = whole.class_probs.max(axis=1)
    limit = float(np.median(best))
    (some,) = predictor.predict(images[:1], limit)
    kept = best >= limit
    assert 0 < kept.sum() < len(best)
    assert np.array_equal(some.class_probs, whole.class_probs[kept])
    assert np.array_equal(some.mask_logits, whole.mask_logits[kept])
    (none,) = predictor.predict(images[:1], 1.1)
    assert none.mask_logits.shape == (0, *whole.mask_logits.shape[1:])


def test_detections_lie_in_the_image_and_are_the_models_own(
    checkpoint: Path, images: list[np.ndarray]
) -> None:
    for image, found in zip(images, Predictor(checkpoint, "cpu").detect(images), strict=True):
        assert len(found.rles) == len(found.labels) == len(found.scores) == len(found.boxes)
        for box, rle in zip(found.boxes, found.rles, strict=True):
            mask = coco_mask.decode({"size": list(image.shape[:2]), "counts": rle})
            assert mask.shape == image.shape[:2]
            if mask.any():
                rows, columns = np.nonzero(mask)
                assert box.tolist() == [
                    columns.min(),
                    rows.min(),
                    columns.max() + 1,
                    rows.max() + 1,
                ]


def test_averaged_and_last_weights_are_both_at_hand(
    checkpoint: Path, images: list[np.ndarray]
) -> None:
    stored = read_checkpoint(checkpoint)
    assert stored.source_weights is not None
    stored.source_weights = {k: v * 1.5 for k, v in stored.source_weights.items()}
    write_checkpoint(checkpoint, stored)
    averaged = Predictor(checkpoint, "cpu").predict(images[:1])[0]
    last = Predictor(checkpoint, "cpu", averaged=False).predict(images[:1])[0]
    assert not np.allclose(averaged.mask_logits, last.mask_logits)


def test_scaling_keeps_aspect_and_swaps_channels() -> None:
    image = np.zeros((30, 60, 3), np.uint8)
    image[..., 0] = 200  # red
    scaled = scale_image(image, (120, 120))
    assert scaled.tensor.shape == (3, 60, 120)
    assert scaled.padded == (64, 128)
    assert scaled.tensor[2].eq(200).all()
    assert scaled.tensor[:2].eq(0).all()


def test_full_masks_become_cells() -> None:
    mask = torch.zeros(1, 24, 40, dtype=torch.bool)
    mask[0, :8, 16:] = True
    logits = mask_logits(mask, (12, 20))  # scaled by a half: cells of 8 original pixels
    assert logits.shape == (1, 3, 5)
    assert (logits[0] > 0).tolist() == [[False, False, True, True, True], [False] * 5, [False] * 5]
    assert mask_logits(mask[:0], (12, 20)).shape == (0, 3, 5)


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint here"):
        Predictor(tmp_path / "none.pth", "cpu")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(UsageError, match=r"text\.pth"):
        Predictor(tmp_path / "text.pth", "cpu")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match="not a checkpoint written by s4m"):
        Predictor(tmp_path / "other.pth", "cpu")


def test_damaged_and_foreign_checkpoints(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["meta"]["format_version"] = 99
    torch.save(content, checkpoint)
    with pytest.raises(ArtifactError, match="format 99"):
        Predictor(checkpoint, "cpu")
    content["meta"]["format_version"] = 1
    content["state_dict"].popitem()
    torch.save(content, checkpoint)
    with pytest.raises(ArtifactError, match="do not fit"):
        Predictor(checkpoint, "cpu")


@pytest.mark.parametrize("kind", ["subprocess.Popen", "builtins.eval", "NoSuchModule"])
def test_a_config_that_names_more_than_registered_modules_is_refused(
    kind: str, tmp_path: Path
) -> None:
    model = {"type": "Mask2Former", "backbone": {"type": kind, "args": "true"}}
    stored = Checkpoint({}, None, model, [], (64, 64), 1)
    with pytest.raises(ArtifactError, match="not to be trusted"):
        build_model(stored, tmp_path / "a.pth")
