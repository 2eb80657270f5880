"""What a file is that should hold weights and does not: in words, with what to do about it."""

from __future__ import annotations

import codecs
import re
import zipfile
from pathlib import Path

from s4m_pipeline.artifacts.torch_files import ZIP, is_whole_zip
from s4m_pipeline.strict_json import read_json

HEAD = 4096
_PAGE = re.compile(rb"(?i)<!doctype html|<html|<head|<body|<script")
_LFS = re.compile(rb"version https://git-lfs\.github\.com/spec/[^\n]*\n(?s:.*?)size (\d+)")
_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "a file of HDF5, as Keras and TensorFlow write them"),
    (b"\x93NUMPY", "an array of numpy"),
    (b"GGUF", "a file of GGUF (llama.cpp)"),
    (b"\x1f\x8b", "packed by gzip: unpack it"),
    (b"BZh", "packed by bzip2: unpack it"),
    (b"\xfd7zXZ\x00", "packed by xz: unpack it"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "an archive of 7-Zip: unpack it"),
    (b"Rar!", "an archive of RAR: unpack it"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"MZ", "a program"),
    (b"\x7fELF", "a program"),
)
_TOOLS = {
    "__torch__": "TorchScript",
    "ultralytics": "Ultralytics (YOLO)",
    "models": "YOLOv5 or one of its kin",
    "pytorch_lightning": "PyTorch Lightning",
    "lightning": "PyTorch Lightning",
    "fastai": "fastai",
    "omegaconf": "a tool with OmegaConf settings",
    "argparse": "a script that stored its arguments as well",
    "detectron2": "detectron2, as a whole object",
    "transformers": "Hugging Face's transformers, as a whole object",
    "torchvision": "torchvision, as a whole object",
    "timm": "timm, as a whole object",
    "mmdet": "MMDetection, as a whole object",
    "paddle": "PaddlePaddle",
    "sklearn": "scikit-learn",
    "keras": "Keras",
}
"""Who writes files whose pickles name things of a package."""


def what_it_is(path: Path) -> str | None:
    """Say what a file is that cannot be read as weights.

    Args:
        path: A file that is there.

    Returns:
        A clause such as "it is a web page ..."; None where nothing is known.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return None
    if not size:
        return "it is empty"
    if not head.strip(b"\x00"):
        return "it begins with nothing but zeros, as an interrupted download does"
    return _pointer(head) or _binary(path, head, size) or _text(_as_utf8(head))


def and_what_it_is(path: Path) -> str:
    """`what_it_is` as the next line of a message, or nothing where nothing is known."""
    known = what_it_is(path)
    return "" if known is None else f"\n{known}"


def written_by(name: str) -> str | None:
    """Say which tool's file names a thing in its pickle.

    Args:
        name: As ``module.name``.

    Returns:
        A clause, or None where the tool is not known.
    """
    tool = _TOOLS.get(name.split(".")[0])
    if tool is None:
        return None
    return f"it was written by {tool}: save the state_dict() of the model alone, and give that file"


def _pointer(head: bytes) -> str | None:
    """What stands in for a file that is elsewhere."""
    found = _LFS.match(head)
    if found:
        return (
            f"it is a Git LFS pointer to a file of {int(found[1]):,} bytes: run 'git lfs pull' in "
            "its repository, or download the file itself"
        )
    if head.startswith(b"/annex/objects/") or b".git/annex/objects/" in head[:200]:
        return "it is a git-annex pointer: run 'git annex get' in its repository"
    if head.startswith(b"oid sha256:"):
        return "it is part of a Git LFS pointer: download the file itself"
    return None


def _binary(path: Path, head: bytes, size: int) -> str | None:
    """What a file is by its first bytes."""
    if head.startswith(ZIP):
        return _archive(path, size)
    if head[257:262] == b"ustar":
        return "it is an archive of tar: unpack it"
    if head[4:8] == b"TFL3":
        return "it is a model of TensorFlow Lite"
    if b"\x12\x07pytorch" in head[:64] and path.suffix != ".onnx":
        return "it is a model of ONNX: weights of torch are wanted"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return f"it is {kind}"
    return _safetensors(path, head, size)


def _safetensors(path: Path, head: bytes, size: int) -> str | None:
    """Whether it is a file of safetensors, by its header's length and first character."""
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or not 2 <= length < 100_000_000:
        return None
    needed = 8 + length
    if needed <= size:
        with path.open("rb") as file:
            file.seek(8)
            needed += _last_byte(file.read(length))
    if needed > size:
        return (
            f"it is a safetensors file that is cut short ({size:,} of {needed:,} bytes): "
            "download it again"
        )
    if path.suffix != ".safetensors":
        return "it is a safetensors file under another name: rename it to end in .safetensors"
    return None


def _last_byte(header: bytes) -> int:
    """Where the last tensor ends, behind the header."""
    try:
        parts = read_json(header)
        return max(
            (part["data_offsets"][1] for part in parts.values() if "dtype" in part), default=0
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return 0


def _archive(path: Path, size: int) -> str | None:
    """What an archive of zip holds."""
    if not is_whole_zip(path):
        return (
            f"it is cut short at {size:,} bytes (an archive without its end), as an interrupted "
            "download is: download it again"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return None
    if any(name.endswith("/constants.pkl") for name in names):
        return (
            "it is a model of TorchScript: save the state_dict() of the model, and give that file"
        )
    if any(name.endswith("data.pkl") for name in names):
        misnamed = path.suffix == ".safetensors"
        return (
            "it is torch's file under another name: rename it to end in .pth" if misnamed else None
        )
    if names and all(name.endswith(".npy") for name in names):
        return "it is an archive of numpy's arrays"
    if any(name.endswith(("keras_metadata.pb", "model.weights.h5")) for name in names):
        return "it is a model of Keras"
    return f"it is a zip archive of {len(names)} files, of which none is torch's: unpack it"


def _as_utf8(head: bytes) -> bytes:
    """A text's beginning without a byte order mark."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return head.decode("utf-16", errors="ignore").encode()
    return head.removeprefix(codecs.BOM_UTF8)


def _text(head: bytes) -> str | None:
    """What a text is."""
    if _PAGE.search(head[:1024]):
        return "it is a web page, not a file of weights: download the file that the page is about"
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < HEAD else "ignore").strip()
    except UnicodeDecodeError:
        return None
    if any(not (letter.isprintable() or letter.isspace()) for letter in text):
        return None
    if text.startswith("<"):
        return "it is XML, such as a server's message about an error: download the file again"
    first = ascii(text.splitlines()[0][:60])[1:-1] if text else ""
    if text.startswith(("{", "[")):
        if '"weight_map"' in text:
            return "it is a list of files of weights (JSON): give a file that holds them all"
        return f'it is JSON, beginning "{first}"'
    return f'it is a text, beginning "{first}"'
