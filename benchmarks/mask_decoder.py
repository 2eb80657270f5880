"""SAM 2's mask decoder on a CPU: the `sam2` package's forward pass against the segmenter's.

SAM 2.1 tiny with seeded random weights at 512 px, 30 prompts of three points on one image, in
passes of the same size.
"""

from __future__ import annotations

import torch
from harness import in_turn, report_times
from made_instances import street_scene
from refine_work import draw
from torch import Tensor

from s4m_pipeline.refinement.prompts import build_prompts
from s4m_pipeline.segmenter import decoder
from s4m_pipeline.segmenter.build import build_segmenter
from s4m_pipeline.segmenter.sam2 import Sam2Segmenter

NAME = "mask_decoder"
TOLERANCE = 1e-5
"""Of the largest logit."""


def main() -> None:
    """Time both and report."""
    scene = street_scene()
    draw(scene)
    segmenter = build_segmenter("sam2.1_hiera_tiny", "random", 512, "cpu")
    if not isinstance(segmenter, Sam2Segmenter):
        raise TypeError(f"{segmenter.name} is no SAM 2")
    embeddings = segmenter.encode([scene.image])
    prompts = build_prompts(scene.instances, "points", 3)
    model, most = segmenter.model, segmenter.decoder.max_prompts

    @torch.inference_mode()
    def naive() -> Tensor:
        coords, labels = decoder._sparse(prompts, embeddings.frames[0])
        found = []
        for start in range(0, len(coords), most):
            some = slice(start, start + most)
            points = torch.from_numpy(coords[some]), torch.from_numpy(labels[some])
            sparse, dense = model.sam_prompt_encoder(points=points, boxes=None, masks=None)
            logits, _, _, _ = model.sam_mask_decoder(
                image_embeddings=embeddings.image,
                image_pe=model.sam_prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
                repeat_image=True,
                high_res_features=list(embeddings.high_res),
            )
            found.append(logits)
        return torch.cat(found)

    def ours() -> Tensor:
        (found,) = segmenter.decode(embeddings, [prompts], True)
        return found.logits

    before, after, slow, fast = in_turn(naive, ours, repeats=7)
    worst = float((before - after).abs().max() / before.abs().max())
    if worst > TOLERANCE:
        raise SystemExit(f"{NAME}: logits differ by {worst:.2g} of the largest")
    report_times(NAME, 1.5, slow, fast, f"logits within {worst:.1g} of the largest")


if __name__ == "__main__":
    main()
