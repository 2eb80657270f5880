"""Mask2Former's losses with all matching of a step at once, against MMDetection's own head.

Both heads get the same predictions of ten decoder layers and the same instances, and draw the same
random points, so that the assignments are the same and all losses equal. What is timed is the
losses and their gradients. On a CPU the layers go one after the other, as MMDetection's do, and
what is gained is sampling: points are shared by an image's queries. On a GPU
(``--device cuda``) MMDetection waits for the device for each image of each layer.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from harness import in_turn, report_times

from s4m_pipeline.models.openmmlab import prepare

prepare()

import numpy as np  # noqa: E402
from mmdet.models.dense_heads import Mask2FormerHead  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from s4m_pipeline.models.model_config import read_model_config  # noqa: E402

CLASSES, LAYERS, QUERIES = 80, 10, 100
TOLERANCE = 1e-5


def samples_of(images: int, instances: int, side: int, device: str) -> list[DetDataSample]:
    """Images with rectangles as masks."""
    random = np.random.default_rng(0)
    made = []
    for _ in range(images):
        masks = np.zeros((instances, side, side), np.uint8)
        for mask in masks:
            y, x, height, width = random.integers(8, side // 2, 4)
            mask[y : y + height, x : x + width] = 1
        shape = (side, side)
        sample = DetDataSample(metainfo=dict(img_shape=shape, batch_input_shape=shape))
        labels = torch.from_numpy(random.integers(0, CLASSES, instances)).to(device)
        sample.gt_instances = InstanceData(labels=labels, masks=BitmapMasks(masks, side, side))
        made.append(sample)
    return made


def head_of(own: bool, device: str) -> Any:
    """The head of the package's ResNet-50 config, or MMDetection's with the same settings."""
    model = read_model_config("mask2former_r50_coco", CLASSES).model
    model.backbone.init_cfg = None
    if not own:
        model.panoptic_head.type = Mask2FormerHead
    return MODELS.build(model).panoptic_head.to(device)


def main() -> None:
    """Time both and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--side", type=int, default=512, help="of the input in pixels")
    args = parser.parse_args()
    init_default_scope("mmdet")
    samples = samples_of(args.images, args.instances, args.side, args.device)
    torch.manual_seed(0)
    shape = (LAYERS, args.images, QUERIES)
    scores = torch.randn(*shape, CLASSES + 1, device=args.device, requires_grad=True)
    cells = args.side // 4
    masks = torch.randn(*shape, cells, cells, device=args.device, requires_grad=True)

    def step(head: Any) -> dict[str, Any]:
        head.forward = lambda x, batch: ([*scores.unbind()], [*masks.unbind()])
        torch.manual_seed(1)
        losses: dict[str, Any] = head.loss((), samples)
        torch.autograd.grad(sum(losses.values()), [scores, masks])
        if args.device != "cpu":
            torch.cuda.synchronize()
        return losses

    theirs, ours = head_of(False, args.device), head_of(True, args.device)
    before, after, slow, fast = in_turn(lambda: step(theirs), lambda: step(ours), 5)
    worst = max(float((after[name] / before[name] - 1).abs()) for name in before)
    if args.device == "cpu" and worst > TOLERANCE:  # on a GPU the points are drawn in another order
        raise SystemExit(f"matcher: a loss differs by {worst:.2g} of its size")
    name = "matcher" if args.device == "cpu" else "matcher_gpu"
    told = f"{len(before)} losses within {worst:.1g} of their size"
    report_times(name, 1, slow, fast, told)


if __name__ == "__main__":
    main()
