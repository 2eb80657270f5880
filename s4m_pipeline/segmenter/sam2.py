"""SAM 2 and 2.1 in batches: no predictor, no fixed feature sizes, any input size it accepts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sam2.build_sam import build_sam2
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from s4m_pipeline.artifacts.torch_files import FAULTS, TENSOR_NAMES, check_torch_file
from s4m_pipeline.artifacts.weight_files import and_what_it_is
from s4m_pipeline.config import RANDOM
from s4m_pipeline.devices.finite import refuse_not_finite
from s4m_pipeline.devices.memory import attempt
from s4m_pipeline.devices.transfers import upload
from s4m_pipeline.errors import UsageError
from s4m_pipeline.segmenter.base import Embeddings
from s4m_pipeline.segmenter.decoder import DecodingSegmenter, PromptDecoder, prompts_in_a_pass
from s4m_pipeline.segmenter.proof import LEAST_IOU, PROOF_IMAGES, lattice_masks, mean_iou
from s4m_pipeline.segmenter.sam2_spec import SAM2_CONFIGS
from s4m_pipeline.segmenter.spec import SegmenterChoice
from s4m_pipeline.segmenter.speed import FLOAT32, Speed, speed_of

IMAGE_SIZE = 1024
"""Side of the square input in pixels, unless a run asks for another."""
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Sam2Segmenter(DecodingSegmenter):
    """A SAM 2 model as a segmenter.

    Images are resized to a square, as SAM 2's own predictor does; in float32, masks are those of
    the predictor. A faster way (bfloat16, compiled) is compared with float32 on the first images,
    at most four. Where the masks differ it is given up, with a warning.

    Args:
        name: One of `sam2_spec.SAM2_CONFIGS`, or of a model of our own.
        model: A `SAM2Base`, or anything built from the `sam2` package's modules that has its
            `forward_image`, prompt encoder and mask decoder; on its device, in eval mode.
        max_prompts: Most prompts in one pass of the decoder; by device and size when None.
        speed: Precision and compilation.
    """

    def __init__(
        self,
        name: str,
        model: SAM2Base,
        max_prompts: int | None = None,
        speed: Speed = FLOAT32,
    ) -> None:
        self.name = name
        self.model = model
        self.image_size = int(model.image_size)
        self.device = model.device
        self.speed = speed
        self.proved = speed == FLOAT32
        self._trunk = model.image_encoder.trunk
        on_cpu = self.device.type == "cpu"
        self._most_images = 1 if on_cpu else 1 << 30
        self._largest = 0  # the largest batch so far; a compiled encoder's are filled up to it
        self.decoder = PromptDecoder(
            model.sam_prompt_encoder,
            model.sam_mask_decoder,
            max_prompts or prompts_in_a_pass(self.device, self.image_size),
            mix_images=not on_cpu,
            pad_boxes=True,
        )
        self._mean = torch.tensor(MEAN, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(STD, device=self.device).view(3, 1, 1)

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """The model's input, equal to that of `SAM2Transforms`.

        Args:
            images: uint8 (H, W, 3) RGB arrays of any sizes.

        Returns:
            float32 (B, 3, image_size, image_size) on the device.
        """
        size = (self.image_size, self.image_size)
        batch = []
        for image in images:
            pixels = upload(torch.from_numpy(np.ascontiguousarray(image)), self.device)
            pixels = pixels.permute(2, 0, 1).to(
                torch.float32, memory_format=torch.contiguous_format
            )
            pixels = pixels.div_(255)
            resized = F.interpolate(
                pixels[None], size, mode="bilinear", align_corners=False, antialias=True
            )[0]
            batch.append(resized.sub_(self._mean).div_(self._std))
        return batch[0][None] if len(batch) == 1 else torch.stack(batch)

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> Embeddings:
        """See `Segmenter.encode`.

        On a GPU the images make one batch, smaller ones where its memory runs out. On a CPU they
        go one by one, which is faster there and gives the same bits.
        """
        self.prove(images, len(images))
        parts: list[list[Tensor]] = []
        start = 0
        while start < len(images):
            some = images[start : start + self._most_images]
            count = max(len(some), self._largest if self.speed.compile else 0)
            part = attempt(partial(self._features, some), count)
            if part is None:
                self._most_images = self._largest = count // 2
                self.warn(f"memory ran out: {self._most_images} images a batch")
                continue
            parts.append(part)
            start += len(some)
        levels = parts[0]
        if len(parts) > 1:
            levels = [torch.cat(level) for level in zip(*parts, strict=True)]
        frames = tuple(self.frame(*image.shape[:2]) for image in images)
        return Embeddings(levels[-1], tuple(levels[:-1]), frames)

    def prove(self, images: Sequence[np.ndarray], batch: int) -> None:
        """Compare the faster way with float32, and give it up where the masks differ."""
        if self.proved:
            return
        self._largest = min(batch, self._most_images)
        self._hold_against_float32(images[:PROOF_IMAGES])

    def _hold_against_float32(self, images: Sequence[np.ndarray]) -> None:
        self.proved = True
        wanted, self.speed = self.speed, FLOAT32
        sizes = (self._most_images, self._largest, self.decoder.max_prompts)
        warnings = self.warnings
        truth = lattice_masks(self, images)
        # float32 needs more memory than the faster way: its smaller batches do not count
        self._most_images, self._largest, self.decoder.max_prompts = sizes
        self.speed, self.warnings = wanted, warnings
        try:
            self.model.image_encoder.trunk = wanted.compiled(self._trunk)
            agreement = mean_iou(lattice_masks(self, images), truth)
            fault = f"mean IoU {agreement:.4f} with the float32 masks, {LEAST_IOU} is needed"
        except RuntimeError as error:  # what torch.compile raises has no narrower common class
            agreement = 0.0
            fault = f"{type(error).__name__}: {str(error)[:150]}".splitlines()[0]
        if agreement < LEAST_IOU:
            self.speed = FLOAT32
            self.model.image_encoder.trunk = self._trunk
            self.warn(f"{wanted} is given up for float32: {fault}")

    def _features(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        inputs = self.preprocess(images)
        if self.speed.compile:  # another batch size would be compiled again
            self._largest = max(self._largest, len(images))
            inputs = torch.cat(
                [inputs, inputs[-1:].expand(self._largest - len(images), -1, -1, -1)]
            )
        with self.speed.autocast(self.device):
            out = self.model.forward_image(self.speed.laid_out(inputs))
        features = out["backbone_fpn"][-self.model.num_feature_levels :]
        levels = [level[: len(images)].float() for level in features]
        if self.model.directly_add_no_mem_embed:
            levels[-1] = levels[-1] + self.model.no_mem_embed.reshape(1, -1, 1, 1)
        return levels


def build_sam2_segmenter(choice: SegmenterChoice, device: str) -> Sam2Segmenter:
    """Make a SAM 2, ready to run.

    Args:
        choice: Its name in `SAM2_CONFIGS`; its checkpoint a file, a Hugging Face id, or "random"
            for seeded random weights.
        device: A torch device, such as `cpu` or `cuda:0`.

    Raises:
        UsageError: The checkpoint cannot be had, or is not one of this model.
    """
    model = _model(choice.name, str(choice.checkpoint), choice.image_size or IMAGE_SIZE).eval()
    speed = speed_of(choice.precision, choice.compile_encoder, torch.device(device))
    return Sam2Segmenter(choice.name, model.to(device), speed=speed)


def _model(name: str, checkpoint: str, image_size: int) -> SAM2Base:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_sam2(
            SAM2_CONFIGS[name].config,
            device="cpu",
            hydra_overrides_extra=[f"++model.image_size={image_size}"],
        )
    if checkpoint != RANDOM:
        path = Path(checkpoint) if Path(checkpoint).is_file() else _download(name, checkpoint)
        _load(model, name, path)
    return model


def _load(model: SAM2Base, name: str, path: Path) -> None:
    try:
        check_torch_file(path, TENSOR_NAMES)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, *FAULTS) as error:
        raise UsageError(
            f"{path} is not a checkpoint of SAM 2: it cannot be read{and_what_it_is(path)}"
        ) from error
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise UsageError(f"{path} is not a checkpoint of SAM 2: it holds no 'model'")
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise UsageError(f"{path} is not a checkpoint of {name}: its weights do not fit") from error
    refuse_not_finite(model.state_dict(), path)


def _download(name: str, hub_id: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo_id=hub_id, filename=SAM2_CONFIGS[name].hub_file))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UsageError(
            f"{hub_id} is not a file here and cannot be downloaded from Hugging Face; "
            "give segmenter.checkpoint a path"
        ) from error
