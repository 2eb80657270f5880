"""The random points of a step's losses, in the order in which MMDetection draws them.

MMDetection draws, layer after layer, the points that queries and instances are matched at, image
after image, and then the candidates for the points that the layer's losses are taken at. Here all
layers are matched before any loss. How many candidates there are is known before the matching, so
they are drawn in their turn and dropped. When they are needed, they are drawn again from the
generator's state of that moment, so that only one layer's candidates are in memory at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mmcv.ops import point_sample
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PointCounts:
    """How many points there are of each mask.

    Attributes:
        total: Points that a loss, or the matching, is taken at.
        candidates: Random points that the uncertain ones are chosen from.
        uncertain: Those of ``total`` that are chosen; the rest are random.
    """

    total: int
    candidates: int
    uncertain: int


class StepPoints:
    """Random points of one step, from torch's default generator of the device.

    Args:
        counts: How many of each kind.
        layers: Decoder layers.
        images: Images of the batch.
        pairs: Matched pairs of the batch in each layer.
        device: Where the predictions are.

    Attributes:
        matching: One entry a layer, float (B, total, 2) x, y in 0 to 1.
    """

    def __init__(
        self, counts: PointCounts, layers: int, images: int, pairs: int, device: torch.device
    ) -> None:
        self._counts, self._pairs, self._device = counts, pairs, device
        self._states: list[Tensor] = []
        self.matching: list[Tensor] = []
        for _ in range(layers):
            parts = [torch.rand((1, counts.total, 2), device=device) for _ in range(images)]
            self.matching.append(torch.cat(parts))
            self._states.append(_state(device))
            if pairs:
                self._draw(None)

    def uncertain(self, layer: int, logits: Tensor) -> Tensor:
        """The points of a layer's mask losses: uncertain ones, and some anywhere.

        Args:
            layer: Counted from 0.
            logits: float32 (M, h, w) of the matched queries; uncertain is what is near 0.

        Returns:
            float (M, total, 2) x, y in 0 to 1.
        """
        candidates, anywhere = self._draw(_generator(self._states[layer], self._device))
        doubt = -point_sample(logits.unsqueeze(1), candidates).squeeze(1).abs()
        chosen = doubt.topk(self._counts.uncertain, dim=1, sorted=False).indices
        places = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
        return torch.cat([places, anywhere], dim=1)

    def _draw(self, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Draw a layer's candidates and points anywhere."""
        counts, device = self._counts, self._device
        shapes = [(self._pairs, n, 2) for n in (counts.candidates, counts.total - counts.uncertain)]
        first, second = (
            torch.rand(shape, device=device, generator=generator)
            if shape[1]
            else torch.empty(shape, device=device)
            for shape in shapes
        )
        return first, second


def _state(device: torch.device) -> Tensor:
    """The state of the device's default generator; it is kept on the host."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


def _generator(state: Tensor, device: torch.device) -> torch.Generator:
    """A generator of the device in some state."""
    generator = torch.Generator(device)
    generator.set_state(state)
    return generator
