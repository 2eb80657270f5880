"""The one module that deals with the versions of OpenMMLab's packages.

``mmdet`` imports ``mmcv.ops`` everywhere and ``mmcv.ops`` imports the compiled ``mmcv._ext``, which
``mmcv-lite`` does not have. :func:`prepare` answers for that module when it is absent; of a
compiled mmcv it changes only that deformable attention is computed in float32. It also makes
MMEngine read its checkpoints with ``weights_only=True`` (see :mod:`s4m_pipeline.models.safe_load`)
and registers this package's modules. Call it before a model is built from a config; importing any
module of this package has already done its first part, :func:`make_importable`.

OpenMMLab's packages are imported inside functions here, because their warnings have to be silenced
and the stand-in has to be in place before.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.mask2former.deformable import Float32Function, deformable_attention
from s4m_pipeline.models.operators import stand_in

OPERATORS = "mmcv._ext"
_done: set[str] = set()


def prepare() -> None:
    """Make MMDetection importable and safe, and register our modules; once is enough."""
    make_importable()
    if "registered" not in _done:
        _done.add("registered")
        _read_checkpoints_safely()
        _register_modules()


def make_importable() -> None:
    """Answer for ``mmcv._ext`` when it is absent; once is enough."""
    if "importable" in _done:
        return
    _done.add("importable")
    _silence_version_warnings()
    _import_strategies()
    if _compiled_operators_work():
        _attend_in_float32()
    else:
        _serve_operators()


def has_compiled_operators() -> bool:
    """Whether ``mmcv._ext`` is the compiled one and not the stand-in."""
    return _compiled_operators_work()


@contextmanager
def device_in_use(device: str) -> Iterator[str]:
    """Make MMEngine place models and checkpoints on a device while the context lasts.

    MMEngine takes the best device of the machine, whatever a run asks for.

    Args:
        device: "cpu", "cuda", "cuda:N" or "auto".

    Yields:
        The device's kind.

    Raises:
        UsageError: CUDA is asked for and not available.
    """
    from mmengine.device import utils

    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(f"device is {device}, but there is no CUDA device here")
        if number:
            torch.cuda.set_device(int(number))
    before, utils.DEVICE = utils.DEVICE, kind
    try:
        yield kind
    finally:
        utils.DEVICE = before


def _import_strategies() -> None:
    """Import the one module of MMEngine that swallows Ctrl-C, and let signals come afterwards.

    ``mmengine._strategy`` tries its parts under a bare ``except``, so an interrupt that falls into
    it would be lost and the command would run on. What takes long in it is imported before.
    """
    importlib.import_module("torch.distributed.fsdp")
    if threading.current_thread() is not threading.main_thread():
        importlib.import_module("mmengine._strategy")
        return
    caught: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda n, _: caught.append(n)) for number in signals]
    try:
        importlib.import_module("mmengine._strategy")
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
    for come in caught:  # as they would have come: a worker may ignore or not handle them
        signal.raise_signal(come)


def _silence_version_warnings() -> None:
    """Drop warnings about the insides of OpenMMLab that a user can do nothing about."""
    for module in (r"mmengine(\..*)?", r"mmcv(\..*)?", r"mmdet(\..*)?"):
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=module)
    warnings.filterwarnings("ignore", message=r"torch\.meshgrid", category=UserWarning)


def _compiled_operators_work() -> bool:
    """Try the compiled operators; one that was built for another torch counts as absent."""
    if OPERATORS in sys.modules:
        return not getattr(sys.modules[OPERATORS], "is_stand_in", False)
    if importlib.util.find_spec(OPERATORS) is None:
        return False
    try:
        importlib.import_module(OPERATORS)
    except ImportError as error:
        warnings.warn(
            f"the compiled operators of mmcv do not load ({error}); PyTorch's are used instead",
            stacklevel=3,
        )
        return False
    return True


def _serve_operators() -> None:
    """Put the stand-in for ``mmcv._ext`` in place."""
    served = stand_in(OPERATORS)
    sys.modules[OPERATORS] = served
    importlib.import_module("mmcv")._ext = served  # type: ignore[attr-defined]
    attention = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
    # The module asks these two before it takes the compiled kernel: without a kernel the PyTorch
    # form is right on every device.
    attention.IS_CUDA_AVAILABLE = False  # type: ignore[attr-defined]
    attention.IS_MLU_AVAILABLE = False  # type: ignore[attr-defined]
    attention.multi_scale_deformable_attn_pytorch = deformable_attention  # type: ignore[attr-defined]


def _attend_in_float32() -> None:
    """Keep bfloat16 out of mmcv's compiled deformable attention."""
    attention = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
    function = attention.MultiScaleDeformableAttnFunction
    attention.MultiScaleDeformableAttnFunction = Float32Function(function)  # type: ignore[attr-defined]


def _read_checkpoints_safely() -> None:
    """Make every ``torch.load`` that MMEngine calls for a local file a safe one."""
    from mmengine.runner.checkpoint import CheckpointLoader
    from mmengine.utils import digit_version

    from s4m_pipeline.models.safe_load import RESUME, load_for_mmengine, load_to_resume

    CheckpointLoader.register_scheme(prefixes="", loader=load_for_mmengine, force=True)
    CheckpointLoader.register_scheme(prefixes=RESUME, loader=load_to_resume, force=True)
    if digit_version(torch.__version__) < digit_version("2.6"):
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # the default from 2.6 on


def _register_modules() -> None:
    """Import what registers itself with MMDetection or MMEngine."""
    for name in (
        "s4m_pipeline.models.training_wrapper",
        "s4m_pipeline.models.mask2former.head",
        "s4m_pipeline.models.mask2former.fusion_head",
        "s4m_pipeline.models.timm_backbone",
        "s4m_pipeline.models.vit_backbone",
        "s4m_pipeline.models.ema",
        "s4m_pipeline.models.hooks",
        "s4m_pipeline.models.loops",
        "s4m_pipeline.models.precision",
        "s4m_pipeline.models.metrics",
        "s4m_pipeline.training_data.datasets",
        "s4m_pipeline.training_data.transforms",
        "s4m_pipeline.training_data.samplers",
    ):
        importlib.import_module(name)
