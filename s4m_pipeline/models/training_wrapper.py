"""A wrapper that trains any of MMDetection's instance segmentors with S4M's losses."""

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

from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.divergence import NotFiniteError
from s4m_pipeline.models.mask2former.doubt import UNLABELLED
from s4m_pipeline.models.mask2former.head import CLASS_LOSS, DistillingMask2FormerHead
from s4m_pipeline.models.precision import extract_regions_in_float32
from s4m_pipeline.models.start_weights import load_start_weights
from s4m_pipeline.models.structure_loss import structure_sum


@MODELS.register_module()
class S4MSegmentor(BaseModel):
    """An instance segmentor with semi-supervised and distillation losses.

    Loss = labelled loss + ``unlabelled_weight`` x unlabelled loss + ``structure_weight`` x
    structural loss (both sides) + ``class_weight`` x class distillation (unlabelled side).

    Args:
        segmentor: Config of an instance segmentor of MMDetection.
        feature_module: Dotted name, inside the segmentor, of the module whose output (its first,
            if it has several) is compared in the structural loss.
        structure_weight: Weight of the structural loss; 0 leaves it out.
        class_weight: Weight of the class distillation; 0 leaves it out.
        class_temperature: Of the class distillation.
        quality_weight: Weight each pseudo-label's losses by its quality.
        ignore_regions: Let nothing cost anything where unlabelled images have ignored instances.
        unlabelled_weight: Weight of the loss on pseudo-labelled images.
        start: File of weights to start from, or None.

    Raises:
        UsageError: The segmentor has no such module, or it is no Mask2Former and something is
            asked for that only Mask2Former's head can do.
    """

    def __init__(
        self,
        segmentor: dict[str, Any],
        feature_module: str = "panoptic_head.pixel_decoder",
        structure_weight: float = 0.0,
        class_weight: float = 0.0,
        class_temperature: float = 1.0,
        quality_weight: bool = False,
        ignore_regions: bool = False,
        unlabelled_weight: float = 1.0,
        start: str | None = None,
    ) -> None:
        network = MODELS.build(segmentor)
        super().__init__(data_preprocessor=network.data_preprocessor)
        if isinstance(network.data_preprocessor, BaseDataPreprocessor):
            # a loader pins what it hands over, so no copy to a GPU needs to be waited for
            network.data_preprocessor._non_blocking = True
        self.segmentor = network
        extract_regions_in_float32(network)
        self.structure_weight = structure_weight
        self.class_weight = class_weight
        self.unlabelled_weight = unlabelled_weight
        self._start = start
        self._feature_module = feature_module if structure_weight else None
        if structure_weight:
            _submodule(network, feature_module)
        if class_weight:
            _switch_on(network, "class_weight", "0", "class_distillation")
            for head in _heads(network):
                head.class_temperature = class_temperature
        if quality_weight:
            _switch_on(network, "quality_weight", "false", "quality_weight")
        if ignore_regions:
            _switch_on(network, "ignore_score", "null", "ignore_regions")

    def init_weights(self) -> None:
        """Initialise the segmentor, then load the weights to start from."""
        self.segmentor.init_weights()
        if self._start is not None:
            load_start_weights(self.segmentor, Path(self._start))

    def forward(
        self, inputs: Tensor, data_samples: list[Any] | None = None, mode: str = "tensor"
    ) -> Any:
        """Losses (``mode="loss"``), predictions (``"predict"``) or raw output (``"tensor"``)."""
        if mode == "loss":
            return self.loss(inputs, data_samples or [])
        return self.segmentor(inputs, data_samples, mode=mode)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, float]:
        """Train one step; its losses come to the host in one copy.

        Raises:
            NotFiniteError: The loss is not finite, or the weights are not after the step. They are
                looked at before any checkpoint is made of them.
        """
        losses = super().train_step(data, optim_wrapper)
        found = [value.detach() for value in losses.values()]
        *values, size = torch.stack([*found, self._size_of_weights()]).tolist()
        told = dict(zip(losses, values, strict=True))
        if not math.isfinite(told["loss"]):
            raise NotFiniteError("the loss is not finite")
        if not math.isfinite(size):
            raise NotFiniteError("the weights are not finite")
        return told

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
                part = self.segmentor.loss(_chosen(inputs, chosen), samples)
            if self._feature_module is not None:
                maps = _feature_map(features, self._feature_module, len(samples))
                structural.append(structure_sum(maps, samples))
            losses.update(self._weighted(part, unlabelled))
        if structural:
            total, count = (torch.stack(parts).sum() for parts in zip(*structural, strict=True))
            losses["loss_structure"] = self.structure_weight * (total / count.clamp(min=1))
        return losses

    def _weighted(self, losses: dict[str, Any], unlabelled: bool) -> dict[str, Any]:
        """Weight one side's losses and name the unlabelled side's."""
        distillation = losses.pop(CLASS_LOSS, None)
        if not unlabelled:
            return losses
        weighted = {
            f"unlabelled_{name}": _scale(value, self.unlabelled_weight) if "loss" in name else value
            for name, value in losses.items()
        }
        if distillation is not None:
            weighted[CLASS_LOSS] = self.class_weight * distillation
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

        handle = _submodule(self.segmentor, self._feature_module).register_forward_hook(keep)
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
    found = outputs[-1] if outputs else None
    if isinstance(found, (list, tuple)) and found:
        found = found[0]
    fault = ""
    if not torch.is_tensor(found) or found.ndim != 4:
        fault = "puts out no map of features in training"
    elif len(outputs) > 1:
        fault = f"runs {len(outputs)} times on a batch (once a level, perhaps)"
    elif len(found) != images:
        fault = f"puts out {len(found)} maps for {images} images (one a region, perhaps)"
    if fault:
        raise UsageError(
            f"structure_weight is set, but the module '{name}' {fault}.\n"
            "Set feature_module in the model's config to one that makes one map of each image."
        )
    return cast(Tensor, found)


def _heads(network: nn.Module) -> list[DistillingMask2FormerHead]:
    return [m for m in network.modules() if isinstance(m, DistillingMask2FormerHead)]


def _switch_on(network: nn.Module, setting: str, off: str, switch: str) -> None:
    """Set a switch of the Mask2Former head, which a setting needs."""
    heads = _heads(network)
    if not heads:
        raise UsageError(f"{setting} needs a Mask2Former head; set it to {off} for other models")
    for head in heads:
        setattr(head, switch, True)
