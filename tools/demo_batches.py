"""Training batches for the demo's segmenter, and the model's answer to one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from demo_prompts import draw_prompt
from torch.utils.data import IterableDataset

from s4m_pipeline.artifacts.seeds import rng as seeded_rng
from s4m_pipeline.data.scenes.scenes import make_scene
from s4m_pipeline.segmenter.demo import DEMO_IMAGE_SIZE, DemoSegmenter

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
PROMPTS_PER_IMAGE = 5


@dataclass(slots=True)
class Batch:
    """Prompted images: B images, N = B * PROMPTS_PER_IMAGE prompts in image order.

    Attributes:
        images: float32 (B, 3, S, S), normalised.
        points: float32 (N, P, 2) x, y in pixels.
        labels: int32 (N, P).
        masks: float32 (N, 1, S / 2, S / 2) logits, zeros where there is no mask prompt.
        has_mask: bool (N,).
        targets: float32 (N, S / 2, S / 2), share of each cell that the object covers.
    """

    images: torch.Tensor
    points: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    has_mask: torch.Tensor
    targets: torch.Tensor


def normalise(image: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, 3) RGB -> float32 (3, H, W) in SAM 2's range."""
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255.0
    return (tensor - MEAN) / DEVIATION


class Batches(IterableDataset[Batch]):
    """Endless batches; batch i follows from the seed and i alone."""

    def __init__(self, seed: int, batch_size: int, start: int) -> None:
        self.seed, self.batch_size, self.start = seed, batch_size, start

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        step = self.start
        while True:
            yield make_batch(seeded_rng(self.seed, "train", step), self.batch_size)
            step += 1


def make_batch(rng: np.random.Generator, batch_size: int) -> Batch:
    """Draw scenes and prompts for one training step."""
    size = DEMO_IMAGE_SIZE
    count = batch_size * PROMPTS_PER_IMAGE
    images: list[torch.Tensor] = []
    points: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    masks = np.zeros((count, 1, size // 2, size // 2), np.float32)
    has_mask = np.zeros(count, bool)
    for _ in range(batch_size):
        scene = make_scene(rng, size, "pretrain")
        while not scene.masks:
            scene = make_scene(rng, size, "pretrain")
        images.append(normalise(scene.image))
        order = rng.permutation(len(scene.masks))
        for k in range(PROMPTS_PER_IMAGE):
            truth = scene.masks[order[k % len(order)]]
            prompt = draw_prompt(rng, truth)
            if prompt.mask is not None:
                masks[len(points), 0] = prompt.mask
                has_mask[len(points)] = True
            points.append(prompt.points)
            labels.append(prompt.labels)
            cells = truth.astype(np.float32).reshape(size // 2, 2, size // 2, 2)
            targets.append(cells.mean(axis=(1, 3)))
    return Batch(
        torch.stack(images),
        torch.from_numpy(np.stack(points)),
        torch.from_numpy(np.stack(labels)),
        torch.from_numpy(masks),
        torch.from_numpy(has_mask),
        torch.from_numpy(np.stack(targets)),
    )


def predict(model: DemoSegmenter, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the model on a batch.

    Returns:
        Mask logits (N, 4, S / 2, S / 2) and predicted IoU (N, 4): the single mask, then three.
    """
    repeats = len(batch.points) // len(batch.images)
    fine, middle, embedding = (
        level[:, None].expand(-1, repeats, -1, -1, -1).flatten(0, 1)
        for level in model.forward_image(batch.images)["backbone_fpn"]
    )
    used = (batch.labels >= 0).any(dim=0)
    sparse, dense = model.sam_prompt_encoder(
        points=(batch.points[:, used], batch.labels[:, used]), boxes=None, masks=None
    )
    if bool(batch.has_mask.any()):
        dense = dense.clone()
        dense[batch.has_mask] = model.sam_prompt_encoder._embed_masks(batch.masks[batch.has_mask])
    logits, ious, _, _ = model.sam_mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        repeat_image=False,
        high_res_features=[fine, middle],
    )
    return logits, ious
