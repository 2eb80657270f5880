"""Files that ask for more memory than their size accounts for: refused before they are loaded."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.conversion.pickled_arrays import read_pickled_arrays
from s4m_pipeline.models.safe_load import load_checkpoint_file

GIB32 = 1 << 35


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def copies(function: bytes, rest: bytes = b"") -> bytes:
    """A list of 20 000 calls, each of which copies one text of 100 kB: 2 GB from 200 kB."""
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000
    call = b"h\x01h\x02" + rest + (b"\x86" if rest else b"\x85") + b"R"
    return b"\x80\x02" + function + b"q\x01" + text + b"q\x02(" + call * 20_000 + b"l."


MEMO = {
    "nine bytes that ask for 32 GiB": b"\x80\x02}r\xf0\xff\xff\xff.",
    "the same in text": b"\x80\x02}p4294967280\n.",
}
ANNOUNCED = {
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", GIB32) + b"abc.",
    "a text": b"\x80\x04\x8d" + struct.pack("<Q", GIB32) + b"abc.",
    "a byte array": b"\x80\x05\x96" + struct.pack("<Q", GIB32) + b"abc.",
    "a frame": b"\x80\x04\x95" + struct.pack("<Q", GIB32) + b"}.",
    "a number": b"\x80\x02\x8b" + struct.pack("<I", 0x7FFFFFFF) + b"\x01.",
}
COPIED = {
    "a text as bytes": copies(b"c_codecs\nencode\n", b"X\x06\x00\x00\x00latin1"),
    "a list as a dictionary": (
        b"\x80\x02ccollections\nOrderedDict\nq\x01(" + b"K\x01K\x02\x86" * 50_000 + b"lq\x02("
        b"" + b"h\x01h\x02\x85R" * 20_000 + b"l."
    ),
}
BOMBS = MEMO | ANNOUNCED | COPIED


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_arguments: object, **_options: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("torch.load", never)
    monkeypatch.setattr("s4m_pipeline.models.conversion.pickled_arrays._Unpickler.load", never)


def in_zip(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """A file of torch's whose pickle is ``content``."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/version", b"3\n")
    return path


def legacy(content: bytes) -> bytes:
    """A file of torch's before 1.6 with that content."""
    heads = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    return b"".join(pickle.dumps(head, 2) for head in heads) + content + pickle.dumps([], 2)


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.usefixtures("unloaded")
def test_a_pickle_is_held_to_the_size_of_its_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(BOMBS[kind])
    with pytest.raises(UsageError, match=r"a\.pkl\n.*(memo|announces|copied|broken)"):
        read_pickled_arrays(path)
    with pytest.raises(UsageError, match=r"b\.pth"):
        load_checkpoint_file(in_zip(tmp_path / "b.pth", BOMBS[kind]))
    (tmp_path / "c.pth").write_bytes(legacy(BOMBS[kind]))
    with pytest.raises(UsageError, match=r"c\.pth"):
        load_checkpoint_file(tmp_path / "c.pth")


@pytest.mark.parametrize(
    "content",
    [
        {"a": Calls(bytearray, GIB32)},
        {"a": Calls(torch.Tensor, GIB32)},
        {"a": Calls(torch._utils._rebuild_device_tensor_from_numpy, 1)},
    ],
)
@pytest.mark.usefixtures("unloaded")
def test_what_makes_memory_of_a_number_is_not_named(content: Any, tmp_path: Path) -> None:
    path = in_zip(tmp_path / "a.pth", pickle.dumps(content, 2))
    with pytest.raises(UsageError, match=r"a\.pth\nit names .*, which is not allowed"):
        load_checkpoint_file(path)


def test_bytes_of_any_number_are_not_made(tmp_path: Path) -> None:
    path = in_zip(tmp_path / "a.pth", pickle.dumps({"a": Calls(bytes, GIB32)}, 2))
    with pytest.raises(UsageError, match=r"a\.pth"):
        load_checkpoint_file(path)


def test_a_tensor_is_no_larger_than_its_file(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, tmp_path / "a.pth")
    with pytest.raises(UsageError, match="beyond its size"):
        load_checkpoint_file(tmp_path / "a.pth")


def test_a_zip_that_unpacks_to_more_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps({"a": "b" * 10_000_000}, 2)
    path = in_zip(tmp_path / "a.pth", content, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(UsageError, match="compressed"):
        load_checkpoint_file(path)


def test_numpy_takes_no_flags_from_a_file(tmp_path: Path) -> None:
    """A dtype of objects without its flags: numpy would take the bytes for addresses of objects."""
    reconstruct, (_, shape, code), _state = np.zeros(1).__reduce__()

    class Kind:
        def __reduce__(self) -> tuple[Any, ...]:
            return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)

    class Array:
        def __reduce__(self) -> tuple[Any, ...]:
            return reconstruct, (np.ndarray, shape, code), (1, (1,), Kind(), False, b"\x01" * 8)

    path = in_zip(tmp_path / "a.pth", pickle.dumps({"a": Array()}, 2))
    with pytest.raises(UsageError, match="arrays of kind 'O8' are not read"):
        load_checkpoint_file(path)


@pytest.mark.parametrize("new", [True, False])
def test_honest_files_are_read(new: bool, tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    content = {
        "model": OrderedDict((f"layer{n}.weight", torch.full((3,), float(n))) for n in range(500)),
        "shared": [shared, shared[2:], shared.view(2, 3)],
        "half": torch.ones(3, dtype=torch.bfloat16),
        "kind": torch.float16,
        "size": torch.Size([2, 3]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "plain": [1, 2.5, None, True, "text", b"bytes", {1, 2}, (1, (2,)), 1 << 70, complex(1, 2)],
        "array": np.arange(6, dtype="i8").reshape(2, 3),
    }
    content["twice"] = content["plain"]
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    loaded = load_checkpoint_file(tmp_path / "a.pth")
    expected = torch.load(tmp_path / "a.pth", weights_only=False)
    assert loaded.keys() == expected.keys()
    assert loaded["twice"] is loaded["plain"]
    assert loaded["plain"] == expected["plain"]
    assert (loaded["array"] == expected["array"]).all()
    for name, value in expected["model"].items():
        assert torch.equal(loaded["model"][name], value)
    for one, other in zip(loaded["shared"], expected["shared"], strict=True):
        assert torch.equal(one, other)
    assert loaded["shared"][0].data_ptr() == loaded["shared"][2].data_ptr()
    for name in ("half", "kind", "size", "parameter"):
        assert str(loaded[name]) == str(expected[name])


def test_random_pickles_end_in_the_projects_own_error(tmp_path: Path) -> None:
    """Bytes changed at random in files of every layout: read, or refused by name."""
    draw = np.random.default_rng(0)
    content = {"a": torch.arange(4.0), "b": [1, "c", (2.5, None)], "d": np.arange(3.0)}
    torch.save(content, tmp_path / "new.pth")
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    arrays = {"a": np.arange(4.0), "b": [1, "c", (2.5, None)]}
    (tmp_path / "arrays.pkl").write_bytes(pickle.dumps(arrays, 4))
    for name in ("new.pth", "old.pth", "arrays.pkl"):
        whole = (tmp_path / name).read_bytes()
        read = read_pickled_arrays if name.endswith("pkl") else load_checkpoint_file
        for _ in range(300):
            length = len(whole) if draw.random() < 0.8 else draw.integers(1, len(whole))
            changed = bytearray(whole[:length])
            for place in draw.integers(0, len(changed), draw.integers(0, 4)):
                changed[place] = draw.integers(0, 256)
            (tmp_path / "changed").write_bytes(changed)
            with suppress(UsageError):
                read(tmp_path / "changed")
