import builtins
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.models.safe_load import load_checkpoint_file


class RunsCommand:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


class LooksUp:
    """Pickles as a call of getattr, which alone leads anywhere."""

    def __init__(self, owner: object, name: str) -> None:
        self.owner, self.name = owner, name

    def __reduce__(self) -> tuple[Any, ...]:
        return builtins.getattr, (self.owner, self.name)


def test_history_buffers_survive(tmp_path: Path) -> None:
    buffer = HistoryBuffer()
    for value in (1.0, 2.0, 6.0):
        buffer.update(value)
    content = {"log": buffer, "figure": np.float64(0.5), "weights": torch.arange(3)}
    torch.save(content, tmp_path / "a.pth")
    loaded = load_checkpoint_file(tmp_path / "a.pth")
    assert loaded["log"].mean() == 3.0
    assert loaded["log"].statistics("max") == 6.0
    assert loaded["figure"] == 0.5
    assert torch.equal(loaded["weights"], torch.arange(3))


def test_a_pickle_that_runs_a_command_is_refused_and_does_not_run(tmp_path: Path) -> None:
    torch.save({"a": RunsCommand(tmp_path / "ran")}, tmp_path / "a.pth")
    with pytest.raises(UsageError, match="can be read safely"):
        load_checkpoint_file(tmp_path / "a.pth")
    prepare()
    with pytest.raises(UsageError):
        CheckpointLoader.load_checkpoint(str(tmp_path / "a.pth"), map_location="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["__init__", "__globals__", "__class__", "update", "__dict__"])
def test_getattr_reaches_only_the_statistics(tmp_path: Path, name: str) -> None:
    torch.save({"a": LooksUp(HistoryBuffer, name)}, tmp_path / "a.pth")
    with pytest.raises(UsageError, match="not allowed"):
        load_checkpoint_file(tmp_path / "a.pth")


def test_getattr_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"a": LooksUp(np.ndarray, "mean")}, tmp_path / "a.pth")
    with pytest.raises(UsageError, match="not allowed"):
        load_checkpoint_file(tmp_path / "a.pth")


def test_nothing_stays_allowed_after_a_read(tmp_path: Path) -> None:
    torch.save({"a": HistoryBuffer()}, tmp_path / "a.pth")
    load_checkpoint_file(tmp_path / "a.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pth", weights_only=True)


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 cut short"])
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.pth"):
        load_checkpoint_file(path)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_file_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"anything")

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    # Whoever runs the tests may be root, who may read everything.
    monkeypatch.setattr("torch.load", refuse)
    monkeypatch.setattr("s4m_pipeline.models.safe_load.load_file", refuse)
    with pytest.raises(UsageError, match=r"cannot read .*Permission denied"):
        load_checkpoint_file(path)


def test_a_missing_file_and_a_bare_tensor(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint here"):
        load_checkpoint_file(tmp_path / "none.pth")
    torch.save(torch.zeros(1), tmp_path / "tensor.pth")
    with pytest.raises(UsageError, match="holds a Tensor"):
        load_checkpoint_file(tmp_path / "tensor.pth")
