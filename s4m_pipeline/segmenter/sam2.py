"""SAM 2 and 2.1 in batches: no predictor, no fixed feature sizes, any input size it accepts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from s4m_pipeline.segmenter.base import Candidates, Embeddings, Frame, Prompts, Segmenter
from s4m_pipeline.segmenter.decoder import PromptDecoder

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
CPU_PROMPTS = 16
GPU_PROMPTS = 128


class Sam2Segmenter(Segmenter):
    """A SAM 2 model as a segmenter.

    Images are resized to a square, as SAM 2's own predictor does; masks are those of the
    predictor.

    Args:
        name: Its name in `build.SEGMENTERS`.
        model: A `SAM2Base`, or anything built from the `sam2` package's modules that has its
            `forward_image`, prompt encoder and mask decoder; on its device, in eval mode.
        max_prompts: Most prompts in one pass of the decoder; by device when None.
    """

    def __init__(self, name: str, model: SAM2Base, max_prompts: int | None = None) -> None:
        self.name = name
        self.model = model
        self.image_size = int(model.image_size)
        self.device = model.device
        on_cpu = self.device.type == "cpu"
        self.decoder = PromptDecoder(
            model.sam_prompt_encoder,
            model.sam_mask_decoder,
            max_prompts or (CPU_PROMPTS if on_cpu else GPU_PROMPTS),
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
            pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
            pixels = pixels.permute(2, 0, 1).contiguous().float().div(255)
            resized = F.interpolate(
                pixels[None], size, mode="bilinear", align_corners=False, antialias=True
            )[0]
            batch.append(resized.sub_(self._mean).div_(self._std))
        return torch.stack(batch)

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> Embeddings:
        """See `Segmenter.encode`.

        On a GPU the images make one batch. On a CPU they go one by one, which is faster there
        and gives the same bits.
        """
        size = 1 if self.device.type == "cpu" else len(images)
        parts = [self._features(images[i : i + size]) for i in range(0, len(images), size)]
        levels = [torch.cat(level) for level in zip(*parts, strict=True)]
        frames = tuple(self._frame(*image.shape[:2]) for image in images)
        return Embeddings(levels[-1], tuple(levels[:-1]), frames)

    def _features(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        out = self.model.forward_image(self.preprocess(images))
        levels = list(out["backbone_fpn"][-self.model.num_feature_levels :])
        if self.model.directly_add_no_mem_embed:
            levels[-1] = levels[-1] + self.model.no_mem_embed.reshape(1, -1, 1, 1)
        return levels

    def decode(
        self, embeddings: Embeddings, prompts: Sequence[Prompts], multimask: bool
    ) -> list[Candidates]:
        """See `Segmenter.decode`."""
        return self.decoder.decode(embeddings, prompts, multimask)

    def structure_features(self, embeddings: Embeddings, index: int, points: np.ndarray) -> Tensor:
        """See `Segmenter.structure_features`."""
        return self.decoder.structure_features(embeddings, index, points)

    def _frame(self, height: int, width: int) -> Frame:
        return Frame(height, width, self.image_size, self.image_size)
