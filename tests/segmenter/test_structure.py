"""Structural targets against the plain cosine formula, and the draw of query points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from s4m_pipeline.segmenter import structure
from s4m_pipeline.segmenter.base import Embeddings, Frame
from s4m_pipeline.segmenter.structure import begin_target, draw_query_points, structure_target
from tests.segmenter.fakes import ToldSegmenter, padded_frame, square_frame

POINTS = np.array([[0, 0], [50, 20], [99, 59], [30, 40], [13, 7]], np.float32)


def _embeddings(frame: Frame) -> Embeddings:
    return Embeddings(torch.zeros(1, 8, 8, 8), (), (frame,))


def _naive(frame: Frame, grid: int) -> np.ndarray:
    """(P, grid, grid): cosine per cell by loops, then a plain resize of the valid part."""
    features = ToldSegmenter([], []).structure_features(_embeddings(frame), 0, POINTS).numpy()
    out = []
    for feature, (x, y) in zip(features, POINTS, strict=True):
        row = int((y + 0.5) / frame.height * frame.valid_height / 16)
        column = int((x + 0.5) / frame.width * frame.valid_width / 16)
        query = feature[:, row, column]
        cosine = np.zeros((8, 8))
        for i in range(8):
            for j in range(8):
                other = feature[:, i, j]
                norm = np.linalg.norm(query) * np.linalg.norm(other)
                cosine[i, j] = query @ other / norm
        h, w = frame.valid_height // 16, frame.valid_width // 16
        valid = torch.from_numpy(cosine[:h, :w])[None, None]
        out.append(F.interpolate(valid, (grid, grid), mode="bilinear", align_corners=False)[0, 0])
    return torch.stack(out).numpy()


@pytest.mark.parametrize("frame", [square_frame(60, 100), padded_frame(64, 128)])
@pytest.mark.parametrize("grid", [8, 5, 16])
@pytest.mark.parametrize("chunk", [1, 2, 32])
def test_target_equals_the_naive_formula(frame: Frame, grid: int, chunk: int) -> None:
    target = structure_target(ToldSegmenter([], []), _embeddings(frame), 0, POINTS, grid, chunk)
    assert target.similarity.shape == (5, grid * grid)
    assert target.similarity.dtype == np.uint8
    assert target.scale.dtype == target.offset.dtype == np.float32
    found = target.offset[:, None] + target.scale[:, None] * target.similarity
    expected = _naive(frame, grid).reshape(5, -1)
    assert (np.abs(found - expected) <= target.scale[:, None] / 2 + 1e-5).all()
    assert (target.similarity.min(1) == 0).all()
    assert (target.similarity.max(1) == 255).all()
    assert np.array_equal(target.points, POINTS)


def test_padding_is_cut_away_where_it_ends_inside_a_cell() -> None:
    frame = Frame(50, 100, 64 + 5, 128)
    target = structure_target(ToldSegmenter([], []), _embeddings(frame), 0, POINTS[:1], 8)
    assert target.similarity.shape == (1, 64)


def test_passes_are_halved_until_they_fit_and_maps_stay(monkeypatch) -> None:
    embeddings = _embeddings(square_frame(60, 100))
    expected = structure_target(ToldSegmenter([], []), embeddings, 0, POINTS, 8, 5)
    whole = ToldSegmenter.structure_features

    def small(self, embeddings, index, points):
        if len(points) > 1:
            raise torch.OutOfMemoryError("no room")
        return whole(self, embeddings, index, points)

    monkeypatch.setattr(ToldSegmenter, "structure_features", small)
    segmenter = ToldSegmenter([], [])
    for _ in range(2):
        found = structure_target(segmenter, embeddings, 0, POINTS, 8)
        assert np.array_equal(found.similarity, expected.similarity)
    told = [f"memory ran out: {count} points a pass" for count in (2, 1)]
    assert segmenter.warnings == told


def test_no_points() -> None:
    none = np.zeros((0, 2), np.float32)
    target = structure_target(ToldSegmenter([], []), _embeddings(square_frame(10, 10)), 0, none, 8)
    assert target.similarity.shape == (0, 64)
    assert target.scale.shape == (0,)


class NoWaiting(TorchFunctionMode):
    """Refuses every call that would wait for a GPU if the tensors were on one."""

    refused = frozenset(("cpu", "cuda", "item", "tolist", "numpy", "nonzero", "unique")) | {
        f"__{name}__" for name in ("bool", "int", "float", "index", "array")
    }

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func.__name__
        assert name not in self.refused, f"Tensor.{name} waits for the GPU"
        if name == "to":
            assert isinstance(args[1], torch.dtype), "Tensor.to waits for the GPU"
        if name == "__getitem__":
            places = args[1] if isinstance(args[1], tuple) else (args[1],)
            masks = [p for p in places if isinstance(p, Tensor) and p.dtype == torch.bool]
            assert not masks, "a boolean mask waits for the GPU"
        return func(*args, **(kwargs or {}))


class LateCopy:
    """A copy to the host that has not arrived before `arrived` is set."""

    arrived = False

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def array(self) -> np.ndarray:
        assert LateCopy.arrived
        return self.tensor.numpy()


def test_maps_are_begun_without_waiting_and_collected_to_the_same_bits(monkeypatch) -> None:
    segmenter, embeddings = ToldSegmenter([], []), _embeddings(padded_frame(64, 128))
    expected = structure_target(segmenter, embeddings, 0, POINTS, 8, chunk=2)
    sent: list[tuple[torch.Size, torch.device]] = []

    def to_device(tensor: Tensor, device: torch.device) -> Tensor:
        sent.append((tensor.shape, device))
        return tensor

    monkeypatch.setattr(structure, "to_device", to_device)
    monkeypatch.setattr(structure, "HostCopy", LateCopy)
    with NoWaiting():
        begun = begin_target(segmenter, embeddings, 0, POINTS, 8, chunk=2)
    shapes = [(8, 8), (8, 8), (2,), (2,), (1,)]  # weights of rows and columns, cells
    assert sent == [(torch.Size(shape), segmenter.device) for shape in shapes]
    monkeypatch.setattr(LateCopy, "arrived", True)
    found = begun.collect()
    for one, other in zip(
        (found.points, found.similarity, found.scale, found.offset),
        (expected.points, expected.similarity, expected.scale, expected.offset),
        strict=True,
    ):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


@pytest.mark.parametrize("waits", [lambda x: x.cpu(), lambda x: x[x > 0], lambda x: float(x[0])])
def test_what_waits_for_a_gpu_is_noticed(waits: Callable[[Tensor], Any]) -> None:
    with NoWaiting(), pytest.raises(AssertionError, match="waits for the GPU"):
        waits(torch.ones(2))


def test_half_of_the_points_from_the_union() -> None:
    union = np.zeros((40, 50), bool)
    union[10:20, 5:25] = True
    points = draw_query_points(union, 100, np.random.default_rng(0)).astype(int)
    assert points.shape == (100, 2)
    first = points[:50]
    assert union[first[:, 1], first[:, 0]].all()
    assert len({tuple(p) for p in first.tolist()}) == 50
    rest = points[50:]
    assert 0.02 < union[rest[:, 1], rest[:, 0]].mean() < 0.3  # the union is a tenth of the image
    assert points.min() >= 0
    assert (points.max(0) <= [49, 39]).all()


def test_a_small_union_is_taken_whole() -> None:
    union = np.zeros((40, 50), bool)
    union[3, 4] = union[30, 49] = True
    points = draw_query_points(union, 20, np.random.default_rng(0))
    assert points[:2].tolist() == [[4, 3], [49, 30]]
    assert points.shape == (20, 2)


def test_query_points_without_a_union() -> None:
    points = draw_query_points(None, 500, np.random.default_rng(0), size=(8, 16))
    assert points.shape == (500, 2)
    assert points.dtype == np.float32
    cells = np.bincount((points[:, 1] * 16 + points[:, 0]).astype(int), minlength=128)
    assert (cells > 0).mean() > 0.9
    with pytest.raises(ValueError, match="union or the image's size"):
        draw_query_points(None, 5, np.random.default_rng(0))


def test_query_points_are_deterministic() -> None:
    union = np.random.default_rng(3).random((30, 30)) > 0.5
    a, b = (draw_query_points(union, 64, np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(a, b)
