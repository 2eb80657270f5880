"""Weights of a segmenter that name other files: nothing outside their folder is read."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch

from s4m_pipeline.errors import UsageError
from s4m_pipeline.segmenter.mobilesam import _open_encoder

onnxruntime = pytest.importorskip("onnxruntime")


def number(value: int) -> bytes:
    """A number as protobuf writes it."""
    head = b""
    while value > 127:
        head += bytes([value & 127 | 128])
        value >>= 7
    return head + bytes([value])


def entry(field: int, value: int | str | bytes) -> bytes:
    """A field of a protobuf message."""
    if isinstance(value, int):
        return number(field << 3) + number(value)
    content = value.encode() if isinstance(value, str) else value
    return number(field << 3 | 2) + number(len(content)) + content


def model_with_values_in(location: str) -> bytes:
    """A model of ONNX that gives four numbers, which lie in another file."""
    told = {"location": location, "offset": "0", "length": "16"}
    outside = b"".join(entry(13, entry(1, key) + entry(2, text)) for key, text in told.items())
    values = entry(1, 4) + entry(2, 1) + entry(8, "w") + outside + entry(14, 1)
    node = entry(1, "w") + entry(2, "out") + entry(4, "Identity")
    kind = entry(1, entry(1, 1) + entry(2, entry(1, entry(1, 4))))
    graph = entry(1, node) + entry(2, "g") + entry(5, values)
    graph += entry(12, entry(1, "out") + entry(2, kind))
    return entry(1, 8) + entry(7, graph) + entry(8, entry(1, "") + entry(2, 13))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of weights, with a file inside, one outside, and a link to that."""
    inside = tmp_path / "weights"
    inside.mkdir()
    (tmp_path / "secret.bin").write_bytes(struct.pack("<4f", 1, 2, 3, 4))
    (inside / "in.bin").write_bytes(struct.pack("<4f", 5, 6, 7, 8))
    (inside / "link.bin").symlink_to(tmp_path / "secret.bin")
    return inside


def test_a_file_beside_the_model_is_read(folder: Path) -> None:
    (folder / "encoder.onnx").write_bytes(model_with_values_in("in.bin"))
    session = _open_encoder(folder / "encoder.onnx", torch.device("cpu"))
    assert session.run(None, {})[0].tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("location", ["../secret.bin", "link.bin", "absolute"])
def test_a_file_outside_is_not_read(location: str, folder: Path) -> None:
    if location == "absolute":
        location = str(folder.parent / "secret.bin")
    (folder / "encoder.onnx").write_bytes(model_with_values_in(location))
    with pytest.raises(UsageError, match="is not an ONNX image encoder"):
        _open_encoder(folder / "encoder.onnx", torch.device("cpu"))
