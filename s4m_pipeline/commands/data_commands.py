"""``s4m data``: splits and checks of COCO-style image sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s4m_pipeline.commands.options import Verbose

data_app = typer.Typer(help="Split and check image sets.", no_args_is_help=True)

AnnotationsOption = Annotated[Path, typer.Option("--annotations", help="The COCO file.")]
ImagesOption = Annotated[Path, typer.Option("--images", help="The folder of images.")]


@data_app.command("split")
def split(
    annotations: AnnotationsOption,
    images: ImagesOption,
    percent: Annotated[float, typer.Option(help="Share of the images that keeps its masks.")],
    out: Annotated[Path, typer.Option(help="Folder for the two files.")] = Path("."),
    seed: Annotated[int, typer.Option(help="Fixes the draw.")] = 0,
    stratified: Annotated[
        bool, typer.Option(help="Keep each class's share; else draw images plainly.")
    ] = True,
    verbose: Verbose = False,
) -> None:
    """Divide a COCO file into labelled-P.json and unlabelled-P.json; no image is copied."""
    from s4m_pipeline.data.split import write_split

    for path in write_split(annotations, images, percent, seed, stratified, out):
        typer.echo(path)


@data_app.command("check")
def check(annotations: AnnotationsOption, images: ImagesOption, verbose: Verbose = False) -> None:
    """Name what is wrong with a COCO file and its images, with counts."""
    from s4m_pipeline.data.check import check_coco

    faults = check_coco(annotations, images)
    for fault in faults:
        typer.echo(fault.text)
    if not faults:
        typer.echo("no fault found")


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(data_app, name="data")
