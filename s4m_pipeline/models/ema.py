"""Averaged weights: an exponential moving average that starts fast."""

from __future__ import annotations

import torch
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
        """Move the average of one parameter towards the source, in place."""
        averaged_param.lerp_(source_param, 1.0 - effective_decay(self.decay, int(steps)))

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move all averages towards a model, in a few calls for all parameters together.

        The result is that of MMEngine's own method, which calls `avg_func` for each parameter.
        """
        steps = int(self.steps)
        source = model.state_dict() if self.update_buffers else dict(model.named_parameters())
        pairs = [(own, source[name]) for name, own in self.avg_parameters.items()]
        if steps == 0:
            _copy_all(pairs)
        elif steps % self.interval == 0:
            floating = [pair for pair in pairs if pair[0].is_floating_point()]
            if floating:
                share = 1.0 - effective_decay(self.decay, steps)
                torch._foreach_lerp_(*_sides(floating), share)
        if not self.update_buffers:
            _copy_all(list(zip(self.module.buffers(), model.buffers(), strict=True)))
        self.steps += 1


def _copy_all(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Copy each pair's second tensor into its first."""
    if pairs:
        torch._foreach_copy_(*_sides(pairs))


def _sides(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Averages and sources, the latter on the devices of the former."""
    averages = [own.data for own, _ in pairs]
    return averages, [source.data.to(own.device) for own, source in pairs]
