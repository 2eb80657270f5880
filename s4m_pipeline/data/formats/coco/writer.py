"""Image sets to COCO files. No torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from s4m_pipeline.artifacts.plain_files import clear_the_way
from s4m_pipeline.data.image_set import ImageRecord, ImageSet, Instance
from s4m_pipeline.errors import UsageError
from s4m_pipeline.system_errors import full_disk


def save(images: ImageSet, path: Path) -> None:
    """Write an image set as a COCO file, complete or not at all.

    Args:
        images: The set. Masks are written as COCO's compressed RLE.
        path: The file; its folder is made when missing.

    Raises:
        UsageError: The file cannot be written.
    """
    save_content(to_coco_dict(images), path)


def save_content(content: Mapping[str, Any], path: Path) -> None:
    """Write a COCO file's content, complete or not at all; see ``save``."""
    write_text(path, [json.dumps(content)])


def to_coco_dict(images: ImageSet) -> dict[str, Any]:
    """Turn an image set into a COCO file's content, by which COCO's metric counts.

    Box and area are those of the file that the set was read from, where it has them, else the
    mask's. Annotations whose mask has no pixel are among the others. COCO's own evaluation counts
    in the same way. Annotation ids start at 1, because pycocotools takes a match with id 0 for no
    match.
    """
    annotations = [
        _as_annotation(image, instance)
        for image in images.images
        for instance in _counted(images, image.id)
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    return {
        "info": {},
        "images": [
            {"id": i.id, "file_name": i.file_name, "height": i.height, "width": i.width}
            for i in images.images
        ],
        "annotations": annotations,
        "categories": [{"id": c.id, "name": c.name} for c in images.categories],
    }


def _counted(images: ImageSet, image_id: int) -> list[Instance]:
    """An image's annotations in the file's order, with those that have no pixel."""
    counted = list(images.instances.get(image_id, []))
    for mask in images.empty.get(image_id, []):
        counted.insert(mask.place, mask.instance)
    return counted


def _as_annotation(image: ImageRecord, instance: Instance) -> dict[str, Any]:
    bbox, area = instance.file_bbox, instance.file_area
    return {
        "image_id": image.id,
        "category_id": instance.category_id,
        "bbox": list(instance.bbox if bbox is None else bbox),
        "area": instance.area if area is None else area,
        "iscrowd": int(instance.iscrowd),
        "segmentation": {
            "size": [image.height, image.width],
            "counts": instance.rle.decode("ascii"),
        },
    }


LOOKED_AT = 1 << 16
"""Bytes of each end of a file by which it is told whether it is a COCO file."""
KEYS = (b'"images"', b'"annotations"', b'"categories"')


def write_text(path: Path, parts: Iterable[str]) -> None:
    """Write a file from pieces of text, complete or not at all.

    Args:
        path: The file; its folder is made when missing.
        parts: The pieces.

    Raises:
        UsageError: The file cannot be written, or another kind of file is there.
    """
    refuse_another_kind(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a lone surrogate becomes backslash, u and its number, which is JSON's way to write it
        with clear_the_way(partial).open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(parts)
        partial.replace(path)
    except FileExistsError as error:
        raise UsageError(f"{error.filename} is a file, not a folder") from error
    except OSError as error:
        failed = UsageError(f"{path}: {error.strerror or error}")
        raise full_disk(error, path) or failed from error


def refuse_another_kind(path: Path) -> None:
    """Refuse to write a COCO file over a file that is none.

    Raises:
        UsageError: There is such a file.
    """
    if not path.exists():
        return
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(LOOKED_AT)
            file.seek(max(0, path.stat().st_size - LOOKED_AT))
            tail = file.read()
        if not head or (head.lstrip()[:1] == b"{" and any(key in head + tail for key in KEYS)):
            return
    raise UsageError(f"{path} is there already and is no COCO file; it is not overwritten")
