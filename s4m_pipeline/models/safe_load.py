"""Checkpoints read with ``weights_only=True``: tensors and plain values, nothing that runs code.

What a checkpoint may name is a list (:func:`_allowed`, :func:`_names`), and a pass over its pickle
holds it to that and to the size of its file before anything is loaded. MMEngine's checkpoints also
hold ``HistoryBuffer`` objects (the log's running values) and numpy's arrays and numbers. For these
stand, for the time of one read, functions and classes of ours that only check and keep: torch would
let numpy take a dtype's flags from the file, and follow addresses of the file's choice.
"""

from __future__ import annotations

import io
import mmap
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from s4m_pipeline.artifacts.pickle_bounds import NoPickleError, PickleRefusedError, check_pickle
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.trust import stand_ins
from s4m_pipeline.models.trust.stand_ins import Array, History, named, replaced

RESUMED = (
    "epoch",
    "iter",
    "seed",
    "cfg",
    "dataset_meta",
    "experiment_name",
    "mmengine_version",
    "time",
)
"""What ``meta`` of one of MMEngine's checkpoints may say to a training."""
_STAND_INS: dict[str, Any] = {
    "mmengine.logging.history_buffer HistoryBuffer": History,
    "builtins getattr": stand_ins.statistic,
    "builtins bytes": stand_ins.no_bytes,
    "numpy ndarray": Array,
    "numpy dtype": stand_ins.Kind,
    "numpy.core.multiarray _reconstruct": stand_ins.reconstruct,
    "numpy._core.multiarray _reconstruct": stand_ins.reconstruct,
    "numpy.core.multiarray scalar": stand_ins.scalar,
    "numpy._core.multiarray scalar": stand_ins.scalar,
}
"""What a checkpoint of MMEngine may name beyond tensors, and what stands for it."""
_PLAIN = (
    "collections OrderedDict",
    "collections Counter",
    "_codecs encode",
    "builtins set",
    "builtins complex",
    "torch Size",
    "torch device",
    "torch.serialization _get_layout",
    "torch.nn.parameter Parameter",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_parameter_with_state",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch.storage UntypedStorage",
    "torch.storage TypedStorage",
)
"""Names of tensors and plain values. Of what torch itself allows, those are left out that make
something of any size out of a number, such as ``bytearray``."""
_LEGACY_PICKLES = 5
"""Pickles in a file of torch before 1.6: magic number, protocol, system, content, storages."""
_ZIP = b"PK\x03\x04"
_FAULTS = (
    pickle.UnpicklingError,
    PickleRefusedError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RecursionError,
    struct.error,
)


def _allowed() -> list[Any]:
    """The stand-ins under the names that torch compares with those in a file."""
    return [named(thing, *name.split(" ")) for name, thing in _STAND_INS.items()]


def _names() -> frozenset[str]:
    """All that a checkpoint may name, as its pickle writes it."""
    kinds = [name for name, value in vars(torch).items() if isinstance(value, torch.dtype)]
    storages = [name for name in vars(torch) if name.endswith("Storage")]
    names = {
        *_PLAIN,
        *_STAND_INS,
        *(f"torch {name}" for name in (*kinds, *storages)),
        *(f"torch.cuda {name}" for name in storages),
    }
    old = {name.replace("builtins ", "__builtin__ ") for name in names}
    return frozenset(names | old)


def load_checkpoint_file(path: Path | str, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Args:
        path: The file.
        map_location: As of ``torch.load``.

    Returns:
        The dictionary in the file.

    Raises:
        UsageError: There is no such file, it cannot be read, it is not a checkpoint, it holds
            something other than a dictionary, or it asks for something that is not allowed.
    """
    path = Path(path)
    try:
        if not path.is_file():
            note = " (a folder, not a file)" if path.is_dir() else ""
            raise UsageError(f"no checkpoint here: {path}{note}")
        if path.suffix == ".safetensors":
            return _load_safetensors(path)
        _check_bounds(path)
        with torch.serialization.safe_globals(_allowed()):
            content = torch.load(path, map_location=map_location, weights_only=True)
        content = replaced(content, _Finished(path.stat().st_size))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except _FAULTS as error:
        raise UsageError(
            f"not a checkpoint that can be read safely: {path}\n{_reason(error)}"
        ) from error
    if not isinstance(content, dict):
        raise UsageError(f"not a checkpoint: {path} holds a {type(content).__name__}")
    return content


class _Finished:
    """Puts the real things where stand-ins are, and refuses tensors that no file of a size holds.

    Args:
        size: Bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self, value: Any) -> Any:
        if isinstance(value, Array):
            return value.whole()
        if isinstance(value, History):
            return value.buffer()
        if isinstance(value, Tensor) and (
            value.layout != torch.strided or value.numel() > self._size
        ):
            raise PickleRefusedError(
                f"it holds a tensor of {value.numel()} values, beyond its size"
            )
        return value


def _check_bounds(path: Path) -> None:
    """Pass over a file's pickles before torch reads it; what is no pickle is torch's to refuse."""
    size, names = path.stat().st_size, _names()
    with path.open("rb") as file:
        if file.read(len(_ZIP)) == _ZIP:
            _check_zip(path, size, names)
        elif size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                _check_legacy(whole, size, names)


def _check_zip(path: Path, size: int, names: frozenset[str]) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(entries, size)
            for entry in entries:
                if entry.filename.endswith(".pkl"):
                    check_pickle(io.BytesIO(archive.read(entry)), size, names)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise PickleRefusedError(f"its archive is cut short or damaged ({error})") from error
    except NoPickleError as error:
        raise PickleRefusedError("its pickle is damaged") from error


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse an archive that unpacks to more than it is, or that readers may see differently."""
    if len({entry.filename for entry in entries}) < len(entries):
        raise PickleRefusedError("it has two entries of one name")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise PickleRefusedError("its entries are compressed, which torch's never are")
    if sum(entry.file_size for entry in entries) > size:
        raise PickleRefusedError("its entries are longer than the file")


def _check_legacy(whole: mmap.mmap, size: int, names: frozenset[str]) -> None:
    for number in range(_LEGACY_PICKLES):
        try:
            check_pickle(whole, size, names)
        except NoPickleError as error:
            if number:
                raise PickleRefusedError("it is cut short or broken") from error
            return


def _load_safetensors(path: Path) -> dict[str, Any]:
    """Read a safetensors file; half-precision tensors become float32."""
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise UsageError(f"not a safetensors file: {path}\n{_reason(error)}") from error
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def _reason(error: BaseException) -> str:
    """The first line of what the unpickler said, without torch's advice to read unsafely."""
    inner = error.__context__
    cause = inner if isinstance(inner, pickle.UnpicklingError) else error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]


def load_for_mmengine(filename: str, map_location: Any) -> dict[str, Any]:
    """Read a local file for MMEngine's ``CheckpointLoader``.

    Of ``meta`` only what a resumed training may read comes out: MMEngine's ``Runner.resume`` runs
    an entry ``config``, which older checkpoints have, as Python code.
    """
    content = load_checkpoint_file(Path(filename).expanduser(), map_location)
    meta = content.get("meta")
    if isinstance(meta, dict):
        content["meta"] = {name: meta[name] for name in RESUMED if name in meta}
    return content
