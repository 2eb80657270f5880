"""Mask2Former as its authors publish it (detectron2): the names of its tensors.

Levels run from coarse to fine in both layouts, "no object" is the last class in both, and attention
keeps its query, key and value in one matrix in both, so that names are all that differs in the
head. Checkpoints older than the second version of that code call the queries' features
``static_query`` and leave ``pixel_decoder`` out of names: such are read, but not written.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from s4m_pipeline.models.conversion import resnet, swin
from s4m_pipeline.models.conversion.keys import Renamed, Rule, below, to_ours, to_theirs

HEAD = "sem_seg_head."
PREDICTOR = HEAD + "predictor."
PIXEL_DECODER = HEAD + "pixel_decoder."
CLASS_WEIGHTS = "criterion.empty_weight"
"""Weight of each class in the loss, the last of "no object": a tensor there, config here."""
COUNT = "num_batches_tracked"

_ENCODER_THEIRS, _ENCODER_OURS = "transformer.encoder.layers.{}.", "encoder.layers.{}."
_PIXEL_DECODER = [
    Rule("input_proj.{}.0.*", "input_convs.{}.conv.*"),
    Rule("input_proj.{}.1.*", "input_convs.{}.gn.*"),
    Rule("transformer.level_embed", "level_encoding.weight"),
    Rule(_ENCODER_THEIRS + "self_attn.*", _ENCODER_OURS + "self_attn.*"),
    Rule(_ENCODER_THEIRS + "linear1.*", _ENCODER_OURS + "ffn.layers.0.0.*"),
    Rule(_ENCODER_THEIRS + "linear2.*", _ENCODER_OURS + "ffn.layers.1.*"),
    Rule(_ENCODER_THEIRS + "norm1.*", _ENCODER_OURS + "norms.0.*"),
    Rule(_ENCODER_THEIRS + "norm2.*", _ENCODER_OURS + "norms.1.*"),
    Rule("adapter_1.norm.*", "lateral_convs.0.gn.*"),
    Rule("adapter_1.weight", "lateral_convs.0.conv.weight"),
    Rule("layer_1.norm.*", "output_convs.0.gn.*"),
    Rule("layer_1.weight", "output_convs.0.conv.weight"),
    Rule("mask_features.*", "mask_feature.*"),
]
_LAYER = "transformer_decoder.layers.{}."
_PREDICTOR = [
    Rule("transformer_cross_attention_layers.{}.multihead_attn.*", _LAYER + "cross_attn.attn.*"),
    Rule("transformer_cross_attention_layers.{}.norm.*", _LAYER + "norms.0.*"),
    Rule("transformer_self_attention_layers.{}.self_attn.*", _LAYER + "self_attn.attn.*"),
    Rule("transformer_self_attention_layers.{}.norm.*", _LAYER + "norms.1.*"),
    Rule("transformer_ffn_layers.{}.linear1.*", _LAYER + "ffn.layers.0.0.*"),
    Rule("transformer_ffn_layers.{}.linear2.*", _LAYER + "ffn.layers.1.*"),
    Rule("transformer_ffn_layers.{}.norm.*", _LAYER + "norms.2.*"),
    Rule("decoder_norm.*", "transformer_decoder.post_norm.*"),
    Rule("query_feat.weight", "query_feat.weight"),
    Rule("query_embed.weight", "query_embed.weight"),
    Rule("level_embed.weight", "level_embed.weight"),
    Rule("input_proj.{}.*", "decoder_input_projs.{}.*"),
    Rule("class_embed.*", "cls_embed.*"),
    # MMDetection counts the activations between the layers.
    Rule("mask_embed.layers.0.*", "mask_embed.0.*"),
    Rule("mask_embed.layers.1.*", "mask_embed.2.*"),
    Rule("mask_embed.layers.2.*", "mask_embed.4.*"),
]
RULES = [
    *below("backbone.", "backbone.", [*resnet.RULES, *swin.RULES]),
    *below(PIXEL_DECODER, "panoptic_head.pixel_decoder.", _PIXEL_DECODER),
    *below(PREDICTOR, "panoptic_head.", _PREDICTOR),
]


def from_detectron2(tensors: Mapping[str, Tensor]) -> Renamed:
    """Rename a Mask2Former's tensors to MMDetection's names.

    Args:
        tensors: A model's tensors without any wrapper's prefix. The weights of the classes in the
            loss, which are config in MMDetection, must have been taken out.
    """
    return to_ours({_modern(name): value for name, value in tensors.items()}, RULES)


def to_detectron2(tensors: Mapping[str, Tensor], class_weights: list[float]) -> Renamed:
    """Rename MMDetection's tensors to those of Mask2Former in detectron2.

    Args:
        tensors: A model's tensors.
        class_weights: The weight of each class in the loss, the last of "no object".

    Returns:
        The tensors. Batch normalisations that never counted a batch, having been frozen, get no
        count: detectron2's ``FrozenBN`` has none.
    """
    counted = {
        name: value
        for name, value in tensors.items()
        if not name.endswith(COUNT) or bool(value.any())
    }
    renamed = to_theirs(counted, RULES)
    renamed.tensors[CLASS_WEIGHTS] = torch.tensor(class_weights, dtype=torch.float32)
    return renamed


def _modern(name: str) -> str:
    """A name as the code's second version has it."""
    if name.startswith(HEAD) and not name.startswith((PREDICTOR, PIXEL_DECODER)):
        name = PIXEL_DECODER + name[len(HEAD) :]
    return name.replace("predictor.static_query.", "predictor.query_feat.")
