"""Train the start weights of the demo's Mask2Former on generated scenes of the ``pretrain`` style.

    python tools/pretrain_demo_model.py --iterations 2600 --out demo-model

writes ``mask2former_demo.safetensors`` (float16, averaged weights, without the class layer), which
goes to ``s4m_pipeline/configs/models/weights``. They are to the demo what ImageNet's or COCO's
weights are to a real run. The scenes share no shape, pattern or ground with the demo's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from s4m_pipeline.data.scenes import class_names, generate_scenes
from s4m_pipeline.models.checkpoints import read_checkpoint
from s4m_pipeline.models.training import TrainingSpec, train

SCENES = {"train": (2400, 12345), "valid": (100, 54321)}
"""Number and seed of the scenes of each set."""
LEFT_OUT = ("cls_embed",)


def _dataset(folder: Path, split: str) -> dict[str, str]:
    count, seed = SCENES[split]
    annotations = folder / f"{split}.json"
    if not annotations.is_file():
        generate_scenes(folder, count, seed, split, style="pretrain")
    return {
        "type": "CocoInstances",
        "annotations": str(annotations),
        "images": str(folder / split),
    }


def _tell(iteration: int, losses: dict[str, float]) -> None:
    if iteration % 50 == 0:
        print(iteration, f"loss {losses['loss']:.3f}", flush=True)


def pretrain(out: Path, iterations: int, model: str) -> Path:
    """Train, going on where an earlier call stopped, and write the weights.

    Args:
        out: Folder for scenes, checkpoints and weights.
        iterations: Length of the training.
        model: Name or path of the model config; its own ``start`` weights are to be unset.

    Returns:
        The safetensors file.
    """
    categories = [{"id": i + 1, "name": n} for i, n in enumerate(class_names("pretrain"))]
    spec = TrainingSpec(
        folder=out,
        model=model,
        categories=categories,
        labelled=_dataset(out / "scenes", "train"),
        validation=_dataset(out / "scenes", "valid"),
        iterations=iterations,
        batch_size=8,
        learning_rate=5e-4,
        validation_interval=700,
        checkpoint_interval=200,
        ema=0.998,
        log_file=out / "log.jsonl",
        on_step=_tell,
    )
    result = train(spec)
    print("on held-out pretrain scenes:", result.metrics)
    weights = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in read_checkpoint(result.checkpoint).weights.items()
        if not any(part in name for part in LEFT_OUT)
    }
    path = out / "mask2former_demo.safetensors"
    save_file(weights, path)
    return path


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    parser.add_argument("--iterations", type=int, default=2600)
    parser.add_argument("--model", default="mask2former_demo", help="name or path of its config")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(pretrain(arguments.out, arguments.iterations, arguments.model))


if __name__ == "__main__":
    main()
