"""Faster ways of running SAM 2: held against float32 before they count, and smaller batches."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from s4m_pipeline.errors import UsageError
from s4m_pipeline.segmenter import sam2
from s4m_pipeline.segmenter.base import Prompts
from s4m_pipeline.segmenter.build import build_segmenter, check_segmenter
from s4m_pipeline.segmenter.proof import lattice_masks, lattice_prompts, mean_iou
from s4m_pipeline.segmenter.spec import SegmenterChoice
from s4m_pipeline.segmenter.speed import FLOAT32, Speed, speed_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)
    return [np.kron(image, np.ones((20, 20, 1), np.uint8)) for image in coarse]


def _demo(precision: str = "float32", compile_encoder: bool = False) -> sam2.Sam2Segmenter:
    made = build_segmenter("demo", None, None, "cpu", precision, compile_encoder)
    assert isinstance(made, sam2.Sam2Segmenter)
    return made


def test_auto_is_float32_without_a_gpu() -> None:
    assert speed_of("auto", False, CPU) == FLOAT32
    assert speed_of("bfloat16", True, CPU) == Speed(bfloat16=True, compile=True)


def test_mobilesam_refuses_what_it_does_not_have(tmp_path) -> None:
    with pytest.raises(UsageError, match="no precision bfloat16 and no compile"):
        check_segmenter(SegmenterChoice("mobilesam", tmp_path, None, "bfloat16", True))


def test_the_lattice_covers_the_image() -> None:
    points = lattice_prompts(40, 80).points[:, 0]
    assert sorted({float(x) for x in points[:, 0]}) == [10, 30, 50, 70]
    assert sorted({float(y) for y in points[:, 1]}) == [5, 15, 25, 35]
    assert len({tuple(p) for p in points.tolist()}) == 16


def test_mean_iou_equals_the_sets_own_and_empty_pairs_count_as_one() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 5, 6, 7)) > 0.6
    first[2] = second[2] = False
    expected = []
    for a, b in zip(first, second, strict=True):
        a, b = set(np.flatnonzero(a)), set(np.flatnonzero(b))
        expected.append(len(a & b) / len(a | b) if a | b else 1.0)
    found = mean_iou(torch.from_numpy(first), torch.from_numpy(second))
    assert found == pytest.approx(np.mean(expected))


def test_bfloat16_is_taken_where_its_masks_are_those_of_float32(images, monkeypatch) -> None:
    monkeypatch.setattr(sam2, "LEAST_IOU", 0.9)
    truth = lattice_masks(_demo(), images)
    faster = _demo("bfloat16")
    masks = lattice_masks(faster, images)
    assert faster.speed == Speed(bfloat16=True)
    assert not faster.warnings
    assert 0.98 < mean_iou(masks, truth) <= 1
    embeddings = faster.encode(images[:1])
    exact = _demo().encode(images[:1])
    for level, same in zip(
        (embeddings.image, *embeddings.high_res), (exact.image, *exact.high_res), strict=True
    ):
        assert level.dtype == torch.float32  # which the decoder computes in
        assert not torch.equal(level, same)
        assert (level - same).norm() < 0.02 * same.norm()


class _Wrapped(nn.Module):
    """A trunk in another module, as `torch.compile` returns it.

    Args:
        encoder: Has the attributes and the weights.
        change: Applied to its input.
    """

    def __init__(self, encoder: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.encoder = encoder
        self.change = change

    def __getattr__(self, name: str) -> object:
        modules = self.__dict__["_modules"]
        return modules[name] if name in modules else getattr(modules["encoder"], name)

    def forward(self, images: torch.Tensor) -> object:
        return self.encoder(self.change(images))


def test_a_compiled_encoder_that_is_wrong_is_given_up_for_float32(images, monkeypatch) -> None:
    def flipped(batch: torch.Tensor) -> torch.Tensor:
        return batch.flip(-1)

    monkeypatch.setattr(Speed, "compiled", lambda self, encoder: _Wrapped(encoder, flipped))
    faster = _demo(compile_encoder=True)
    masks = lattice_masks(faster, images)
    assert faster.speed == FLOAT32
    (warning,) = faster.warnings
    assert "compile is given up for float32: mean IoU 0." in warning
    assert torch.equal(masks, lattice_masks(_demo(), images))


def test_an_encoder_that_cannot_be_compiled_is_given_up_for_float32(images, monkeypatch) -> None:
    def refuse(self: Speed, encoder: nn.Module) -> nn.Module:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(Speed, "compiled", refuse)
    faster = _demo(compile_encoder=True)
    assert torch.equal(lattice_masks(faster, images), lattice_masks(_demo(), images))
    assert faster.warnings == ["compile is given up for float32: RuntimeError: no compiler"]


def test_a_compiled_encoder_meets_one_batch_size_alone(images, monkeypatch) -> None:
    sizes = []

    def counted(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return batch

    monkeypatch.setattr(Speed, "compiled", lambda self, encoder: _Wrapped(encoder, counted))
    faster = _demo(compile_encoder=True)
    faster._most_images = 3
    found = faster.encode(images)
    alone = faster.encode(images[1:2])
    assert set(sizes) == {3}
    assert torch.allclose(found.image[1:2], alone.image, atol=1e-5)


def test_prompts_are_halved_until_they_fit_and_answers_stay(images, monkeypatch) -> None:
    segmenter = _demo()
    prompts = [lattice_prompts(*image.shape[:2]) for image in images]
    embeddings = segmenter.encode(images)
    expected = segmenter.decode(embeddings, prompts, multimask=True)
    whole = type(segmenter.decoder)._pass

    def small(self, image, added, rows, *rest):
        if len(rows.images) > 5:
            raise torch.OutOfMemoryError("no room")
        return whole(self, image, added, rows, *rest)

    monkeypatch.setattr(type(segmenter.decoder), "_pass", small)
    found = segmenter.decode(embeddings, prompts, multimask=True)
    assert segmenter.decoder.max_prompts == 4
    assert segmenter.warnings == ["memory ran out: 4 prompts a pass"]
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a.logits, b.logits, atol=1e-4)
    assert len(segmenter.warnings) == 1


def test_images_are_halved_until_they_fit_and_one_that_does_not_is_an_error(
    images, monkeypatch
) -> None:
    segmenter = _demo()
    segmenter._most_images = 3
    expected = _demo().encode(images)
    whole = sam2.Sam2Segmenter._features

    def small(self, some):
        if len(some) > limit:
            raise torch.OutOfMemoryError("no room")
        return whole(self, some)

    monkeypatch.setattr(sam2.Sam2Segmenter, "_features", small)
    limit = 1
    assert torch.allclose(segmenter.encode(images).image, expected.image, atol=1e-5)
    assert segmenter.warnings == ["memory ran out: 1 images a batch"]
    limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        segmenter.encode(images)


def test_a_compiled_encoder_that_runs_out_of_memory_gets_smaller_batches(
    images, monkeypatch
) -> None:
    def small(batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > 1:
            raise torch.OutOfMemoryError("no room")
        return batch

    expected = _demo().encode(images)
    monkeypatch.setattr(Speed, "compiled", lambda self, trunk: _Wrapped(trunk, small))
    faster = _demo(compile_encoder=True)
    faster._most_images = 2
    assert torch.allclose(faster.encode(images).image, expected.image, atol=1e-5)
    assert faster.speed == Speed(compile=True)
    assert faster.warnings == ["memory ran out: 1 images a batch"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_really_compiled_encoder_passes_the_proof_whatever_the_batch(images) -> None:
    faster, plain = _demo(compile_encoder=True), _demo()
    faster._most_images = 3
    for some in (images, images[:1], images[1:]):
        found, expected = faster.encode(some), plain.encode(some)
        assert found.image.shape == expected.image.shape
        assert torch.allclose(found.image, expected.image, atol=1e-4)
    assert faster.speed == Speed(compile=True)
    assert not faster.warnings


def test_what_float32_cannot_hold_does_not_bind_the_faster_way(images, monkeypatch) -> None:
    segmenter = _demo("bfloat16")
    segmenter._most_images = 3
    whole = sam2.Sam2Segmenter._features

    def small(self, some):
        if self.speed == FLOAT32 and len(some) > 1:
            raise torch.OutOfMemoryError("no room")
        return whole(self, some)

    monkeypatch.setattr(sam2, "LEAST_IOU", 0.9)
    monkeypatch.setattr(sam2.Sam2Segmenter, "_features", small)
    segmenter.encode(images)
    assert segmenter._most_images == 3
    assert not segmenter.warnings


def test_a_prompt_alone_that_does_not_fit_is_an_error(images, monkeypatch) -> None:
    segmenter = _demo()

    def never(self, *rest):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(type(segmenter.decoder), "_pass", never)
    one = Prompts(np.ones((1, 1, 2), np.float32), np.ones((1, 1), np.int32))
    with pytest.raises(torch.OutOfMemoryError):
        segmenter.decode(segmenter.encode(images[:1]), [one], multimask=False)
