import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.conversion.pickled_arrays import KINDS, read_pickled_arrays
from s4m_pipeline.models.conversion.source import read_content


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def written(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_kind_and_order_come_out_as_numpy_reads_them(
    protocol: int, tmp_path: Path
) -> None:
    draw = np.random.default_rng(0)
    content: dict[str, Any] = {}
    for kind in sorted(KINDS):
        values = (draw.normal(size=(3, 4)) * 9).astype(kind)
        content[kind] = values
        content[f"columns {kind}"] = np.asfortranarray(values)
        content[f"big {kind}"] = values.astype(np.dtype(kind).newbyteorder(">"))
    content |= {"none": np.zeros((0, 3), "f4"), "one": np.array(2.5), "slice": draw.random((4, 6))}
    content["slice"] = content["slice"][::2, 1:4]
    nested = {"model": OrderedDict(content), "list": [np.float64(0.5), 3, "text", None, (True,)]}
    arrays = read_pickled_arrays(written(tmp_path / "a.pkl", nested, protocol))
    assert arrays["list"] == [0.5, 3, "text", None, (True,)]
    assert arrays["model"].keys() == content.keys()
    for name, value in content.items():
        assert arrays["model"][name].shape == value.shape, name
        native = value.astype(value.dtype.newbyteorder("="))
        assert torch.equal(arrays["model"][name], torch.from_numpy(native.copy(order="C"))), name


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    # What Python 2 and its numpy wrote for {"a": numpy.arange(2, dtype="f4")}, protocol 2.
    (tmp_path / "a.pkl").write_bytes(
        b"\x80\x02}q\x00U\x01aq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\n"
        b"q\x03K\x00\x85q\x04U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\tU\x02"
        b"f4q\nK\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
        b"tq\x0eb\x89U\x08\x00\x00\x00\x00\x00\x00\x80?q\x0ftq\x10bs."
    )
    assert torch.equal(read_pickled_arrays(tmp_path / "a.pkl")["a"], torch.arange(2.0))


@pytest.mark.parametrize(
    "function",
    [os.system, eval, getattr, __import__, np.load, np.fromfile, np.memmap, pickle.loads],
)
def test_nothing_that_a_file_names_is_called(function: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "a.pkl", {"a": Calls(function, f"touch {tmp_path / 'ran'}")})
    with pytest.raises(UsageError, match=r"names .*, which is no array"):
        read_pickled_arrays(path)
    with pytest.raises(UsageError):
        read_content(path)
    assert not (tmp_path / "ran").exists()


def test_objects_inside_arrays_tensors_and_subclasses_are_refused(tmp_path: Path) -> None:
    reconstruct = np.zeros(1).__reduce__()[0]
    for content, told in (
        ({"a": np.array([Calls(os.system, "true")], dtype=object)}, "kind 'O8'|posix"),
        ({"a": np.array(["text"])}, "kind 'U4'"),
        ({"a": np.zeros(1, dtype=[("x", "f4")])}, "kind 'V4'"),
        ({"a": torch.zeros(1)}, r"torch\._utils"),
        ({"a": np.ma.zeros(1)}, r"numpy\.ma"),
        ({"a": Calls(reconstruct, OrderedDict, (0,), b"b")}, "only plain arrays"),
        ({"a": Calls(reconstruct, np.ndarray, (0,), b"b")}, "without content"),
        ([np.zeros(1)], "holds a list"),
    ):
        with pytest.raises(UsageError, match=told):
            read_pickled_arrays(written(tmp_path / "a.pkl", content))


def test_bytes_that_do_not_fill_the_shape_are_refused(tmp_path: Path) -> None:
    whole = pickle.dumps({"a": np.arange(4, dtype="f4").reshape(2, 2)}, protocol=2)
    for shape in (b"K\x02K\x03", b"K\x01K\x02", b"J\xfe\xff\xff\xffJ\xfe\xff\xff\xff"):
        changed = whole.replace(b"K\x02K\x02", shape)
        assert changed != whole
        (tmp_path / "a.pkl").write_bytes(changed)
        with pytest.raises(UsageError, match=r"do not fill its shape|no shape of an"):
            read_pickled_arrays(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", b"\x80\x04", b"\x80\x04}q\x00.rest", b"\x00"]
)
def test_what_is_no_pickle_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    if content.startswith(b"\x80\x04}"):
        assert read_pickled_arrays(tmp_path / "a.pkl") == {}
        return
    with pytest.raises(UsageError, match="not a pickle of arrays alone"):
        read_pickled_arrays(tmp_path / "a.pkl")


def test_a_file_of_torch_that_is_named_pkl_is_read_as_torchs(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pkl")
    assert zipfile.is_zipfile(tmp_path / "a.pkl")
    assert torch.equal(read_content(tmp_path / "a.pkl")["a"], torch.ones(2))
    with pytest.raises(UsageError, match="no checkpoint here"):
        read_content(tmp_path / "none.pkl")
