"""SAM's two-way transformer for many prompts on few images, in less arithmetic.

The same functions as the `sam2` package's. In the first layer the cells of an image are the same
for all its prompts, so they are projected once. Afterwards each prompt has thousands of cells and
a handful of tokens, so a projection of the cells that only meets tokens is folded into the tokens:
q . (W k) = (W^T q) . k, and sum a (W v) = W (sum a v).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor


def two_way(
    decoder: MaskDecoder, image: Tensor, position: Tensor, sparse: Tensor, last: bool = True
) -> tuple[Tensor, Tensor]:
    """Let the prompts' tokens and the image's cells attend to each other.

    Args:
        decoder: SAM's mask decoder, in eval mode.
        image: (1 or P, C, h, w), image embedding plus the dense embedding of the prompt; 1 where
            all prompts have the same.
        position: (1, C, h, w), positional encoding of the cells.
        sparse: (P, T, C), the prompts' tokens.
        last: Whether the tokens attend to the cells once more after the last layer, which only
            masks need.

    Returns:
        (P, T', C), the decoder's own tokens before the prompts'; and (P, h * w, C) cells.
    """
    tokens = torch.cat([_output_tokens(decoder).expand(len(sparse), -1, -1), sparse], dim=1)
    queries = tokens
    cells = image.flatten(2).transpose(1, 2)
    place = position.flatten(2).transpose(1, 2)
    transformer = decoder.transformer
    for number, layer in enumerate(transformer.layers):
        shared = number == 0 and len(image) == 1
        queries, cells = _layer(layer, queries, cells, tokens, place, shared)
    if last:
        to_image = transformer.final_attn_token_to_image
        seen = _tokens_from_image(to_image, queries + tokens, cells + place, cells, False)
        queries = transformer.norm_final_attn(queries + seen)
    return queries, cells


def image_side(decoder: MaskDecoder, image: Tensor, position: Tensor, sparse: Tensor) -> Tensor:
    """Features of the image after the two-way transformer, for each prompt alone.

    Mask upscaling and the last token attention are left out, as they do not change the cells.

    Args:
        decoder: SAM's mask decoder, in eval mode.
        image: (1, C, h, w), image embedding plus the embedding of "no mask".
        position: (1, C, h, w), positional encoding of the cells.
        sparse: (P, T, C), the prompts' tokens.

    Returns:
        float32 (P, C, h, w).
    """
    _, cells = two_way(decoder, image, position, sparse, last=False)
    return cells.transpose(1, 2).unflatten(2, image.shape[2:]).float()


def _output_tokens(decoder: MaskDecoder) -> Tensor:
    tokens = [decoder.iou_token.weight, decoder.mask_tokens.weight]
    if decoder.pred_obj_scores:
        tokens.insert(0, decoder.obj_score_token.weight)
    return torch.cat(tokens).unsqueeze(0)


def _layer(
    layer: TwoWayAttentionBlock,
    queries: Tensor,
    cells: Tensor,
    tokens: Tensor,
    place: Tensor,
    shared: bool,
) -> tuple[Tensor, Tensor]:
    """One block; `cells` is (1, cells, C) where all prompts share it, else (P, cells, C)."""
    if layer.skip_first_layer_pe:
        queries = layer.self_attn(q=queries, k=queries, v=queries)
    else:
        q = queries + tokens
        queries = queries + layer.self_attn(q=q, k=q, v=queries)
    queries = layer.norm1(queries)
    placed = cells + place
    to_image = layer.cross_attn_token_to_image
    queries = queries + _tokens_from_image(to_image, queries + tokens, placed, cells, shared)
    queries = layer.norm2(queries)
    queries = layer.norm3(queries + layer.mlp(queries))
    from_tokens = layer.cross_attn_image_to_token
    seen = _image_from_tokens(from_tokens, placed, queries + tokens, queries, shared)
    return queries, layer.norm4(seen.add_(cells))


def _few(attention: Attention, tokens: Tensor) -> bool:
    """Whether folding takes less arithmetic than projecting the cells."""
    return attention.num_heads * tokens.shape[1] <= attention.internal_dim


def _tokens_from_image(
    attention: Attention, tokens: Tensor, k: Tensor, v: Tensor, shared: bool
) -> Tensor:
    """Tokens (P, T, C) attend to the image (1 or P, cells, C); returns (P, T, C)."""
    heads = attention.num_heads
    if not shared and not _few(attention, tokens):
        return attention(q=tokens, k=k, v=v)
    q = _heads(attention.q_proj(tokens), heads)
    if shared:
        shape = (len(q), -1, -1, -1)
        shared_k = _heads(attention.k_proj(k), heads).expand(shape)
        shared_v = _heads(attention.v_proj(v), heads).expand(shape)
        mixed = F.scaled_dot_product_attention(q, shared_k, shared_v)
        return attention.out_proj(mixed.transpose(1, 2).flatten(2))
    # The bias of k_proj adds the same to all cells, which softmax does not see.
    folded = _fold(q, attention.k_proj.weight) * q.shape[-1] ** -0.5
    weights = torch.bmm(folded, k.transpose(1, 2)).softmax(-1)
    seen = torch.bmm(weights, v).unflatten(1, (heads, -1))
    value = attention.v_proj.weight.unflatten(0, (heads, -1))
    mixed = torch.einsum("phtc,hdc->pthd", seen, value).flatten(2) + attention.v_proj.bias
    return attention.out_proj(mixed)


def _image_from_tokens(
    attention: Attention, q: Tensor, k: Tensor, v: Tensor, shared: bool
) -> Tensor:
    """The image (1 or P, cells, C) attends to tokens (P, T, C); returns (P, cells, C)."""
    if not _few(attention, k):
        return attention(q=q.expand(len(k), -1, -1), k=k, v=v)
    heads = attention.num_heads
    key, value = _heads(attention.k_proj(k), heads), _heads(attention.v_proj(v), heads)
    key = key * key.shape[-1] ** -0.5
    if shared:
        scores = torch.matmul(key, _heads(attention.q_proj(q), heads).transpose(2, 3))
    else:
        folded = _fold(key, attention.q_proj.weight)
        bias = attention.q_proj.bias.unflatten(0, (heads, -1))
        scores = torch.bmm(folded, q.transpose(1, 2)).unflatten(1, (heads, -1))
        scores += torch.einsum("phtd,hd->pht", key, bias).unsqueeze(-1)
    weights = scores.softmax(2).flatten(1, 2)
    out = _fold(value, attention.out_proj.weight.T)
    return torch.baddbmm(attention.out_proj.bias, weights.transpose(1, 2), out)


def _heads(x: Tensor, heads: int) -> Tensor:
    """(P, T, heads * d) to (P, heads, T, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _fold(x: Tensor, weight: Tensor) -> Tensor:
    """(P, heads, T, d) times each head's rows of the (heads * d, C) weight: (P, heads * T, C)."""
    return torch.einsum("phtd,hdc->phtc", x, weight.unflatten(0, (x.shape[1], -1))).flatten(1, 2)
