"""Checks of a file of torch's before torch reads it: its archive, and each pickle in it."""

from __future__ import annotations

import io
import mmap
import pickle
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path

from s4m_pipeline.artifacts.pickle_bounds import NoPickleError, PickleRefusedError, check_pickle

_KINDS = (
    *("float16", "float32", "float64", "bfloat16", "complex32", "complex64", "complex128", "bool"),
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
)
_STORAGES = (
    *("FloatStorage", "DoubleStorage", "HalfStorage", "BFloat16Storage", "BoolStorage"),
    *("ByteStorage", "CharStorage", "ShortStorage", "IntStorage", "LongStorage"),
    *("ComplexFloatStorage", "ComplexDoubleStorage"),
)
TENSOR_NAMES = frozenset(
    {
        "collections OrderedDict",
        "collections Counter",
        "_codecs encode",
        "builtins set",
        "__builtin__ set",
        "builtins complex",
        "__builtin__ complex",
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
        *(f"torch {name}" for name in (*_KINDS, *_STORAGES)),
        *(f"torch.cuda {name}" for name in _STORAGES),
    }
)
"""What the pickle of tensors and plain values names. Of what torch itself allows, those names are
left out that make something of any size out of a number, such as ``bytearray``."""
FAULTS = (
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
"""What a damaged file makes torch raise, beside OSError."""
ZIP = b"PK\x03\x04"
_LEGACY_PICKLES = 5
"""Pickles in a file of torch before 1.6: magic number, protocol, system, content, storages."""


def check_torch_file(path: Path, names: Collection[str]) -> None:
    """Pass over a file's pickles; what is no pickle at all is left to torch to refuse.

    Args:
        path: The file.
        names: What it may name, each as ``module name``.

    Raises:
        OSError: It cannot be read.
        PickleRefusedError: It is damaged, or asks for what it may not have.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(ZIP)) == ZIP:
            _check_zip(path, size, names)
        elif size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                _check_legacy(whole, size, names)


def is_whole_zip(path: Path) -> bool:
    """Whether a file is an archive of zip that has its end; a damaged end is none."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def _check_zip(path: Path, size: int, names: Collection[str]) -> None:
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


def _check_legacy(whole: mmap.mmap, size: int, names: Collection[str]) -> None:
    for number in range(_LEGACY_PICKLES):
        try:
            check_pickle(whole, size, names)
        except NoPickleError as error:
            if number:
                raise PickleRefusedError("it is cut short or broken") from error
            return
