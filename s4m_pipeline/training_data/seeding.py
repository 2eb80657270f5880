"""One item's randomness, apart from everybody else's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from s4m_pipeline.artifacts.seeds import seed_of


@contextmanager
def seeded(seed: int, draw: int) -> Iterator[None]:
    """Seed ``random``, ``numpy.random`` and ``torch`` for one item, and put them back after."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    value = seed_of(seed, "augment", draw)
    random.seed(value)
    np.random.seed(value % 2**32)
    # the CPU generator alone: torch.manual_seed would seed CUDA's too, and not put it back
    torch.default_generator.manual_seed(value)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
