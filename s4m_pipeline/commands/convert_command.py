"""``convert-checkpoint``: detectron2's Mask2Former to MMDetection's and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s4m_pipeline.commands.options import Verbose


def convert_checkpoint(
    source: Annotated[Path, typer.Argument(help="The checkpoint to convert.")],
    out: Annotated[Path, typer.Argument(help="The .pth file to write.")],
    to: Annotated[
        str, typer.Option("--to", help="mmdet (a checkpoint for s4m) or detectron2.")
    ] = "mmdet",
    model: Annotated[
        str | None,
        typer.Option(
            help="Name or path of the model config.", show_default="found by the backbone"
        ),
    ] = None,
    which: Annotated[
        str | None,
        typer.Option(
            help="teacher or student, of a checkpoint that holds both.", show_default="both"
        ),
    ] = None,
    categories: Annotated[
        str | None,
        typer.Option(
            help="coco, cityscapes, or a COCO file that lists the classes.",
            show_default="by their number",
        ),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Convert a Mask2Former of detectron2 or MMDetection for s4m, or one of s4m for detectron2.

    The result to mmdet is what 's4m evaluate --of', teacher.weights and student.weights take. A
    bare backbone's file (torchvision's ResNet, Swin's, detectron2's) needs no conversion for them.
    """
    from s4m_pipeline.models.conversion.convert import convert_checkpoint as convert

    done = convert(source, out, to, model, which, categories)
    typer.echo(out)
    typer.echo(
        f"{done.models} from {done.layout}'s layout: {done.tensors} tensors, {done.model}, "
        f"{done.classes}",
        err=True,
    )


def add_to(app: typer.Typer) -> None:
    """Register this command."""
    app.command("convert-checkpoint")(convert_checkpoint)
