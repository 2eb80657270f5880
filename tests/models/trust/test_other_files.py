"""What is given as weights and is something else, through the readers of checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file

from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.checkpoints import read_checkpoint
from s4m_pipeline.models.conversion.source import read_content
from s4m_pipeline.models.start_weights import check_start_weights
from tests.artifacts.test_weight_files import LFS, PAGE


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".pkl"])
@pytest.mark.parametrize(
    ("content", "told"), [(PAGE, "a web page"), (LFS, "Git LFS pointer"), (b"Not Found", "a text")]
)
def test_what_is_no_file_of_weights_is_told(
    content: bytes, told: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"{path}\nit is .*{told}"):
        read_content(path)
    with pytest.raises(UsageError, match=told):
        check_start_weights("mask2former_demo", 3, path)
    with pytest.raises(UsageError, match=told if suffix != ".pkl" else "it is"):
        read_checkpoint(path)


@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
@pytest.mark.parametrize("new", [True, False])
def test_a_download_that_was_cut_short_is_told(share: float, new: bool, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
    state = {f"layer{n}": torch.arange(1000.0) for n in range(20)}
    torch.save(state, whole, _use_new_zipfile_serialization=new)
    content = whole.read_bytes()
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UsageError, match=r"cut\.pth\n.*(cut short|unexpected EOF|corrupted)"):
        read_content(cut)
    tensors = tmp_path / "cut.safetensors"
    save_file(state, tensors)
    content = tensors.read_bytes()
    tensors.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UsageError, match=r"cut\.safetensors\n.*cut short \("):
        read_content(tensors)


def test_misnamed_files_are_told(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match=r"rename it to end in \.pth"):
        read_content(tmp_path / "a.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "b.safetensors")
    (tmp_path / "b.safetensors").rename(tmp_path / "b.pth")
    with pytest.raises(UsageError, match=r"rename it to end in \.safetensors"):
        read_content(tmp_path / "b.pth")


def test_a_whole_model_of_another_tool_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("ultralytics")
    monkeypatch.setitem(sys.modules, "ultralytics", module)
    kind = type("DetectionModel", (), {"__module__": "ultralytics"})
    module.DetectionModel = kind  # type: ignore[attr-defined]
    torch.save({"model": kind()}, tmp_path / "yolo.pt")
    with pytest.raises(UsageError, match=r"names ultralytics\.DetectionModel[\s\S]*Ultralytics"):
        read_content(tmp_path / "yolo.pt")


def test_a_model_of_torchscript_is_told(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(UsageError, match="TorchScript"):
        read_content(tmp_path / "script.pt")
