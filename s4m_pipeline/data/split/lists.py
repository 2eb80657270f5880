"""Lists of labelled images, such as S4M's ``perc_*.txt``, read and written. No torch.

The authors' scripts for Cityscapes read ``perc_5.txt``, ``perc_10.txt`` and so on, which come from
the code of "Guided Distillation for Semi-Supervised Instance Segmentation" (Berrada et al.): plain
text, one ground truth file without its folder a line, in no order, every line ended,

    bremen_000041_000019_gtFine_instanceIds.png

148 lines for 5 % of Cityscapes' 2975 training images and 297 for 10 %: shares are rounded down.
For COCO they publish no lists; their script draws anew and writes COCO files. Both can be read
here, and so can file names with or without folder and suffix, and image ids.

A name that would not be read back, because it begins like a comment or with a blank, is written
with ``./`` before it, which means the same file.
"""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from s4m_pipeline.artifacts.plain_files import clear_the_way
from s4m_pipeline.data.formats.coco.reader import load_coco_json
from s4m_pipeline.errors import UsageError
from s4m_pipeline.system_errors import full_disk

CITYSCAPES_TRUTH = re.compile(
    r"_gt(Fine|Coarse)_(instanceIds|labelIds|labelTrainIds|color|polygons)$"
)
CITYSCAPES_IMAGE = "_leftImg8bit"
HERE = "./"
"""What follows this in a line is a name, taken literally."""
BYTE_ORDER_MARK = "\ufeff"
EXAMPLES = 3


def read_list(path: Path) -> list[str]:
    """Read a list's entries: the lines of a text file, or the file names in a COCO file.

    Empty lines and lines that begin with ``#`` are passed over, blanks at either end too; not so
    after ``./``, which is left out.

    Raises:
        UsageError: The file cannot be read, is not text, or names nothing.
    """
    if path.suffix.lower() == ".json":
        entries = load_coco_json(path)["images"]
        names = [str(e["file_name"]) for e in entries if isinstance(e, dict) and "file_name" in e]
    else:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}") from error
        if b"\0" in content or content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            raise UsageError(f"{path}: not a text file in UTF-8")
        # names are bytes: some are not UTF-8
        text = content.decode("utf-8-sig", "surrogateescape")
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        names = [name for line in lines if (name := _name(line))]
    if not names:
        raise UsageError(f"{path}: names no image")
    return names


def write_list(path: Path, file_names: Iterable[str]) -> None:
    """Write a list that the authors' scripts read: Cityscapes images by their ground truth.

    Raises:
        UsageError: It cannot be written, or a name holds a line break.
    """
    lines = [f"{_line(name)}\n" for name in file_names]
    broken = next((line for line in lines if "\r" in line or "\n" in line[:-1]), None)
    if broken is not None:
        raise UsageError(f"{path}: the name {broken[:-1]!r} has a line break, no list can hold it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = clear_the_way(path.with_name(f".{path.name}.{os.getpid()}.tmp"))
        partial.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
        partial.replace(path)  # a link in its place is not followed
    except FileExistsError as error:
        raise UsageError(f"{error.filename} is a file, not a folder") from error
    except OSError as error:
        failed = UsageError(f"{path}: {error.strerror or error}")
        raise full_disk(error, path) or failed from error


def match_list(names: Sequence[str], images: Sequence[Mapping[str, Any]], source: Path) -> set[int]:
    """Find the images that a list's entries mean.

    An entry is an image's file name, with or without its folder and suffix; the name of its
    Cityscapes ground truth; or its id.

    Args:
        names: The entries.
        images: COCO's image entries.
        source: The list, for messages.

    Returns:
        The images' ids.

    Raises:
        UsageError: An entry means no image or more than one, or two entries mean the same.
    """
    known = _index(images)
    chosen: dict[int, str] = {}
    missing = []
    for name in names:
        image_ids = _meant(name, known)
        if len(image_ids) > 1:
            examples = ", ".join(str(image_id) for image_id in sorted(image_ids)[:EXAMPLES])
            raise UsageError(f"{source}: {name!r} could be any of the images {examples}")
        if not image_ids:
            missing.append(name)
            continue
        image_id = image_ids.pop()
        if image_id in chosen:
            raise UsageError(f"{source}: {chosen[image_id]!r} and {name!r} are the same image")
        chosen[image_id] = name
    if missing:
        examples = ", ".join(repr(name) for name in missing[:EXAMPLES])
        raise UsageError(
            f"{source}: {len(missing)} of {len(names)} entries name no image, the first {examples}"
        )
    return set(chosen)


def _line(file_name: str) -> str:
    path = PurePosixPath(file_name)
    if path.stem.endswith(CITYSCAPES_IMAGE):
        return f"{path.stem.removesuffix(CITYSCAPES_IMAGE)}_gtFine_instanceIds.png"
    plain = _name(file_name) == file_name and not file_name.startswith(BYTE_ORDER_MARK)
    return file_name if plain else HERE + file_name


def _name(line: str) -> str:
    """The name that a line holds; empty where it holds none."""
    if line.startswith(HERE):
        return line.removeprefix(HERE)
    line = line.strip()
    return "" if line.startswith("#") else line


def _index(images: Sequence[Mapping[str, Any]]) -> dict[str, set[int]]:
    """Find image ids by whole name, by name without folder, by stem, and by id."""
    known: dict[str, set[int]] = {}
    for image in images:
        name = str(image["file_name"])
        path = PurePosixPath(name)
        for key in {path.name, path.stem, _frame(path.stem), str(image["id"])}:
            known.setdefault(key, set()).add(int(image["id"]))
    known.update({str(image["file_name"]): {int(image["id"])} for image in images})
    return known


def _meant(name: str, known: Mapping[str, set[int]]) -> set[int]:
    """Ids of the images an entry can mean: those of the first, most exact reading that has any."""
    path = PurePosixPath(name)
    for reading in (name, path.name, path.stem, _frame(path.stem), name.lstrip("0")):
        if reading in known:
            return set(known[reading])
    return set()


def _frame(stem: str) -> str:
    """Reduce a Cityscapes file's stem to city, sequence and frame."""
    return CITYSCAPES_TRUTH.sub("", stem).removesuffix(CITYSCAPES_IMAGE)
