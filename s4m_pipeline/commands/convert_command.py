"""``convert-checkpoint``: detectron2's Mask2Former to MMDetection's and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from s4m_pipeline.commands.options import example
from s4m_pipeline.console.printable import echo
from s4m_pipeline.errors import UsageError

TARGETS = ("mmdet", "detectron2")
MODELS = ("teacher", "student")
"""The two models in a mean teacher's checkpoint."""

ModelOption = Annotated[
    str | None,
    typer.Option(help="Name or path of the model config.", show_default="by the backbone"),
]
WhichOption = Annotated[
    str | None,
    typer.Option(help="teacher or student, of a checkpoint that holds both.", show_default="both"),
]
CategoriesOption = Annotated[
    str | None,
    typer.Option(
        help="coco, cityscapes, or a COCO file that lists the classes.",
        show_default="by their number",
    ),
]


def convert_checkpoint(
    source: Annotated[Path, typer.Argument(help="The checkpoint to convert.")],
    out: Annotated[Path, typer.Argument(help="The .pth file to write.")],
    to: Annotated[
        str, typer.Option("--to", help="mmdet (a checkpoint for s4m) or detectron2.")
    ] = "mmdet",
    model: ModelOption = None,
    which: WhichOption = None,
    categories: CategoriesOption = None,
) -> None:
    """Convert a Mask2Former of detectron2 or MMDetection for s4m, or one of s4m for detectron2.

    With --to mmdet, the result is what 's4m evaluate --of', teacher.weights and student.weights
    take. The file of a backbone alone (torchvision's ResNet, Swin's, detectron2's) needs no
    conversion.
    """
    _refuse_wrong_use(source, out, to, which)
    if to == "detectron2" and (model or categories):
        raise UsageError("--model and --categories are in the checkpoint; leave them out")
    from s4m_pipeline.models.conversion.convert import convert_checkpoint as convert

    target = cast(Literal["mmdet", "detectron2"], to)
    part = cast(Literal["teacher", "student"] | None, which)
    summary = convert(source, out, target, model, part, categories)
    echo(out)
    echo(
        f"{summary.models} from {summary.layout}'s layout: {summary.tensors} tensors, "
        f"{summary.model}, {summary.classes}",
        err=True,
    )


def _refuse_wrong_use(source: Path, out: Path, to: str, which: str | None) -> None:
    """Refuse what is wrong as far as that can be seen without torch."""
    if to not in TARGETS:
        raise UsageError(f"--to is {' or '.join(TARGETS)}, not '{to}'")
    if which not in (None, *MODELS):
        raise UsageError(f"--which is {' or '.join(MODELS)}, not '{which}'")
    if not source.is_file():
        fault = "is a folder, not a file" if source.is_dir() else "no such file"
        raise UsageError(f"{source}: {fault}")
    if out.suffix != ".pth":
        raise UsageError(f"the result is a file of torch: name it .pth, not '{out.name}'")
    if out.exists():
        raise UsageError(f"{out} is there already; s4m convert-checkpoint does not overwrite it")


def add_to(app: typer.Typer) -> None:
    """Register this command."""
    epilog = example("convert-checkpoint model_final.pkl teacher.pth --categories coco")
    app.command("convert-checkpoint", epilog=epilog)(convert_checkpoint)
