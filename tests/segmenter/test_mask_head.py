"""Answers of the mask decoder against the `sam2` package's own forward pass."""

from __future__ import annotations

import pytest
import torch
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.transformer import TwoWayTransformer
from torch import Tensor

from s4m_pipeline.segmenter.mask_head import added_levels, answer
from s4m_pipeline.segmenter.two_way import image_side

C, H, W = 64, 5, 7
FOLDED, PROJECTED = 2, 9
"""Tokens a prompt with which projections are folded into tokens, and with which they are not."""


def _decoder(fine: bool, dynamic: bool = False) -> MaskDecoder:
    """A decoder whose parameters, biases and norms too, are all of a size that matters."""
    torch.manual_seed(0)
    decoder = MaskDecoder(
        transformer_dim=C,
        transformer=TwoWayTransformer(depth=2, embedding_dim=C, num_heads=4, mlp_dim=96),
        use_high_res_features=fine,
        pred_obj_scores=fine,
        iou_prediction_use_sigmoid=fine,
        dynamic_multimask_via_stability=dynamic,
    ).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return decoder


def _inputs(prompts: int, tokens: int, images: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(images, C, H, W, generator=generator),
        torch.randn(1, C, H, W, generator=generator),
        torch.randn(prompts, tokens, C, generator=generator),
    )


def _levels(images: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return (
        torch.randn(images, C // 8, 4 * H, 4 * W, generator=generator),
        torch.randn(images, C // 4, 2 * H, 2 * W, generator=generator),
    )


def _expected(
    decoder: MaskDecoder,
    image: Tensor,
    position: Tensor,
    sparse: Tensor,
    levels: tuple[Tensor, ...],
    multimask: bool,
) -> tuple[Tensor, Tensor]:
    rows = len(sparse)
    logits, ious, _, _ = decoder(
        image_embeddings=image.expand(rows, -1, -1, -1),
        image_pe=position,
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=torch.zeros(rows, C, H, W),
        multimask_output=multimask,
        repeat_image=False,
        high_res_features=[level.expand(rows, -1, -1, -1) for level in levels],
    )
    return logits, ious


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("tokens", [FOLDED, PROJECTED])
@pytest.mark.parametrize(("prompts", "images"), [(3, 1), (3, 3), (1, 1)])
@pytest.mark.parametrize("fine", [True, False])
@torch.inference_mode()
def test_answers_are_the_decoders(
    fine: bool, prompts: int, images: int, tokens: int, multimask: bool
) -> None:
    decoder = _decoder(fine)
    inputs = _inputs(prompts, tokens, images)
    levels = _levels(images) if fine else ()
    expected, expected_ious = _expected(decoder, *inputs, levels, multimask)
    logits, ious = answer(decoder, *inputs, added_levels(decoder, levels), multimask)
    assert logits.shape == (prompts, 3 if multimask else 1, 4 * H, 4 * W)
    scale = float(expected.abs().max())
    torch.testing.assert_close(logits, expected, atol=1e-5 * scale, rtol=0)
    torch.testing.assert_close(ious, expected_ious, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_an_unstable_single_output_gives_way_to_the_best_candidate() -> None:
    decoder = _decoder(fine=True, dynamic=True)
    inputs, levels = _inputs(16, FOLDED, 1), _levels(1)
    kept = 0
    for threshold in (0.0, 1.1):
        decoder.dynamic_multimask_stability_thresh = threshold
        expected, expected_ious = _expected(decoder, *inputs, levels, False)
        logits, ious = answer(decoder, *inputs, added_levels(decoder, levels), False)
        scale = float(expected.abs().max())
        torch.testing.assert_close(logits, expected, atol=1e-5 * scale, rtol=0)
        torch.testing.assert_close(ious, expected_ious, atol=1e-5, rtol=1e-4)
        single = answer(_decoder(fine=True), *inputs, added_levels(decoder, levels), False)[0]
        kept += int(torch.equal(single, logits))
    assert kept == 1  # all single outputs at 0, no single output above 1


@pytest.mark.parametrize("tokens", [FOLDED, PROJECTED])
@pytest.mark.parametrize("prompts", [1, 4])
@torch.inference_mode()
def test_image_side_is_the_transformers_keys(tokens: int, prompts: int) -> None:
    decoder = _decoder(fine=True)
    image, position, sparse = _inputs(prompts, tokens, 1)
    own = [decoder.obj_score_token, decoder.iou_token, decoder.mask_tokens]
    before = torch.cat([token.weight for token in own]).expand(prompts, -1, -1)
    rows = (prompts, -1, -1, -1)
    _, keys = decoder.transformer(
        image.expand(rows), position.expand(rows), torch.cat([before, sparse], dim=1)
    )
    expected = keys.transpose(1, 2).unflatten(2, (H, W))
    found = image_side(decoder, image, position, sparse)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
