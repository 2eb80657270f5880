"""Train the start weights of the demo's Mask2Former on generated scenes of the ``pretrain`` style.

    python tools/pretrain_demo_model.py --out demo-model

writes ``mask2former_demo.safetensors`` (float16, averaged weights, without the class layer), which
goes to ``s4m_pipeline/configs/models/weights``. They are to the demo what ImageNet's or COCO's
weights are to a real run. The scenes share no shape, pattern or ground with the demo's. The first
phase tells the scenes' shape families apart, the second one only objects from ground.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from s4m_pipeline.configs import model_config_path
from s4m_pipeline.data.scenes.scenes import class_names, generate_scenes
from s4m_pipeline.models.checkpoints import read_checkpoint
from s4m_pipeline.models.training import TrainingResult, TrainingSpec, train

SCENES = {"train": (2400, 12345), "valid": (100, 54321)}
"""Number and seed of the scenes of each set."""
LEFT_OUT = ("cls_embed",)


def _dataset(folder: Path, split: str, classes: bool) -> dict[str, str]:
    """Scenes of a set, with their shape families or with one class for all."""
    count, seed = SCENES[split]
    annotations = folder / f"{split}.json"
    if not annotations.is_file():
        generate_scenes(folder, count, seed, split, style="pretrain")
    if not classes:
        content = json.loads(annotations.read_text())
        content["categories"] = [{"id": 1, "name": "object"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = 1
        annotations = folder / f"{split}-objects.json"
        annotations.write_text(json.dumps(content))
    return {
        "type": "CocoInstances",
        "annotations": str(annotations),
        "images": str(folder / split),
    }


def _tell(iteration: int, losses: dict[str, float]) -> None:
    if iteration % 50 == 0:
        print(iteration, f"loss {losses['loss']:.3f}", flush=True)


def _phase(
    out: Path, model: str, iterations: int, classes: bool, start: Path | None
) -> TrainingResult:
    """Train one phase, going on where an earlier call stopped."""
    names = class_names("pretrain") if classes else ["object"]
    folder = out / ("classes" if classes else "objects")
    spec = TrainingSpec(
        folder=folder,
        model=model,
        categories=[{"id": i + 1, "name": name} for i, name in enumerate(names)],
        labelled=_dataset(out / "scenes", "train", classes),
        validation=_dataset(out / "scenes", "valid", classes),
        iterations=iterations,
        labelled_batch=8,
        learning_rate=5e-4,
        validation_interval=10 * iterations,
        checkpoint_interval=200,
        ema=0.998,
        log_file=folder / "log.jsonl",
        init_checkpoint=start,
        on_step=_tell,
    )
    return train(spec)


def pretrain(out: Path, model: str, class_iterations: int, object_iterations: int) -> Path:
    """Train both phases and write the weights.

    Args:
        out: Folder for scenes, checkpoints and weights.
        model: Path of a model config without start weights.
        class_iterations: Length of the first phase.
        object_iterations: Length of the second phase.

    Returns:
        The safetensors file.
    """
    first = _phase(out, model, class_iterations, True, None)
    second = _phase(out, model, object_iterations, False, first.checkpoint)
    print("objects on held-out pretrain scenes:", second.metrics)
    path = out / "mask2former_demo.safetensors"
    save_weights(second.checkpoint, path)
    return path


def save_weights(checkpoint: Path, path: Path) -> None:
    """Write a checkpoint's averaged weights as float16, without its class layer."""
    weights = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in read_checkpoint(checkpoint).weights.items()
        if not any(part in name for part in LEFT_OUT)
    }
    save_file(weights, path)


def _without_start(folder: Path) -> str:
    """Write the demo's model config with random start weights; the path of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.py"
    path.write_text(f'_base_ = ["{model_config_path("mask2former_demo")}"]\nstart = None\n')
    return str(path)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    parser.add_argument("--class-iterations", type=int, default=800)
    parser.add_argument("--object-iterations", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        pretrain(
            arguments.out,
            _without_start(arguments.out),
            arguments.class_iterations,
            arguments.object_iterations,
        )
    )


if __name__ == "__main__":
    main()
