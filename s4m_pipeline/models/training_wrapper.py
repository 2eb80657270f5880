"""A wrapper that trains any of MMDetection's instance segmentation networks with S4M's losses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor, nn

from s4m_pipeline.configs.losses import OFF, StudentLosses
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.divergence import NotFiniteError
from s4m_pipeline.models.mask2former.doubt import UNLABELLED
from s4m_pipeline.models.mask2former.head import CLASS_LOSS, DistillingMask2FormerHead
from s4m_pipeline.models.precision import extract_regions_in_float32
from s4m_pipeline.models.start_weights import load_start_weights
from s4m_pipeline.models.structure_loss import structure_sum


@MODELS.register_module()
class TrainingWrapper(BaseModel):
    """An instance segmentation network with semi-supervised and distillation losses.

    Loss = labelled loss + ``unlabelled_weight`` x unlabelled loss + ``structure_weight`` x
    structural loss (both sides) + ``class_weight`` x class distillation (unlabelled side).

    Args:
        network: Config of an instance segmentation network of MMDetection.
        losses: The losses beside the network's own.
        feature_module: Dotted name, inside the network, of the module whose output (its first,
            if it has several) is compared in the structural loss.
        start: File of weights to start from, or None.

    Raises:
        UsageError: The network has no such module, or the losses need a Mask2Former head and it
            has none.
    """

    def __init__(
        self,
        network: dict[str, Any],
        losses: StudentLosses = StudentLosses(),
        feature_module: str = "panoptic_head.pixel_decoder",
        start: str | None = None,
    ) -> None:
        built = MODELS.build(network)
        super().__init__(data_preprocessor=built.data_preprocessor)
        if isinstance(built.data_preprocessor, BaseDataPreprocessor):
            # a loader pins what it hands over, so no copy to a GPU needs to be waited for
            built.data_preprocessor._non_blocking = True
        self.network = built
        extract_regions_in_float32(built)
        self.losses = losses
        self._start = start
        self._feature_module = feature_module if losses.structure_weight else None
        if self._feature_module is not None:
            _submodule(built, self._feature_module)
        _tell_heads(built, losses)

    def init_weights(self) -> None:
        """Initialise the network, then load the weights to start from."""
        self.network.init_weights()
        if self._start is not None:
            load_start_weights(self.network, Path(self._start))

    def forward(
        self, inputs: Tensor, data_samples: list[Any] | None = None, mode: str = "tensor"
    ) -> Any:
        """Losses (``mode="loss"``), predictions (``"predict"``) or raw output (``"tensor"``)."""
        if mode == "loss":
            return self.loss(inputs, data_samples or [])
        return self.network(inputs, data_samples, mode=mode)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, float]:
        """Train one step; its losses come to the host in one copy.

        Raises:
            NotFiniteError: The loss is not finite, or the weights are not after the step. They are
                looked at before any checkpoint is made of them.
        """
        losses = super().train_step(data, optim_wrapper)
        on_device = [value.detach() for value in losses.values()]
        *values, size = torch.stack([*on_device, self._size_of_weights()]).tolist()
        on_host = dict(zip(losses, values, strict=True))
        if not math.isfinite(on_host["loss"]):
            raise NotFiniteError("the loss is not finite")
        if not math.isfinite(size):
            raise NotFiniteError("the weights are not finite")
        return on_host

    def _size_of_weights(self) -> Tensor:
        """The norm of all trained weights, on the device: finite where all of them are."""
        trained = [weight.detach() for weight in self.parameters() if weight.requires_grad]
        return torch.stack(torch._foreach_norm(trained)).float().norm()

    def loss(self, inputs: Tensor, data_samples: list[Any]) -> dict[str, Any]:
        """Losses of a batch of labelled and pseudo-labelled images.

        Args:
            inputs: float (B, 3, H, W), normalised and padded.
            data_samples: One an image; ``metainfo["branch"]`` is "labelled" (the default) or
                "unlabelled".

        Returns:
            Named losses, already weighted; their sum is what is minimised.
        """
        branches = [sample.metainfo.get("branch") == UNLABELLED for sample in data_samples]
        losses: dict[str, Any] = {}
        structural: list[tuple[Tensor, Tensor]] = []
        for unlabelled in (False, True):
            chosen = [i for i, branch in enumerate(branches) if branch == unlabelled]
            if not chosen:
                continue
            samples = [data_samples[i] for i in chosen]
            with self._captured_features() as features:
                part = self.network.loss(_chosen(inputs, chosen), samples)
            if self._feature_module is not None:
                maps = _feature_map(features, self._feature_module, len(samples))
                structural.append(structure_sum(maps, samples))
            losses.update(self._weighted(part, unlabelled))
        if structural:
            total, count = (torch.stack(parts).sum() for parts in zip(*structural, strict=True))
            losses["loss_structure"] = self.losses.structure_weight * (total / count.clamp(min=1))
        return losses

    def _weighted(self, losses: dict[str, Any], unlabelled: bool) -> dict[str, Any]:
        """Weight one side's losses and name the unlabelled side's."""
        distillation = losses.pop(CLASS_LOSS, None)
        if not unlabelled:
            return losses
        weight = self.losses.unlabelled_weight
        weighted = {
            f"unlabelled_{name}": _scale(value, weight) if "loss" in name else value
            for name, value in losses.items()
        }
        if distillation is not None:
            weighted[CLASS_LOSS] = self.losses.class_weight * distillation
        return weighted

    @contextmanager
    def _captured_features(self) -> Iterator[list[Any]]:
        """Collect what the feature module puts out while the context lasts."""
        captured: list[Any] = []
        if self._feature_module is None:
            yield captured
            return

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            captured.append(output)

        handle = _submodule(self.network, self._feature_module).register_forward_hook(keep)
        try:
            yield captured
        finally:
            handle.remove()


def _chosen(inputs: Tensor, places: list[int]) -> Tensor:
    """Some images of a batch; those of one kind lie side by side, and are not copied."""
    if places == list(range(places[0], places[-1] + 1)):
        return inputs[places[0] : places[-1] + 1]
    return torch.stack([inputs[place] for place in places])


def _scale(value: Any, weight: float) -> Any:
    """Multiply a loss, or each of a list of losses."""
    if isinstance(value, (list, tuple)):
        return [item * weight for item in value]
    return value * weight


def _submodule(network: nn.Module, name: str) -> nn.Module:
    """Find a module by its dotted name."""
    try:
        return network.get_submodule(name)
    except AttributeError as error:
        children = ", ".join(child for child, _ in network.named_children())
        raise UsageError(
            f"structure_weight is set, but the model has no module '{name}' (it has {children}).\n"
            "Set feature_module in the model's config."
        ) from error


def _feature_map(outputs: list[Any], name: str, images: int) -> Tensor:
    """The one map of each image that a feature module put out: its first output if several."""
    maps = outputs[-1] if outputs else None
    if isinstance(maps, (list, tuple)) and maps:
        maps = maps[0]
    fault = ""
    if not torch.is_tensor(maps) or maps.ndim != 4:
        fault = "puts out no map of features in training"
    elif len(outputs) > 1:
        fault = f"runs {len(outputs)} times on a batch (once a level, perhaps)"
    elif len(maps) != images:
        fault = f"puts out {len(maps)} maps for {images} images (one a region, perhaps)"
    if fault:
        raise UsageError(
            f"structure_weight is set, but the module '{name}' {fault}.\n"
            "Set feature_module in the model's config to one that makes one map of each image."
        )
    return cast(Tensor, maps)


def _tell_heads(network: nn.Module, losses: StudentLosses) -> None:
    """Give the losses to the network's Mask2Former heads.

    Raises:
        UsageError: There is no such head, and the losses need one.
    """
    heads = [m for m in network.modules() if isinstance(m, DistillingMask2FormerHead)]
    needed = losses.for_mask2former()
    if needed and not heads:
        setting = needed[0]
        raise UsageError(
            f"{setting} needs a Mask2Former head; set it to {OFF[setting]} for other models"
        )
    for head in heads:
        head.losses = losses
