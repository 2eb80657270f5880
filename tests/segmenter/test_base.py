"""Candidates that come in the parts of several passes."""

from __future__ import annotations

import pytest
import torch

from s4m_pipeline.segmenter.base import Candidates


@pytest.mark.parametrize("sizes", [[5], [2, 2, 1], [1, 4]])
def test_parts_are_picked_from_as_from_the_whole(sizes: list[int]) -> None:
    whole = torch.rand(5, 3, 4, 4)
    candidates = Candidates(whole.split(sizes), torch.rand(5, 3))
    picks = torch.tensor([2, 0, 1, 1, 2])
    expected = torch.stack([whole[n, picks[n]] for n in range(5)])[:, None]
    assert torch.equal(candidates.picked(picks), expected)
    assert torch.equal(candidates.logits, whole)


def test_a_single_output_is_taken_as_it_is() -> None:
    whole = torch.rand(3, 1, 4, 4)
    candidates = Candidates((whole[:2], whole[2:]), torch.rand(3, 1))
    assert torch.equal(candidates.picked(torch.zeros(3, dtype=torch.int64)), whole)


@pytest.mark.parametrize("count", [3, 1])
def test_nothing_is_picked_from_nothing(count: int) -> None:
    candidates = Candidates((torch.zeros(0, count, 4, 4),), torch.zeros(0, count))
    assert candidates.picked(torch.zeros(0, dtype=torch.int64)).shape == (0, 1, 4, 4)
