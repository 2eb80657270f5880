"""An iteration loop that resumes where it stopped, without replaying the data.

Each batch is a function of the seed and its position (:mod:`s4m_pipeline.training_data.samplers`),
and torch's generator is seeded for each step. So a resumed training needs only the iteration's
number to do exactly what an uninterrupted one does, with any number of workers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmdet.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader

from s4m_pipeline.artifacts.seeds import seed_of
from s4m_pipeline.models.divergence import DivergedError, NotFiniteError


class LazyDataLoader(DataLoader):
    """A DataLoader that starts its workers when the first batch is asked for.

    MMEngine's loop makes its iterator before the runner knows where to resume.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield batches, from where the sampler stands by then."""
        yield from super().__iter__()


class _Batches:
    """An iterator over batches that gives None for the first ``count`` and times the waits.

    Attributes:
        waited: Seconds in which the training had nothing to do, since this was last set to 0.
    """

    def __init__(self, batches: Iterator[Any], count: int) -> None:
        self._batches = batches
        self._count = count
        self.waited = 0.0

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> Any:
        if self._count > 0:
            self._count -= 1
            return None
        start = time.monotonic()
        batch = next(self._batches)
        self.waited += time.monotonic() - start
        return batch


@LOOPS.register_module()
class PositionedTrainLoop(IterBasedTrainLoop):
    """MMEngine's iteration loop over a sampler that knows its position.

    Args:
        runner: The runner.
        dataloader: A :class:`LazyDataLoader` whose sampler has an attribute ``start``: how many
            items were taken already.
        seed: Seeds the random numbers of each step.
        until: The iteration to stop at, before the training's end; None to go to the end.
        **kwargs: As of ``IterBasedTrainLoop``.
    """

    def __init__(
        self, runner: Any, dataloader: Any, seed: int = 0, until: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(runner, dataloader, **kwargs)
        self.seed, self.until = seed, until
        self.dataloader_iterator: Any = self.dataloader_iterator

    @property
    def end(self) -> int:
        """The iteration that it stops at."""
        return self._max_iters if self.until is None else self.until

    def run(self) -> Any:
        """Train from the iteration that the runner was resumed at.

        The last checkpoint is written before the last validation. A training that was stopped in
        between has nothing left to train, and only validates, where a validation was due.
        """
        trained = self.stop_training = self._iter >= self.end
        self.dataloader.sampler.start = self._iter * self.dataloader.batch_size
        # IterBasedTrainLoop takes as many batches as were trained on before and drops them.
        self.dataloader_iterator = _Batches(self.dataloader_iterator, self._iter)
        model = super().run()
        due = self.end == self._max_iters or self.end % self.val_interval == 0
        if trained and due and self.runner.val_loop is not None:
            self.runner.val_loop.run()
        return model

    def run_iter(self, data_batch: Any) -> None:
        """Train one step, with the random numbers that belong to it.

        Raises:
            DivergedError: Its loss or weights are not finite.
        """
        step = seed_of(self.seed, "train-step", self._iter)
        random.seed(step)
        np.random.seed(step % 2**32)
        torch.manual_seed(step)
        try:
            super().run_iter(data_batch)
        except NotFiniteError as error:
            raise DivergedError(
                f"training diverged at iteration {self._iter + 1} ({error})"
            ) from error
        self.stop_training = self._iter >= self.end
