"""Files of weights with other bytes are read as data or refused."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from s4m_pipeline.artifacts.digest_beside import is_whole_archive, write_digest
from s4m_pipeline.artifacts.weight_files import what_it_is
from s4m_pipeline.models.conversion.pickled_arrays import read_pickled_arrays
from s4m_pipeline.models.conversion.source import read_content, tensors_of
from s4m_pipeline.models.safe_load import load_checkpoint_file
from s4m_pipeline.segmenter.demo import load_demo_weights
from s4m_pipeline.segmenter.mobilesam import _load_decoder
from s4m_pipeline.segmenter.sam2 import _load
from tests.fuzz.answers import answer, feed, fuzzed
from tests.fuzz.inputs import damaged_bytes

ARRAYS = {"model": {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": 3}, "author": "x"}
PICKLES = [pickle.dumps(ARRAYS, protocol) for protocol in (0, 2, 4, 5)]


@fuzzed
@given(st.sampled_from(PICKLES).flatmap(damaged_bytes) | st.binary(max_size=64))
def test_pickles(folder, data):
    path = folder / "model.pkl"
    feed(path, data)
    content = answer(lambda: read_pickled_arrays(path))
    assert content is None or isinstance(content, dict)


def checkpoint() -> bytes:
    out = io.BytesIO()
    torch.save({"state_dict": {"w": torch.arange(6.0)}, "meta": {"classes": ["a"]}}, out)
    return out.getvalue()


CHECKPOINT = checkpoint()


SAFE = save({"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor([3]).half()})


@fuzzed
@given(
    damaged_bytes(CHECKPOINT) | damaged_bytes(SAFE) | st.binary(max_size=64),
    st.sampled_from(["model.pth", "model.safetensors", "model.pkl"]),
)
@pytest.mark.filterwarnings("ignore")
def test_checkpoints(folder, data, name):
    path = folder / name
    feed(path, data)
    content = answer(lambda: load_checkpoint_file(path)) if name != "model.pkl" else None
    assert content is None or isinstance(content, dict)
    tensors = answer(lambda: tensors_of(read_content(path), path)) or {}
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    told = answer(lambda: what_it_is(path))
    assert told is None or len(told.splitlines()) == 1


@fuzzed
@given(damaged_bytes(CHECKPOINT))
def test_checkpoints_of_a_stopped_training(folder, data):
    """One counts as whole only where it is, byte for byte."""
    path = folder / "iter_10.pth"
    path.write_bytes(CHECKPOINT)
    write_digest(path)
    feed(path, data)
    assert answer(lambda: is_whole_archive(path)) == (data == CHECKPOINT)


class Small(torch.nn.Module):
    """Stands for a segmenter's model: it has the weights of ``SAFE``."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(2, 3))
        self.n = torch.nn.Parameter(torch.zeros(1))


SAM = io.BytesIO()
torch.save({"model": Small().state_dict()}, SAM)


@fuzzed
@given(
    st.one_of(
        damaged_bytes(SAFE).map(lambda data: ("demo", data)),
        damaged_bytes(SAM.getvalue()).map(lambda data: ("sam2", data)),
        damaged_bytes(SAFE).map(lambda data: ("mobilesam", data)),
    )
)
@pytest.mark.filterwarnings("ignore")
def test_weights_of_segmenters(folder, case):
    kind, data = case
    path, model = folder / f"weights.{kind}", Small()
    feed(path, data)
    if kind == "demo":
        done = answer(lambda: load_demo_weights(model, path))
    elif kind == "sam2":
        done = answer(lambda: _load(model, "sam2.1_hiera_tiny", path) or model)
    else:
        done = answer(lambda: _load_decoder(path))  # whose file this never is
    if done is not None:
        assert all(value.isfinite().all() for value in model.state_dict().values())
