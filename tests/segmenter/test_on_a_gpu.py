"""Every way to refine, on a GPU against the CPU. Skipped where torch sees none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4m_pipeline.refinement.ask import RefinePolicy, refine_images
from s4m_pipeline.refinement.rle import iou
from s4m_pipeline.segmenter.base import Segmenter
from s4m_pipeline.segmenter.build import build_segmenter
from s4m_pipeline.segmenter.structure import structure_target
from tests.segmenter.fakes import teacher_instance

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
SIZE = (120, 160)
POLICIES = {
    "argmax-iou": RefinePolicy("points", 3, "argmax-iou", 0.0),
    "single": RefinePolicy("points", 3, "single", 0.0),
    "closest": RefinePolicy("points", 3, "closest", 0.0),
    "fuse": RefinePolicy("points", 3, "fuse", 0.0),
    "box+mask": RefinePolicy("box+mask", 3, "single", 0.0),
    "box+points, negatives": RefinePolicy("box+points", 3, "argmax-iou", 0.0, negative_points=1),
    "second pass": RefinePolicy("points", 3, "argmax-iou", 0.0, second_pass=True),
}


@pytest.fixture(scope="module")
def pair() -> tuple[Segmenter, Segmenter]:
    """The demo's segmenter on the CPU and on the GPU, both in float32."""
    on_cpu, on_gpu = (
        build_segmenter("demo", None, None, device, "float32") for device in ("cpu", "cuda")
    )
    return on_cpu, on_gpu


def _images() -> list[np.ndarray]:
    coarse = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)
    return [np.kron(image, np.ones((20, 20, 1), np.uint8)) for image in coarse]


@pytest.mark.parametrize("name", POLICIES)
def test_masks_are_those_of_the_cpu(pair: tuple[Segmenter, Segmenter], name: str) -> None:
    instances = [
        [teacher_instance(*SIZE, (10.0, 14.0), 6, 0), teacher_instance(*SIZE, (20.0, 26.0), 7, 1)],
        [],
        [teacher_instance(*SIZE, (14.0, 30.0), 8, 0)],
    ]
    expected, found = (
        refine_images(segmenter, segmenter.encode(_images()), instances, POLICIES[name])
        for segmenter in pair
    )
    for one, other in zip(expected, found, strict=True):
        for a, b in zip(one, other, strict=True):
            assert iou(a.mask_rle, b.mask_rle, *SIZE) > 0.99
            np.testing.assert_allclose(a.candidate_ious, b.candidate_ious, atol=1e-3)


def test_structure_is_that_of_the_cpu(pair: tuple[Segmenter, Segmenter]) -> None:
    points = np.array([[3, 5], [100, 60], [159, 119]], np.float32)
    expected, found = (
        structure_target(segmenter, segmenter.encode(_images()), 1, points, 64)
        for segmenter in pair
    )
    np.testing.assert_allclose(expected.scale, found.scale, rtol=1e-2)
    difference = expected.similarity.astype(int) - found.similarity
    assert np.abs(difference).max() <= 3
