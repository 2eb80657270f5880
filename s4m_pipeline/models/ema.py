"""Averaged weights: an exponential moving average that starts fast."""

from __future__ import annotations

from mmdet.registry import MODELS
from mmengine.model import BaseAveragedModel
from torch import Tensor, nn


def effective_decay(decay: float, steps: int) -> float:
    """Decay of the average at its update number ``steps``: ``min(decay, (1 + t) / (10 + t))``.

    Early on the average follows the weights, so that a short training is not averaged with its
    random start.
    """
    return min(decay, (1 + steps) / (10 + steps))


@MODELS.register_module()
class WarmUpAverage(BaseAveragedModel):
    """MMEngine's averaged model with :func:`effective_decay`.

    Args:
        model: The model that is averaged.
        decay: Share of the old average that stays, in the long run.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9996) -> None:
        super().__init__(model)
        self.decay = decay

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: int) -> None:
        """Move the average towards the source, in place."""
        averaged_param.lerp_(source_param, 1.0 - effective_decay(self.decay, int(steps)))
