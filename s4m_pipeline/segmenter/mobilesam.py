"""MobileSAM: the image encoder through onnxruntime, the decoder in the `sam2` package's modules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from sam2.modeling.sam.transformer import TwoWayTransformer
from torch import Tensor

from s4m_pipeline.artifacts.weight_files import and_what_it_is
from s4m_pipeline.devices.finite import refuse_not_finite
from s4m_pipeline.devices.transfers import to_device
from s4m_pipeline.errors import UsageError
from s4m_pipeline.segmenter.base import Embeddings, Frame
from s4m_pipeline.segmenter.decoder import DecodingSegmenter, PromptDecoder, prompts_in_a_pass
from s4m_pipeline.segmenter.mobilesam_spec import DECODER, ENCODER, IMAGE_SIZE
from s4m_pipeline.segmenter.spec import SegmenterChoice

STRIDE = 16
WIDTH = 256
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


class MobileSam(DecodingSegmenter):
    """MobileSAM from a folder with `encoder.onnx` and `decoder.safetensors`.

    The long side of an image is resized to 1024 and the rest padded with zeros. Masks are the
    256 x 256 logits resized bilinearly from the part that the image covers straight to its
    pixels; SAM's own code goes through 1024 x 1024 first, which differs by less than a pixel at
    the outline. The published ONNX graph has a batch of one written into it (a reshape), so the
    encoder runs once an image.

    Args:
        folder: Where the two files are.
        device: Where the decoder runs. The encoder runs on the CPU, or on the GPU where an
            onnxruntime with CUDA is installed.

    Raises:
        UsageError: A file is not what its name says, or onnxruntime is missing.
    """

    name = "mobilesam"
    image_size = IMAGE_SIZE

    def __init__(self, folder: Path, device: str) -> None:
        self.device = torch.device(device)
        self._encoder = _open_encoder(folder / ENCODER, self.device)
        prompt_encoder, mask_decoder = _load_decoder(folder / DECODER)
        on_cpu = self.device.type == "cpu"
        self.decoder = PromptDecoder(
            prompt_encoder.to(self.device),
            mask_decoder.to(self.device),
            prompts_in_a_pass(self.device, IMAGE_SIZE),
            mix_images=not on_cpu,
            pad_boxes=False,
        )

    def frame(self, height: int, width: int) -> Frame:
        """The long side fits, the rest is padding: see `Segmenter.frame`."""
        return frame_of(height, width)

    def encode(self, images: Sequence[np.ndarray]) -> Embeddings:
        """See `Segmenter.encode`."""
        frames = tuple(frame_of(*image.shape[:2]) for image in images)
        features = [
            self._encoder.run(None, {"input": _input(image, frame)})[0]
            for image, frame in zip(images, frames, strict=True)
        ]
        return Embeddings(
            to_device(torch.from_numpy(np.concatenate(features)), self.device), (), frames
        )


def frame_of(height: int, width: int) -> Frame:
    """How an image of ``height`` x ``width`` pixels lies in the encoder's input."""
    scale = IMAGE_SIZE / max(height, width)
    valid_height = max(1, int(height * scale + 0.5))
    valid_width = max(1, int(width * scale + 0.5))
    return Frame(height, width, valid_height, valid_width)


def _input(image: np.ndarray, frame: Frame) -> np.ndarray:
    """The encoder's float32 (1, 3, 1024, 1024): resized, normalised, then padded with zeros."""
    size = (frame.valid_width, frame.valid_height)
    resized = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    normal = (np.asarray(resized, np.float32) - MEAN) / STD
    out = np.zeros((1, 3, IMAGE_SIZE, IMAGE_SIZE), np.float32)
    out[0, :, : frame.valid_height, : frame.valid_width] = normal.transpose(2, 0, 1)
    return out


def cuda_options(device: torch.device) -> dict[str, Any]:
    """ONNX Runtime's on the GPU that torch uses; algorithms chosen by rule, so that bits repeat."""
    index = torch.cuda.current_device() if device.index is None else device.index
    return {"device_id": index, "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": 0}


def _open_encoder(path: Path, device: torch.device) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            "segmenter mobilesam needs onnxruntime: pip install 's4m-pipeline[mobilesam]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", cuda_options(device)))
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no common class of their own
        raise UsageError(f"{path} is not an ONNX image encoder{and_what_it_is(path)}") from error


def _load_decoder(path: Path) -> tuple[PromptEncoder, MaskDecoder]:
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is not a safetensors file{and_what_it_is(path)}") from error
    renamed = {
        key.replace("mlp.lin1.", "mlp.layers.0.").replace("mlp.lin2.", "mlp.layers.1."): value
        for key, value in weights.items()
    }
    cells = (IMAGE_SIZE // STRIDE, IMAGE_SIZE // STRIDE)
    prompt_encoder = PromptEncoder(WIDTH, cells, (IMAGE_SIZE, IMAGE_SIZE), mask_in_chans=16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=WIDTH, num_heads=8, mlp_dim=2048)
    mask_decoder = MaskDecoder(transformer_dim=WIDTH, transformer=transformer)
    try:
        prompt_encoder.load_state_dict(_under("prompt_encoder.", renamed))
        mask_decoder.load_state_dict(_under("mask_decoder.", renamed))
    except RuntimeError as error:
        raise UsageError(f"{path} does not hold SAM's prompt encoder and mask decoder") from error
    refuse_not_finite(prompt_encoder.state_dict(), path)
    refuse_not_finite(mask_decoder.state_dict(), path)
    return prompt_encoder.eval(), mask_decoder.eval()


def _under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def build_mobilesam_segmenter(choice: SegmenterChoice, device: str) -> MobileSam:
    """MobileSAM of a checked choice, on a torch device."""
    return MobileSam(Path(str(choice.checkpoint)), device)
