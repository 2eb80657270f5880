"""Masks and predicted IoUs of SAM's mask decoder, in less arithmetic and memory traffic.

The same function as the `sam2` package's `MaskDecoder`. Channels stay last all the way: a
transposed convolution of kernel and stride 2 is then a linear map to four finer cells, and only
the few masks are brought into the order of rows and columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sam2.modeling.sam.mask_decoder import MaskDecoder
from torch import Tensor

from s4m_pipeline.segmenter.two_way import two_way


def added_levels(decoder: MaskDecoder, high_res: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """What the two steps of mask upscaling add to their products, in their own order.

    Args:
        decoder: SAM's mask decoder.
        high_res: (), or (B, C/8, 4h, 4w) and (B, C/4, 2h, 2w) finer features of B images.

    Returns:
        (B, h * w, 4, C/4) and (B, h * w, 4, 4, C/8): the biases plus the features. The axes of
        four are the finer cells of a cell, row by row. B is 1, and the rest too, but for the last
        axis, where there are no finer features.
    """
    middle, _, _, fine, _ = decoder.output_upscaling
    if not decoder.use_high_res_features:
        return middle.bias.view(1, 1, 1, -1), fine.bias.view(1, 1, 1, 1, -1)
    finest, finer = high_res
    finer = _finer_cells(finer, 1).flatten(1, 2).flatten(2, 3)
    finest = _finer_cells(finest, 2).flatten(1, 2).flatten(2, 3).flatten(3, 4)
    return finer + middle.bias, finest + fine.bias


def _finer_cells(level: Tensor, times: int) -> Tensor:
    """(B, C, 2^t h, 2^t w) to (B, h, w, 2, 2 [t times], C): row and column of each halving."""
    halvings = (2,) * times
    rows_first = level.unflatten(3, (-1, *halvings)).unflatten(2, (-1, *halvings))
    of_rows = range(2, 3 + times)
    order = [axis for row in of_rows for axis in (row, row + 1 + times)]
    return rows_first.permute(0, *order, 1)


def answer(
    decoder: MaskDecoder,
    image: Tensor,
    position: Tensor,
    sparse: Tensor,
    added: tuple[Tensor, Tensor],
    multimask: bool,
) -> tuple[Tensor, Tensor]:
    """Masks of P prompts.

    Args:
        decoder: SAM's mask decoder, in eval mode.
        image: (1 or P, C, h, w), image embedding plus the dense embedding of the prompt; 1 where
            all prompts have the same.
        position: (1, C, h, w), positional encoding of the cells.
        sparse: (P, T, C), the prompts' tokens.
        added: `added_levels` of the prompts' images; each of 1 or P rows.
        multimask: Three masks a prompt, or the single output.

    Returns:
        (P, M, 4h, 4w) mask logits and (P, M) predicted IoUs, M being 3 or 1.
    """
    tokens, cells = two_way(decoder, image, position, sparse)
    first = int(decoder.pred_obj_scores)  # the token before it says whether there is an object
    ious = decoder.iou_prediction_head(tokens[:, first])
    dynamic = not multimask and decoder.dynamic_multimask_via_stability
    wanted = slice(int(multimask), None if multimask or dynamic else 1)
    of_masks = tokens[:, first + 1 : first + 1 + decoder.num_mask_tokens]
    heads = list(enumerate(decoder.output_hypernetworks_mlps))[wanted]
    kernels = torch.stack([mlp(of_masks[:, index]) for index, mlp in heads], dim=2)
    fine = _upscale(decoder, cells, added).flatten(1, 3)
    logits = _rows_and_columns(torch.bmm(fine, kernels), *image.shape[2:])
    if dynamic:
        return decoder._dynamic_multimask_via_stability(logits, ious)
    return logits, ious[:, wanted]


def _upscale(decoder: MaskDecoder, cells: Tensor, added: tuple[Tensor, Tensor]) -> Tensor:
    """(P, cells, C) to (P, cells, 4, 4, C/8)."""
    middle, norm, act_middle, fine, act_fine = decoder.output_upscaling
    x = (cells @ _linear(middle)).unflatten(-1, (4, -1)).add_(added[0])
    x = act_middle(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps))
    return act_fine((x @ _linear(fine)).unflatten(-1, (4, -1)).add_(added[1]))


def _linear(convolution: torch.nn.ConvTranspose2d) -> Tensor:
    """(C, 4 * D): the map of a cell to its four finer cells, row by row."""
    return convolution.weight.permute(0, 2, 3, 1).flatten(1)


def _rows_and_columns(logits: Tensor, height: int, width: int) -> Tensor:
    """(P, cells * 16, M) in the order of `added_levels` to (P, M, 4h, 4w)."""
    split = logits.unflatten(1, (height, width, 2, 2, 2, 2))
    return split.permute(0, 7, 1, 3, 5, 2, 4, 6).flatten(5, 7).flatten(2, 4)
