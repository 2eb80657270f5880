"""A SAM 2 whose network is replaced by its answers, so that all other work can be timed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from s4m_pipeline.segmenter import decoder
from s4m_pipeline.segmenter.sam2 import Sam2Segmenter

FEATURES = (256, 128, 64)
"""Sides of SAM 2's feature maps at 1024 px, which `SAM2ImagePredictor` takes for granted."""


class AnsweringModel(nn.Module):
    """What `SAM2ImagePredictor` and `Sam2Segmenter` ask of a `SAM2Base`, without arithmetic.

    Args:
        answers: float32 (N, 4, 256, 256), mask logits: the single-mask output first.
        scores: float32 (N, 4), the decoder's scores of them.
    """

    image_size = 1024
    num_feature_levels = 3
    directly_add_no_mem_embed = False

    def __init__(self, answers: Tensor, scores: Tensor) -> None:
        super().__init__()
        self.image_encoder = nn.ModuleDict({"trunk": nn.Identity()})
        self.sam_prompt_encoder = _PromptEncoder()
        self.sam_mask_decoder = _MaskDecoder(answers, scores)
        self.features = [torch.zeros(1, 1, side, side) for side in FEATURES]

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.features[0].device

    def forward_image(self, images: Tensor) -> dict[str, Any]:
        """The features of an image, float32 (1, 3, 1024, 1024): zeros."""
        return {"backbone_fpn": list(self.features), "vision_pos_enc": list(self.features)}

    def _prepare_backbone_features(
        self, out: dict[str, Any]
    ) -> tuple[dict[str, Any], list[Tensor], list[Tensor], list[tuple[int, int]]]:
        """The same features as the predictor wants them, (cells, 1, channels)."""
        flat = [level.flatten(2).permute(2, 0, 1) for level in out["backbone_fpn"]]
        return out, flat, flat, [(side, side) for side in FEATURES]


class _PromptEncoder(nn.Module):
    def get_dense_pe(self) -> Tensor:
        return torch.zeros(1, 1, 64, 64)

    def forward(self, points: Any, boxes: Any, masks: Any) -> tuple[Tensor, Tensor]:
        """Tokens that only say how many prompts there are."""
        return torch.zeros(len(points[0]), 1, 1), torch.zeros(1, 1, 64, 64)


class _MaskDecoder(nn.Module):
    """Answers prompts in the order of the instances, over and over."""

    num_multimask_outputs = 3

    def __init__(self, answers: Tensor, scores: Tensor) -> None:
        super().__init__()
        self.answers = nn.Parameter(answers, requires_grad=False)
        self.scores = nn.Parameter(scores, requires_grad=False)
        self.place = 0

    def forward(
        self, sparse_prompt_embeddings: Tensor, multimask_output: bool, **_: Any
    ) -> tuple[Tensor, Tensor, None, None]:
        start, stop = self.place, self.place + len(sparse_prompt_embeddings)
        if stop > len(self.answers):
            raise ValueError("more prompts than instances")
        self.place = stop % len(self.answers)
        kept = slice(1, None) if multimask_output else slice(0, 1)
        return self.answers[start:stop, kept], self.scores[start:stop, kept], None, None


def answering_segmenter(model: AnsweringModel) -> Sam2Segmenter:
    """A segmenter that gives the model's answers; from then on no other decodes in the process."""

    def answer(module: _MaskDecoder, *inputs: Any) -> tuple[Tensor, Tensor]:
        _, _, sparse, _, multimask = inputs
        return module(sparse, multimask)[:2]

    decoder.answer = answer  # type: ignore[assignment]
    decoder.added_levels = lambda *_: (torch.zeros(1), torch.zeros(1))
    return Sam2Segmenter("answering", model)  # type: ignore[arg-type]
