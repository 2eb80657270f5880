"""Who of a batch's unlabelled images trade instances. No torch."""

from __future__ import annotations

from s4m_pipeline.artifacts.seeds import rng

TRADING = 0.25
"""Pairs that trade instances, as a share of a batch's unlabelled images."""


def trading_pairs(count: int, seed: int, draw: int) -> list[tuple[int, int]]:
    """Draw which of a batch's unlabelled images trade instances.

    A quarter of the images trades with another quarter. Where a quarter is no whole number, it is
    rounded up or down at random, so that its mean over the batches is a quarter; of two images
    both trade in every second batch.

    Args:
        count: Unlabelled images in the batch.
        seed: The run's seed.
        draw: Number of the batch's first unlabelled draw, which tells batches apart.

    Returns:
        Pairs of places among the unlabelled images; no place is in two pairs.
    """
    generator = rng(seed, "paste", draw)
    pairs = min(int(count * TRADING + generator.random()), count // 2)
    order = generator.permutation(count)[: 2 * pairs].tolist()
    return list(zip(order[:pairs], order[pairs:], strict=True))
