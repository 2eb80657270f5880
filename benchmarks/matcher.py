"""Mask2Former's losses with all matching of a step at once, against MMDetection's own head.

Both heads get the same predictions of ten decoder layers and the same instances, and draw the same
random points, so that the assignments are the same and all losses equal. What is timed is the
losses and their gradients. On a GPU (``--device cuda``) MMDetection waits for the device several
times for each image of each layer; how often each way copies to the host is counted and printed. On
a CPU nothing waits, and what is gained is sampling: points are shared by an image's queries, masks
are converted once, and the uncertain points are chosen without sorting them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from harness import can_run_on, in_turn, report_times
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

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


class Waits(TorchDispatchMode):
    """Counts operations that make the host wait for a GPU."""

    NAMES = ("_local_scalar_dense", "nonzero", "_unique2")
    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        picked = args[1] if name in ("index", "index_put_") else ()
        flags = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in picked)
        self.count += flags or name in self.NAMES
        return func(*args, **(kwargs or {}))


def copies(work: Callable[[], Any]) -> int:
    """How often some work makes the host wait for a GPU, counted on any device."""
    asked = []
    real = Tensor.cpu

    def noted(tensor: Tensor) -> Tensor:
        asked.append(tensor.shape)
        return real(tensor)

    with Waits() as waits:
        Tensor.cpu = noted  # type: ignore[method-assign,assignment]
        try:
            work()
        finally:
            Tensor.cpu = real  # type: ignore[method-assign]
    return waits.count + len(asked)


def main() -> None:
    """Time both and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--side", type=int, default=512, help="of the input in pixels")
    args = parser.parse_args()
    if not can_run_on(args.device, "matcher"):
        return
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
    counts = [copies(lambda head=head: step(head)) for head in (theirs, ours)]
    print(f"copies to the host and results of unknown size: naive {counts[0]}, ours {counts[1]}")
    before, after, slow, fast = in_turn(lambda: step(theirs), lambda: step(ours), 5)
    worst = max(float((after[name] / before[name] - 1).abs()) for name in before)
    if before.keys() != after.keys() or worst > TOLERANCE:
        raise SystemExit(f"matcher: a loss differs by {worst:.2g} of its size")
    name = "matcher" if args.device == "cpu" else "matcher_gpu"
    told = f"{len(before)} losses within {worst:.1g} of their size"
    report_times(name, 1, slow, fast, told, waits={"naive": counts[0], "ours": counts[1]})


if __name__ == "__main__":
    main()
