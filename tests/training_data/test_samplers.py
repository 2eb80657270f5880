"""The samplers' sequence is a function of seed and position alone."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest

from s4m_pipeline.models.openmmlab import prepare

prepare()

from s4m_pipeline.training_data.samplers import MixedSampler, PositionSampler  # noqa: E402


class _Mixed:
    labelled_count = 5

    def __len__(self) -> int:
        return 17


def _take(sampler: Any, count: int) -> list[tuple[int, int]]:
    return list(islice(sampler, count))


def _position(seed: int = 0, start: int = 0) -> PositionSampler:
    return PositionSampler(range(7), seed=seed, start=start)


def _mixed(seed: int = 0, start: int = 0) -> MixedSampler:
    return MixedSampler(_Mixed(), batch_size=4, unlabelled=3, seed=seed, start=start)


@pytest.mark.parametrize("make", [_position, _mixed])
def test_a_restart_goes_on_with_the_same_sequence(make: Any) -> None:
    whole = _take(make(), 80)
    assert [draw for _, draw in whole] == list(range(80))
    for start in (0, 1, 8, 27, 40):
        assert _take(make(start=start), 80 - start) == whole[start:]
    resumed = make()
    resumed.start = 16
    assert _take(resumed, 10) == whole[16:26]
    assert _take(make(), 80) == whole
    assert [i for i, _ in _take(make(seed=1), 80)] != [i for i, _ in whole]


def test_each_pass_holds_each_image_once_in_a_new_order() -> None:
    indices = [index for index, _ in _take(_position(), 21)]
    passes = [tuple(indices[k : k + 7]) for k in (0, 7, 14)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert len(set(passes)) == 3
    plain = PositionSampler(range(3), shuffle=False)
    assert [index for index, _ in _take(plain, 7)] == [0, 1, 2, 0, 1, 2, 0]


def test_mixed_batches_have_the_fixed_ratio() -> None:
    indices = [index for index, _ in _take(_mixed(), 4 * 60)]
    batches = [indices[k : k + 4] for k in range(0, len(indices), 4)]
    assert all([index < 5 for index in batch] == [True, False, False, False] for batch in batches)
    counts = Counter(indices)
    assert {counts[index] for index in range(5)} == {12}  # 60 labelled places, 5 images
    assert {counts[index] for index in range(5, 17)} == {15}  # 180 unlabelled places, 12 images


@pytest.mark.parametrize("make", [_position, _mixed])
def test_two_processes_share_the_sequence(make: Any) -> None:
    whole = _take(make(), 48)
    size = make().batch_size
    parts = []
    for rank in (0, 1):
        sampler = make()
        sampler.rank, sampler.world_size = rank, 2
        parts.append(_take(sampler, 24))
    dealt = [parts[(k // size) % 2][k // (2 * size) * size + k % size] for k in range(48)]
    assert dealt == whole


def test_what_cannot_be_sampled() -> None:
    with pytest.raises(ValueError, match="not empty"):
        PositionSampler([])
    for unlabelled in (0, 4):
        with pytest.raises(ValueError, match="batch of 4"):
            MixedSampler(_Mixed(), batch_size=4, unlabelled=unlabelled)
    with pytest.raises(TypeError):
        MixedSampler(SimpleNamespace(labelled_count=0), batch_size=4, unlabelled=2)
