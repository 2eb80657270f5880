"""What rows 1 and 2 share: refine's work outside the network, the naive way against ours."""

from __future__ import annotations

import torch
from answering_model import AnsweringModel, answering_segmenter
from harness import in_turn, report_times, seconds
from made_instances import STRIDE, Scene
from naive_refine import POINTS, draw_points, predictor_of, refine_image

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.refinement.ask import RefinePolicy, refine_images
from s4m_pipeline.refinement.soft_masks import draw_prompt_points

S4M = RefinePolicy("points", POINTS, "argmax-iou", min_agreement=0.0)
DEFAULT = RefinePolicy("points", POINTS, "fuse", min_agreement=0.3)


def compare(name: str, goal: float, scene: Scene, repeats: int) -> None:
    """Time both ways of S4M's rule on one image and report; then our own default.

    Both draw points, prepare the image and make RLEs; ours also finds boxes, areas and the
    agreement with the teacher's masks.

    Args:
        name: The benchmark's.
        goal: The ratio aimed at.
        scene: The image, its instances and the network's answers.
        repeats: Timed runs of each.
    """
    model = AnsweringModel(scene.answers, scene.scores)
    predictor, segmenter = predictor_of(model), answering_segmenter(model)
    logits = torch.from_numpy(scene.teacher_logits)

    def naive() -> list[bytes]:
        return refine_image(predictor, scene.image, draw_points(logits, STRIDE))

    def ours(policy: RefinePolicy = S4M) -> list[bytes]:
        draw(scene)
        embeddings = segmenter.encode([scene.image])
        (masks,) = refine_images(segmenter, embeddings, [scene.instances], policy)
        return [mask.mask_rle for mask in masks]

    before, after, slow, fast = in_turn(naive, ours, repeats)
    same = sum(a == b for a, b in zip(before, after, strict=True))
    if same != len(before):
        raise SystemExit(f"{name}: only {same} of {len(before)} RLEs are identical")
    fused = sorted(seconds(lambda: ours(DEFAULT)) for _ in range(repeats))[repeats // 2]
    print(f"our default, fusion with the teacher's soft mask: {fused:.4g} s")
    report_times(name, goal, slow, fast, f"{same} RLEs identical", fusion=fused)


def draw(scene: Scene) -> None:
    """Give the scene's instances the prompt points that the pseudo-label stage draws."""
    height, width = scene.image.shape[:2]
    for instance, logits in zip(scene.instances, scene.teacher_logits, strict=True):
        random = rng(0, "pseudo-label", 0, instance.instance_id)
        instance.points = draw_prompt_points(logits, POINTS, STRIDE, height, width, random)
