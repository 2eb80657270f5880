"""An image's instance masks through a training's transforms, against MMDetection's own.

Loading from run-lengths, flip, resize, crop and filter as the paper's model configs have them: 30
masks at 1024 x 2048 to Cityscapes' crop of 512 x 1024, and 10 masks at 480 x 640 through COCO's
large-scale jitter to 1024 x 1024. Naive decodes every mask first (`LoadAnnotations`,
`FilterAnnotations`); ours keeps run-lengths until the crop is known (`LoadInstances`,
`FilterInstances`). Both draw the same random numbers, and boxes, labels and masks are compared to
the bit. The image goes along in one channel, decoded; what that costs is in both times and printed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from harness import in_turn, report_times, seconds
from made_instances import Scene, made_scene, street_scene

from s4m_pipeline.models.openmmlab import prepare
from s4m_pipeline.training_data.seeding import seeded

prepare()

from mmdet.registry import TRANSFORMS  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

from s4m_pipeline.models.model_config import read_model_config  # noqa: E402
from s4m_pipeline.models.pipelines import train_pipeline  # noqa: E402
from s4m_pipeline.training_data.instance_dataset import instance_info  # noqa: E402

DRAWS = 8
"""Random crops of a scene; the time is that of all."""
REPEATS = 5
LEFT_OUT = ("LoadImage", "LoadStructure", "PackInstances")
PLAIN = {"LoadInstances": "LoadAnnotations", "FilterInstances": "FilterAnnotations"}
ROWS: tuple[tuple[str, float, str, Callable[[], Scene]], ...] = (
    ("crop_masks_large", 5, "mask2former_r50_cityscapes", street_scene),
    (
        "crop_masks_coco",
        1,
        "mask2former_r50_coco",
        lambda: made_scene(480, 640, 10, 0.012, 1.7, 0),
    ),
)
"""Name, goal, model config and scene of each comparison."""


def transforms(model: str, plain: bool) -> list[Any]:
    """The transforms of a model config's training pipeline that masks go through.

    Args:
        model: Name of the model config.
        plain: Take MMDetection's in place of ours.
    """
    steps = [
        dict(step)
        for step in train_pipeline(read_model_config(model, 1), strong=False)
        if step["type"] not in LEFT_OUT
    ]
    for step in steps:
        if plain:
            step["type"] = PLAIN.get(step["type"], step["type"])
    with DefaultScope.overwrite_default_scope("mmdet"):
        return [TRANSFORMS.build(step) for step in steps]


def item(scene: Scene, masked: bool = True) -> dict[str, Any]:
    """What a training's dataset hands to its transforms, the image decoded and grey."""
    size = scene.image.shape[:2]
    found = [instance_info(0, one.mask_rle, one.bbox, size) for one in scene.instances]
    return {
        "img": np.ascontiguousarray(scene.image[..., 0]),
        "img_shape": size,
        "ori_shape": size,
        "instances": found if masked else [],
        "gt_instances_ids": np.arange(len(found) if masked else 0),
    }


def run(steps: Sequence[Any], scene: Scene, draw: int, masked: bool = True) -> dict[str, Any]:
    """Put a scene through transforms and have its masks' pixels."""
    results: Any = item(scene, masked)
    with seeded(0, draw):
        for step in steps:
            results = step(results)
    assert results["gt_masks"].masks is not None  # ours decodes when it is asked
    return results


def check(name: str, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    """Compare what came out of both ways; end with a message where they differ."""
    count = 0
    for draw, (theirs, ours) in enumerate(zip(before, after, strict=True)):
        same = (
            np.array_equal(theirs["gt_masks"].masks, ours["gt_masks"].masks)
            and theirs["gt_bboxes"].tensor.equal(ours["gt_bboxes"].tensor)
            and np.array_equal(theirs["gt_bboxes_labels"], ours["gt_bboxes_labels"])
        )
        if not same:
            raise SystemExit(f"{name}: crop {draw} has other masks or boxes")
        count += len(ours["gt_masks"])
    if not count:
        raise SystemExit(f"{name}: no mask is in any crop")
    return f"{count} masks in {len(after)} crops identical, their boxes, too"


def compare(name: str, goal: float, model: str, scene: Scene) -> None:
    """Time both ways on the same crops of a scene and report."""
    plain, own = transforms(model, plain=True), transforms(model, plain=False)

    def naive() -> list[dict[str, Any]]:
        return [run(plain, scene, draw) for draw in range(DRAWS)]

    def ours() -> list[dict[str, Any]]:
        return [run(own, scene, draw) for draw in range(DRAWS)]

    before, after, slow, fast = in_turn(naive, ours, REPEATS)
    equal = check(name, before, after)
    alone = seconds(lambda: [run(own, scene, draw, masked=False) for draw in range(DRAWS)])
    times = [1e3 * sorted(times)[REPEATS // 2] / DRAWS for times in (slow, fast)]
    print(
        f"{name}: {times[0]:.1f} and {times[1]:.1f} ms an image, "
        f"{1e3 * alone / DRAWS:.1f} ms of each for the grey image alone"
    )
    report_times(name, goal, slow, fast, equal)


def main() -> None:
    """Compare both sizes."""
    for name, goal, model, scene in ROWS:
        compare(name, goal, model, scene())


if __name__ == "__main__":
    main()
