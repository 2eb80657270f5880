"""Who of a batch trades."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from s4m_pipeline.training_data.batches import trading_pairs


@pytest.mark.parametrize(("count", "pairs"), [(4, 1), (8, 2), (16, 4)])
def test_a_quarter_trades_with_another_quarter(count: int, pairs: int) -> None:
    for draw in range(50):
        trading = trading_pairs(count, 0, draw)
        assert len(trading) == pairs
        places = list(chain(*trading))
        assert len(set(places)) == 2 * pairs
        assert set(places) <= set(range(count))


@pytest.mark.parametrize("count", [2, 3, 5, 6, 7, 11])
def test_the_mean_share_is_a_quarter_where_it_is_no_whole_number(count: int) -> None:
    drawn = [trading_pairs(count, 3, draw) for draw in range(3000)]
    assert np.mean([len(pairs) for pairs in drawn]) == pytest.approx(count / 4, abs=0.04)
    traders = np.bincount(list(chain(*chain(*drawn))), minlength=count) / len(drawn)
    assert traders == pytest.approx(np.full(count, 0.5), abs=0.05), "all places are alike"


def test_pairs_follow_from_seed_and_draw() -> None:
    assert trading_pairs(8, 1, 24) == trading_pairs(8, 1, 24)
    others = {tuple(trading_pairs(8, seed, draw)) for seed in (0, 1) for draw in range(8)}
    assert len(others) > 12
    assert trading_pairs(1, 0, 0) == []
    assert trading_pairs(0, 0, 0) == []
