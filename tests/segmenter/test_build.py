"""Segmenters by name: what is refused, with which message, and what is built."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose
from hydra.utils import instantiate
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES

from s4m_pipeline.errors import UsageError
from s4m_pipeline.segmenter.build import build_segmenter, check_segmenter, segmenter_names
from s4m_pipeline.segmenter.sam2_spec import SAM2_CONFIGS
from s4m_pipeline.segmenter.spec import SegmenterChoice

TINY = "sam2.1_hiera_tiny"


def test_every_official_configuration_has_a_name() -> None:
    theirs = {hub: tuple(names) for hub, names in HF_MODEL_ID_TO_FILENAMES.items()}
    assert {c.hub_id: (c.config, c.hub_file) for c in SAM2_CONFIGS.values()} == theirs
    assert set(segmenter_names()) == {*SAM2_CONFIGS, "mobilesam", "demo"}


@pytest.mark.parametrize(
    ("name", "checkpoint", "size", "message"),
    [
        ("sam3", None, None, "unknown segmenter 'sam3'"),
        (TINY, None, None, "needs segmenter.checkpoint"),
        (TINY, "absent.pt", None, "no checkpoint absent.pt"),
        (TINY, "weights/absent.pt", None, "no checkpoint weights/absent.pt"),
        (TINY, "facebook/sam2-hiera-large", None, "not the checkpoint of segmenter"),
        (TINY, "random", 1000, "multiple of 32 px, not 1000; the nearest is 992"),
        (TINY, "random", 0, "the nearest is 32"),
        (TINY, "random", -64, "the nearest is 32"),
        ("mobilesam", ".", 512, "1024 px only"),
        ("mobilesam", None, None, "needs segmenter.checkpoint"),
        ("mobilesam", "absent", None, "no encoder.onnx in absent"),
        ("demo", None, 100, "multiple of 32"),
        ("demo", "absent.safetensors", None, "no checkpoint absent.safetensors"),
    ],
)
def test_wrong_choices(name: str, checkpoint: str | None, size: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_segmenter(SegmenterChoice(name, checkpoint, size))
    with pytest.raises(UsageError, match=message):
        build_segmenter(name, checkpoint, size, "cpu")


def test_hub_id_is_taken_without_a_look_at_the_network() -> None:
    check_segmenter(SegmenterChoice("sam2.1_hiera_large", "facebook/sam2.1-hiera-large", 1024))


@pytest.mark.parametrize("kind", ["text", "other", "list"])
def test_a_checkpoint_that_is_none(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights.pt"
    if kind == "text":
        path.write_text("not a checkpoint")
    else:
        torch.save({"model": {"a": torch.ones(1)}} if kind == "other" else [1], path)
    with pytest.raises(UsageError, match=r"weights\.pt is not a checkpoint of"):
        build_segmenter(TINY, path, 64, "cpu")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"model": Path("x")}, path)
    with pytest.raises(UsageError, match="cannot be read"):
        build_segmenter(TINY, path, 64, "cpu")


def test_a_checkpoint_is_loaded(tmp_path: Path) -> None:
    made = build_segmenter(TINY, "random", 64, "cpu")
    model = made.model  # type: ignore[attr-defined]
    with torch.no_grad():
        model.no_mem_embed.fill_(0.25)
    path = tmp_path / "weights.pt"
    torch.save({"model": model.state_dict()}, path)
    loaded = build_segmenter(TINY, path, 96, "cpu")
    assert loaded.image_size == 96
    assert not loaded.model.training  # type: ignore[attr-defined]
    assert (loaded.model.no_mem_embed == 0.25).all()  # type: ignore[attr-defined]


def test_mobilesam_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_text("x")
    (tmp_path / "decoder.safetensors").write_text("x")
    with pytest.raises(UsageError, match=r"encoder\.onnx is not an ONNX image encoder"):
        build_segmenter("mobilesam", tmp_path, None, "cpu")


@pytest.mark.parametrize(
    "name", ["sam2.1_hiera_tiny", "sam2_hiera_base_plus", "sam2.1_hiera_large"]
)
def test_encoders_take_multiples_of_32_and_nothing_else(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "linspace", functools.partial(torch.linspace, device="cpu"))
    with torch.device("meta"):
        trunk = instantiate(
            compose(config_name=SAM2_CONFIGS[name].config).model.image_encoder.trunk
        )
        for size in (32, 96, 224, 480, 1024):
            levels = trunk(torch.empty(1, 3, size, size))
            assert [x.shape[-1] for x in levels] == [size // s for s in (4, 8, 16, 32)]
        for size in (48, 1000):
            with pytest.raises(RuntimeError):
                trunk(torch.empty(1, 3, size, size))


def test_checking_needs_no_torch() -> None:
    code = (
        "import sys; from s4m_pipeline.segmenter.build import check_segmenter, segmenter_names;"
        "from s4m_pipeline.segmenter.spec import SegmenterChoice;"
        "check_segmenter(SegmenterChoice('sam2.1_hiera_tiny', 'random', 512)); segmenter_names();"
        "sys.exit('torch' in sys.modules or 'sam2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_weights_that_are_a_web_page_are_told(tmp_path: Path) -> None:
    from s4m_pipeline.segmenter import mobilesam, sam2
    from tests.artifacts.test_weight_files import PAGE

    path = tmp_path / "page.pt"
    path.write_bytes(PAGE)
    for load in (
        lambda: sam2._load(None, "sam2.1_hiera_tiny", path),  # type: ignore[arg-type]
        lambda: mobilesam._load_decoder(path),
    ):
        with pytest.raises(UsageError, match=r"page\.pt is not .*\nit is a web page"):
            load()
