"""The demo's segmenter: a small SAM 2 image model whose weights ship with the package.

It is made of the ``sam2`` package's own modules (Hiera trunk, FPN neck, prompt encoder, mask
decoder) and is a ``SAM2Base``, so whatever runs SAM 2 on images runs it unchanged. What differs
from SAM 2 is size: patches of stride 2 instead of 4, so that a 128 px image still has a 16 x 16
embedding and 64 x 64 mask logits, narrow layers, and no memory (it knows no video).

``tools/train_demo_segmenter.py`` makes the weights from generated scenes of the ``pretrain``
style, which share no shape, pattern or ground with the demo's scenes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.backbones.utils import PatchEmbed
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from sam2.modeling.sam.transformer import TwoWayTransformer
from sam2.modeling.sam2_base import SAM2Base

from s4m_pipeline.devices.finite import not_finite
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.segmenter.demo_spec import DEMO_SIZE_STEP, DEMO_WEIGHTS
from s4m_pipeline.segmenter.sam2 import Sam2Segmenter
from s4m_pipeline.segmenter.spec import SegmenterChoice
from s4m_pipeline.segmenter.speed import speed_of

DEMO_IMAGE_SIZE = 128
"""Side of the square input that the weights are trained for, in pixels."""

DEMO_STRIDE = 8
"""Input pixels per cell of the image embedding."""

_WIDTH = 128
_EMBED_DIM = 24
_STAGES = (1, 2, 4, 1)
_WINDOWS = (8, 8, 16, 8)
_GLOBAL_BLOCKS = (4, 5, 6)


class DemoSegmenter(SAM2Base):
    """A ``SAM2Base`` for single images at stride 8.

    Attributes that an image engine needs, all as in ``SAM2Base``:

    - ``image_size`` and ``backbone_stride`` (8).
    - ``forward_image(images (B, 3, S, S) float32, normalised as for SAM 2)`` -> dict whose
      ``backbone_fpn`` is ``[(B, 16, S/2, S/2), (B, 32, S/4, S/4), (B, 128, S/8, S/8)]``: the two
      high resolution features, already through ``conv_s0`` and ``conv_s1``, and the embedding.
    - ``sam_prompt_encoder`` and ``sam_mask_decoder``: mask prompts and mask logits are
      S/2 x S/2; three candidates or one; predicted IoU in 0..1.
    - ``directly_add_no_mem_embed`` is False: nothing is to be added to the embedding.
    """

    def __init__(self, image_size: int = DEMO_IMAGE_SIZE) -> None:
        """Build the model with random weights.

        Args:
            image_size: Side of the square input in pixels, a multiple of 32.
        """
        super().__init__(
            image_encoder=_image_encoder(),
            memory_attention=None,
            memory_encoder=None,
            num_maskmem=0,
            image_size=image_size,
            backbone_stride=DEMO_STRIDE,
            use_high_res_features_in_sam=True,
            multimask_output_in_sam=True,
            iou_prediction_use_sigmoid=True,
        )

    def forward_image(self, img_batch: torch.Tensor) -> dict[str, Any]:
        """Encode images as ``SAM2Base.forward_image`` does, in less time.

        Neither high resolution level takes anything from above, so the neck's 1 x 1 convolution
        and the decoder's follow one another directly; they are run as one.

        Args:
            img_batch: float32 (B, 3, S, S), normalised with ImageNet's mean and deviation.

        Returns:
            ``vision_features``, ``vision_pos_enc`` and ``backbone_fpn``; see the class.
        """
        maps = self.image_encoder.trunk(img_batch)
        neck = self.image_encoder.neck
        below, above = neck.convs[1](maps[2]), neck.convs[0](maps[3])
        embedding = below + F.interpolate(above, scale_factor=2.0, mode="nearest")
        features = [
            _merged_convolutions(maps[0], neck.convs[3].conv, self.sam_mask_decoder.conv_s0),
            _merged_convolutions(maps[1], neck.convs[2].conv, self.sam_mask_decoder.conv_s1),
            embedding,
        ]
        positions = [neck.position_encoding(level) for level in features]
        return {
            "vision_features": embedding,
            "vision_pos_enc": positions,
            "backbone_fpn": features,
        }

    def _build_sam_heads(self) -> None:
        """Build the prompt encoder and the mask decoder, with narrower MLPs than SAM 2's."""
        cells = self.image_size // self.backbone_stride
        self.sam_prompt_embed_dim = self.hidden_dim
        self.sam_image_embedding_size = cells
        self.sam_prompt_encoder = PromptEncoder(
            embed_dim=self.hidden_dim,
            image_embedding_size=(cells, cells),
            input_image_size=(self.image_size, self.image_size),
            mask_in_chans=16,
        )
        self.sam_mask_decoder = MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=self.hidden_dim, mlp_dim=512, num_heads=4
            ),
            transformer_dim=self.hidden_dim,
            iou_head_depth=3,
            iou_head_hidden_dim=128,
            use_high_res_features=True,
            iou_prediction_use_sigmoid=True,
        )
        self.obj_ptr_proj = torch.nn.Identity()
        self.obj_ptr_tpos_proj = torch.nn.Identity()


def _merged_convolutions(
    image: torch.Tensor, first: torch.nn.Conv2d, second: torch.nn.Conv2d
) -> torch.Tensor:
    """Run two 1 x 1 convolutions as one: (B, C, H, W) -> (B, second's channels, H, W)."""
    outer, inner = second.weight[:, :, 0, 0], first.weight[:, :, 0, 0]
    if first.bias is None or second.bias is None:
        raise TypeError("both convolutions need a bias")
    weight = (outer @ inner)[:, :, None, None]
    return F.conv2d(image, weight, outer @ first.bias + second.bias)


def _image_encoder() -> ImageEncoder:
    """Hiera trunk with stride 2, 4, 8 and 16 maps, and the neck that merges the last two."""
    trunk = Hiera(
        embed_dim=_EMBED_DIM,
        num_heads=1,
        stages=_STAGES,
        window_spec=_WINDOWS,
        global_att_blocks=_GLOBAL_BLOCKS,
        window_pos_embed_bkg_spatial_size=(8, 8),
    )
    trunk.patch_embed = PatchEmbed(stride=(2, 2), embed_dim=_EMBED_DIM)
    neck = FpnNeck(
        position_encoding=PositionEmbeddingSine(_WIDTH, warmup_cache=False),
        d_model=_WIDTH,
        backbone_channel_list=trunk.channel_list,
        fpn_interp_model="nearest",
        fpn_top_down_levels=[2, 3],
    )
    return ImageEncoder(trunk=trunk, neck=neck, scalp=1)


def build_demo_model(image_size: int = DEMO_IMAGE_SIZE) -> DemoSegmenter:
    """Build the demo's segmenter with random weights, in evaluation mode, on the CPU.

    Args:
        image_size: Side of the square input in pixels.

    Raises:
        UsageError: The size is no positive multiple of 32.
    """
    if image_size < DEMO_SIZE_STEP or image_size % DEMO_SIZE_STEP:
        raise UsageError(
            f"segmenter 'demo' cannot take images of {image_size} px: "
            f"the size must be a multiple of {DEMO_SIZE_STEP}"
        )
    return DemoSegmenter(image_size).eval()


def load_demo_weights(model: torch.nn.Module, path: Path | None = None) -> torch.nn.Module:
    """Load weights into a model from ``build_demo_model``; they become the model's own dtype.

    Args:
        model: The model, changed in place.
        path: A safetensors file; None for the weights that ship with the package.

    Returns:
        The model.

    Raises:
        ArtifactError: The file is missing, is no safetensors file, or holds another model, or
            weights that are not finite.
    """
    source = DEMO_WEIGHTS if path is None else path
    if not source.is_file():
        raise ArtifactError(f"no weights of the demo's segmenter at {source}")
    try:
        tensors = load_file(source)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{source} is not a safetensors file: {error}") from error
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ArtifactError(f"{source} holds another model than the demo's segmenter") from error
    fault = not_finite(model.state_dict())
    if fault is not None:
        raise ArtifactError(f"{source} cannot be used: {fault}")
    return model


def build_demo_segmenter(choice: SegmenterChoice, device: str) -> Sam2Segmenter:
    """Make the demo's segmenter, ready to run.

    Args:
        choice: Its checkpoint is a safetensors file, or None for the packaged weights.
        device: A torch device, such as `cpu` or `cuda:0`.

    Raises:
        UsageError: The checkpoint is not one of this model.
    """
    model = build_demo_model(choice.image_size or DEMO_IMAGE_SIZE)
    try:
        load_demo_weights(model, None if choice.checkpoint is None else Path(choice.checkpoint))
    except ArtifactError as error:
        if choice.checkpoint is None:
            raise
        raise UsageError(str(error)) from error
    speed = speed_of(choice.precision, choice.compile_encoder, torch.device(device))
    return Sam2Segmenter(choice.name, model.to(device), speed=speed)
