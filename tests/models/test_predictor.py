from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from s4m_pipeline.models.predictor import Predictor, mask_logits
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
    alone = [predictor.predict([predictor.scaled(image)])[0] for image in reversed(images)][::-1]
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
    for image, detections in zip(images, Predictor(checkpoint, "cpu").detect(images), strict=True):
        columns = (detections.rles, detections.labels, detections.scores, detections.boxes)
        assert len(set(map(len, columns))) == 1
        for box, rle in zip(detections.boxes, detections.rles, strict=True):
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


def _sharing(predictor: Predictor, most: int) -> list[int]:
    """Let images share batches as on a GPU, of which no more than ``most`` fit; sizes tried."""
    tried: list[int] = []
    whole: Callable[[list[Any]], Any] = predictor._inputs

    def inputs(scaled: list[Any]) -> Any:
        tried.append(len(scaled))
        if len(scaled) > most:
            raise torch.OutOfMemoryError("no room")
        return whole(scaled)

    predictor._groups = lambda scaled: iter([[3, 1, 4, 0], [2]])  # type: ignore[method-assign]
    predictor._inputs = inputs  # type: ignore[method-assign]
    return tried


@pytest.mark.parametrize(
    ("most", "first", "later"),
    [(4, [4, 1], [4, 1]), (2, [4, 2, 2, 1], [2, 2, 1]), (1, [4, 2, 1, 1, 1, 1, 1], [1] * 5)],
)
def test_batches_are_halved_until_they_fit_and_stay_so(
    checkpoint: Path, images: list[np.ndarray], most: int, first: list[int], later: list[int]
) -> None:
    rng = np.random.default_rng(1)
    given = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(5)]
    expected = Predictor(checkpoint, "cpu").predict(given)
    predictor = Predictor(checkpoint, "cpu")
    tried = _sharing(predictor, most)
    for sizes in (first, later):
        tried.clear()
        predictions = predictor.predict(given)
        assert tried == sizes
        for one, other in zip(predictions, expected, strict=True):
            np.testing.assert_allclose(one.class_probs, other.class_probs, atol=1e-5)
            np.testing.assert_allclose(one.mask_logits, other.mask_logits, atol=1e-3)
    told = [] if most == 4 else [f"memory ran out: {most} images a batch"]
    assert predictor.warnings == told
    detected = Predictor(checkpoint, "cpu").detect(given)
    assert [detections.labels.tolist() for detections in predictor.detect(given)] == [
        detections.labels.tolist() for detections in detected
    ]


def test_one_image_that_does_not_fit_is_an_error(
    checkpoint: Path, images: list[np.ndarray]
) -> None:
    predictor = Predictor(checkpoint, "cpu")
    _sharing(predictor, 0)
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        predictor.predict([images[0]] * 5)


def test_another_threads_predictions_are_the_same_to_the_last_bit(
    checkpoint: Path, images: list[np.ndarray]
) -> None:
    predictor = Predictor(checkpoint, "cpu")
    expected = predictor.predict(images)
    modes: list[tuple[bool, bool]] = []
    whole: Callable[..., Any] = predictor._predict_queries

    def noting(*arguments: Any) -> Any:
        here = threading.current_thread() is threading.main_thread()
        modes.append((here, torch.is_inference_mode_enabled()))
        return whole(*arguments)

    predictor._predict_queries = noting  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        predictions = pool.submit(predictor.predict, images).result()
    assert modes == [(False, True)] * len(images)
    for one, other in zip(predictions, expected, strict=True):
        assert np.array_equal(one.mask_logits, other.mask_logits)
        assert np.array_equal(one.class_probs, other.class_probs)


def test_a_gpu_is_the_current_one_in_the_thread_that_calls(
    checkpoint: Path, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(checkpoint, "cpu")
    assert predictor.device == torch.device("cpu")
    predictor.device = torch.device("cuda:1")
    entered: list[torch.device] = []

    def device(name: torch.device) -> nullcontext[None]:
        entered.append(name)
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "device", device)
    assert predictor._in_batches(images[:1], lambda batch: [len(entered)]) == [1]
    assert entered == [torch.device("cuda:1")]


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


def test_masks_a_few_at_a_time_have_the_same_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = torch.rand(7, 40, 50, generator=torch.Generator().manual_seed(0)) > 0.4
    together = mask_logits(masks, (31, 37))
    monkeypatch.setattr("s4m_pipeline.models.predictor.MASK_BYTES", 2 * 4 * 40 * 50)
    assert torch.equal(mask_logits(masks, (31, 37)), together)
