"""Matching of queries and instances, with one trip to the host however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from s4m_pipeline.devices.transfers import to_device
from s4m_pipeline.models.divergence import NotFiniteError


@dataclass(frozen=True, slots=True)
class Matches:
    """Which queries and instances of a batch belong together in one decoder layer.

    The M pairs are ordered by image and query. Instances are numbered through the batch, image
    after image.

    Attributes:
        images: int64 (M,), on the device, as are the others.
        queries: int64 (M,), places among the image's queries.
        instances: int64 (M,).
        counts: How many pairs each image has.
    """

    images: Tensor
    queries: Tensor
    instances: Tensor
    counts: tuple[int, ...]

    def by_image(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each image's queries and instances."""
        counts = list(self.counts)
        return zip(self.queries.split(counts), self.instances.split(counts), strict=True)


def match(costs: Sequence[Sequence[Tensor]]) -> list[Matches]:
    """Pair queries with instances so that the sum of their costs is least, layer by layer.

    All costs come to the host in one copy and all pairs go back in another, which does not wait.

    Args:
        costs: For each decoder layer one entry an image, float (Q, G): the cost of each query for
            each of the image's G instances, perhaps none.

    Returns:
        One entry a layer.

    Raises:
        NotFiniteError: A cost is not finite.
    """
    flat = torch.cat([cost.detach().flatten() for layer in costs for cost in layer])
    values = flat.cpu().numpy()
    if not np.isfinite(values).all():
        raise NotFiniteError("the loss is not finite")
    by_layer: list[np.ndarray] = []
    counts: list[tuple[int, ...]] = []
    start = 0
    for layer in costs:
        pairs, first = [], 0
        for image, cost in enumerate(layer):
            queries, instances = cost.shape
            part = values[start : start + cost.numel()].reshape(queries, instances)
            start += cost.numel()
            rows, columns = linear_sum_assignment(part)
            pairs.append(np.stack([np.full_like(rows, image), rows, first + columns]))
            first += instances
        by_layer += pairs
        counts.append(tuple(part.shape[1] for part in pairs))
    on_device = to_device(torch.from_numpy(np.concatenate(by_layer, axis=1)), flat.device)
    layers = on_device.split([sum(of_layer) for of_layer in counts], dim=1)
    return [
        Matches(layer[0], layer[1], layer[2], of_layer)
        for layer, of_layer in zip(layers, counts, strict=True)
    ]
