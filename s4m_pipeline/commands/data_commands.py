"""``s4m data``: splits and checks of COCO-style image sets, and Cityscapes turned into one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s4m_pipeline.commands.data_printing import fault_row, print_faults, print_splits
from s4m_pipeline.commands.options import Json, example
from s4m_pipeline.console.printable import echo
from s4m_pipeline.errors import DONE, FAILED, SET_ASIDE, UsageError

if TYPE_CHECKING:
    from s4m_pipeline.data.check.faults import Fault
    from s4m_pipeline.data.reading import Reading

data_app = typer.Typer(help="Split, check, clean and convert image sets.", no_args_is_help=True)

AnnotationsOption = Annotated[Path, typer.Option("--annotations", help="The COCO file.")]
ImagesOption = Annotated[Path, typer.Option("--images", help="The folder of images.")]
ProcessesOption = Annotated[
    int | None,
    typer.Option("--processes", min=1, help="Processes; one a core by default."),
]
LevelsOption = Annotated[
    tuple[float, float] | None,
    typer.Option(
        help="data.levels: black and white of pictures of more than 8 bits; auto if left out."
    ),
]
ExifOption = Annotated[
    str, typer.Option(help="data.exif: upright, or ignore for labels drawn on stored pictures.")
]
OutsideOption = Annotated[
    bool, typer.Option("--outside", help="Names may lead out of the folder (data.outside).")
]
MegapixelsOption = Annotated[
    int | None,
    typer.Option(min=1, max=2048, help="data.max_megapixels: what a picture may have; 110."),
]
PercentOption = Annotated[
    list[float] | None,
    typer.Option(help="Share of the images that keeps its masks; may be given several times."),
]
ListOption = Annotated[
    list[Path] | None,
    typer.Option("--list", help="A list of the labelled images instead, such as perc_5.txt."),
]

AgainstOption = Annotated[
    list[Path] | None,
    typer.Option(help="COCO file of a set that must not share pictures; several times."),
]
AgainstImagesOption = Annotated[
    list[Path] | None, typer.Option(help="Its folder of images, in the same order.")
]
DecodeOption = Annotated[
    bool, typer.Option("--decode/--headers", help="Decode images whole, or read headers only.")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit with 1 when a fault is found.")]
ModelOption = Annotated[
    str | None, typer.Option(help="Say what of it this model (a name or a config) cannot find.")
]


@data_app.command(
    "split",
    epilog=example(
        "data split --annotations all.json --images photos --percent 10 --validation 10 --out sets"
    ),
)
def split(
    annotations: AnnotationsOption,
    images: ImagesOption,
    percent: PercentOption = None,
    listed: ListOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("."),
    seed: Annotated[int, typer.Option(help="Fixes the draw.")] = 0,
    stratified: Annotated[
        bool, typer.Option("--stratified/--plain", help="Keep each class's share, or not.")
    ] = True,
    unlabelled: Annotated[
        str, typer.Option(help="Unlabelled images: rest (those not labelled) or all.")
    ] = "rest",
    validation: Annotated[
        float, typer.Option(help="Share of the images, in percent, held back with their masks.")
    ] = 0.0,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode/--headers", help="Keep images that show the same picture in one part, or not."
        ),
    ] = True,
    outside: OutsideOption = False,
    processes: ProcessesOption = None,
    as_json: Json = False,
) -> None:
    """Divide a COCO file into labelled-P.json and unlabelled-P.json; no image is copied.

    The labelled images are listed in perc_P.txt, too, which --list and the scripts of S4M's
    authors read. With --validation, validation-P.json holds images that neither of the others has.
    Images that show the same picture, as data check finds them, stay in one part.
    """
    from s4m_pipeline.console.reporter import Reporter
    from s4m_pipeline.data.split.split import UNLABELLED, SplitSource, check_names
    from s4m_pipeline.execution.parallel import default_processes

    if bool(percent) == bool(listed):
        raise UsageError("give either --percent or --list")
    if unlabelled not in UNLABELLED:
        raise UsageError(f"--unlabelled is {unlabelled!r}; it is one of {', '.join(UNLABELLED)}")
    workers, progress = processes or default_processes(), Reporter().progress
    source = SplitSource(annotations, images, decode, workers, progress, outside)
    splits = [source.draw(share, seed, stratified, validation) for share in percent or []]
    splits += [source.take(path, seed, stratified, validation) for path in listed or []]
    check_names(splits)
    summaries = []
    for drawn in splits:
        files = source.write(drawn, out, unlabelled)
        paths = [files.labelled, files.unlabelled, files.validation, files.listed]
        names = [str(path) for path in paths if path is not None]
        summaries.append({"name": drawn.name, "files": names, **source.summary(drawn, unlabelled)})
    if source.alike:
        said = f"{len(source.alike):,} images show the same picture as another"
        echo(f"{said} (data check names them): such images stay in one part", err=True)
    print_splits(summaries, as_json)


@data_app.command("check", epilog=example("data check --annotations labelled.json --images photos"))
def check(
    annotations: AnnotationsOption,
    images: ImagesOption,
    against: AgainstOption = None,
    against_images: AgainstImagesOption = None,
    decode: DecodeOption = True,
    levels: LevelsOption = None,
    exif: ExifOption = "upright",
    outside: OutsideOption = False,
    max_megapixels: MegapixelsOption = None,
    strict: StrictOption = False,
    model: ModelOption = None,
    processes: ProcessesOption = None,
    as_json: Json = False,
) -> None:
    """Name what is wrong with a COCO file and its images, with counts.

    Notes, unlike faults, may be intended. With --against, pictures are recognised by their content:
    the same file, the same pixels, or the same picture resized or compressed anew. Without --strict
    the exit code is 0 even if there are faults.
    """
    from s4m_pipeline.configs import model_config_path
    from s4m_pipeline.console.reporter import Reporter
    from s4m_pipeline.data.check.check import check_coco
    from s4m_pipeline.execution.parallel import default_processes

    reading = _reading(levels, exif, max_megapixels)
    others = _others(against or [], against_images or [], decode)
    if model is not None:
        model_config_path(model)
    faults = check_coco(
        annotations,
        images,
        decode=decode,
        against=others,
        processes=processes or default_processes(),
        progress=Reporter().progress,
        reading=reading,
        outside=outside,
    )
    if model is not None:
        faults += _misfits(annotations, images, model)
    print_faults(faults, as_json)
    if strict and not all(fault.is_note for fault in faults):
        raise typer.Exit(FAILED)


def _reading(levels: tuple[float, float] | None, exif: str, max_megapixels: int | None) -> Reading:
    """How pictures are read, as the options say (UsageError where they make no sense)."""
    from s4m_pipeline.data.levels import Levels
    from s4m_pipeline.data.reading import PLAIN, Reading

    if levels is not None and not levels[0] < levels[1]:
        raise UsageError(f"--levels: {levels[0]:g} is not below {levels[1]:g}")
    if exif not in ("upright", "ignore"):
        raise UsageError(f"--exif is {exif!r}; it is upright or ignore")
    megapixels = PLAIN.megapixels if max_megapixels is None else max_megapixels
    return Reading(None if levels is None else Levels(*levels), exif == "upright", megapixels)


def _others(
    against: list[Path], against_images: list[Path], decode: bool
) -> list[tuple[Path, Path]]:
    """The sets to compare with, each a file and its folder (UsageError where one is missing)."""
    if len(against) != len(against_images):
        raise UsageError("give one --against-images for each --against")
    if against and not decode:
        raise UsageError("--against compares pictures; it does not go with --headers")
    return list(zip(against, against_images, strict=True))


def _misfits(annotations: Path, images: Path, model: str) -> list[Fault]:
    """What a model cannot find in a set; nothing where the set's faults forbid to read it."""
    from s4m_pipeline.data.check.model_limits import misfits
    from s4m_pipeline.data.formats import coco

    try:
        labelled = coco.load(annotations, images)
    except UsageError as error:
        echo(f"--model waits until the faults are mended: {error}", err=True)
        return []
    return [misfit.as_fault() for misfit in misfits(labelled, model, small=0)]


@data_app.command(
    "clean",
    epilog=example("data clean --annotations all.json --images photos --out all-clean.json"),
)
def clean(
    annotations: AnnotationsOption,
    images: ImagesOption,
    out: Annotated[Path, typer.Option(help="The COCO file to write.")],
    outside: OutsideOption = False,
    as_json: Json = False,
) -> None:
    """Write a COCO file without the annotations and images that cannot be used; it trains.

    What is left out is counted by kind. Entries of one file become one, and what is plain is
    mended: 1 for 1.0 or "1", the text of a class named by a number. The exit code is 4 where a
    picture is left out.
    """
    from s4m_pipeline.console.reporter import Reporter
    from s4m_pipeline.data.clean.clean import clean as clean_file

    cleaned = clean_file(annotations, images, out, Reporter().progress, outside)
    if as_json:
        names = ("images", "annotations")
        counts = {n: dict(zip(("kept", "all"), getattr(cleaned, n), strict=True)) for n in names}
        rows = [fault_row(fault) for fault in cleaned.left_out]
        told = {"file": str(out), **counts, "mended": cleaned.mended, "left_out": rows}
        echo(json.dumps(told, indent=2))
    else:
        for fault in cleaned.left_out:
            echo(f"left out: {fault.text}")
        of_images, of_all = (
            "{:,} of {:,}".format(*c) for c in (cleaned.images, cleaned.annotations)
        )
        echo(f"kept: {of_images} images, {of_all} annotations; {cleaned.mended:,} mended")
        echo(out)
    raise typer.Exit(SET_ASIDE if cleaned.lost_pictures else DONE)


@data_app.command(
    "cityscapes", epilog=example("data cityscapes --root cityscapes --out train.json")
)
def cityscapes(
    root: Annotated[Path, typer.Option(help="The folder that has leftImg8bit and gtFine.")],
    out: Annotated[Path, typer.Option(help="The COCO file to write.")],
    split: Annotated[str, typer.Option(help="train, val or another folder's name.")] = "train",
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out frames with a file missing; exit 4.")
    ] = False,
    processes: ProcessesOption = None,
    as_json: Json = False,
) -> None:
    """Write Cityscapes' instances of 8 classes as a COCO file.

    Its file names are relative to leftImg8bit/SPLIT. Groups, such as many cars drawn as one, become
    crowds, which metrics ignore.
    """
    from s4m_pipeline.console.reporter import Reporter
    from s4m_pipeline.data.formats.cityscapes import convert
    from s4m_pipeline.execution.parallel import default_processes

    summary = convert(
        root,
        split,
        out,
        skip_missing=skip_missing,
        processes=processes or default_processes(),
        progress=Reporter().progress,
    )
    if as_json:
        echo(json.dumps({"file": str(out), **summary}, indent=2))
    else:
        counts = ", ".join(f"{name} {count:,}" for name, count in summary["per_class"].items())
        echo(f"{summary['images']:,} images, {summary['instances']:,} instances ({counts}),")
        echo(f"{summary['groups']:,} groups; {summary['left_out']:,} frames left out")
        echo(out)
    raise typer.Exit(SET_ASIDE if summary["left_out"] else DONE)


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.add_typer(data_app, name="data")
