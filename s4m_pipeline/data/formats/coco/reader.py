"""COCO files, read and checked. No torch.

COCO's conventions: ``bbox`` is x, y, width, height in pixels; masks are COCO's compressed RLE.
A label's box and area are taken from its mask, because exporters often write something else there.
The file's own values are kept beside them, because COCO's metric counts by those.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, cast

from s4m_pipeline.data.formats.coco.values import (
    PANOPTIC,
    EntryError,
    category_key,
    crowd_of,
    file_area,
    file_bbox,
    image_key,
    is_panoptic,
    lacks_size,
    picture_name,
    reference,
    size_fault,
)
from s4m_pipeline.data.image_set import (
    Category,
    EmptyMask,
    ImageRecord,
    ImageSet,
    Instance,
)
from s4m_pipeline.data.images import header_size
from s4m_pipeline.data.reading import PLAIN, Reading
from s4m_pipeline.errors import UsageError
from s4m_pipeline.strict_json import JsonError, read_json


def load(annotations: Path, images: Path, masks: bool = True, reading: Reading = PLAIN) -> ImageSet:
    """Read a COCO instance file.

    Polygons, compressed and uncompressed RLE are read. Roboflow adds a class that is only the
    supercategory of the others; it is left out where no annotation has it.

    Args:
        annotations: The COCO JSON file.
        images: The folder that the file names are relative to.
        masks: False for unlabelled images: the file's annotations are then never looked at, and
            the sizes that it lacks are taken from the images' headers, as of a folder.
        reading: How headers are read.

    Raises:
        UsageError: The file is missing, not JSON, not COCO, or an entry in it is wrong; the
            message names the image or annotation id.
    """
    return from_coco_dict(load_coco_json(annotations), annotations, images, masks, reading)


def from_coco_dict(
    content: Mapping[str, Any],
    source: Path,
    images: Path,
    masks: bool = True,
    reading: Reading = PLAIN,
) -> ImageSet:
    """Check a COCO file's content and turn it into an image set.

    Args:
        content: The content, with a list under ``images``.
        source: What messages name as its file.
        images: The folder that the file names are relative to.
        masks: See ``load``.
        reading: Likewise.

    Raises:
        UsageError: An entry is wrong; the message names the command that leaves such entries out.
    """
    try:
        return _image_set(content, source, images, masks, reading)
    except EntryError as error:
        raise UsageError(f"{error}\n{cleaning(source, images)}" if masks else str(error)) from error


def cleaning(source: Path, images: Path) -> str:
    """How to go on with a file of which some entries cannot be used."""
    out = source.with_name(f"{source.stem}-clean.json")
    paths = zip(("annotations", "images", "out"), (source, images, out), strict=True)
    options = " ".join(f"--{name} {shlex.quote(str(path))}" for name, path in paths)
    return f"Leave out what cannot be used with: s4m data clean {options}"


def _image_set(
    content: Mapping[str, Any], source: Path, images: Path, masks: bool, reading: Reading
) -> ImageSet:
    records = read_images(content["images"], source, images, None if masks else reading)
    entries = _list_under(content, "annotations", source) if masks else None
    used = {reference(entry, "category_id") for entry in entries or () if isinstance(entry, dict)}
    categories = read_categories(content.get("categories", []), source, used)
    image_set = ImageSet(categories, sorted(records.values(), key=lambda image: image.id))
    if entries is not None:
        known = {category.id for category in categories}
        for image_id, own in _by_image(entries, records, known, source).items():
            _add_instances(image_set, records[image_id], own, source)
    return image_set


def load_coco_json(annotations: Path) -> dict[str, Any]:
    """Load a COCO file's JSON and check that it has a list of images.

    Raises:
        UsageError: The file is missing, unreadable, not JSON, or not COCO.
    """
    try:
        content = read_json(annotations.read_bytes())
    except OSError as error:
        raise UsageError(f"{annotations}: {error.strerror or error}") from error
    except JsonError as error:
        raise UsageError(f"{annotations}: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{annotations}: not a COCO file (its JSON is not an object)")
    _list_under(content, "images", annotations)
    return content


def _list_under(content: Mapping[str, Any], key: str, source: Path) -> list[Any]:
    entries = content.get(key)
    if not isinstance(entries, list):
        raise UsageError(f"{source}: not a COCO file (no list under {key!r})")
    return entries


def read_images(
    entries: Sequence[Any], source: Path, folder: Path, headers: Reading | None = None
) -> dict[int, ImageRecord]:
    """Read a file's image entries, by id.

    Args:
        entries: The entries.
        source: The file, for messages.
        folder: The folder that the file names are relative to.
        headers: How to read the headers of images without a size; None refuses such entries.

    Raises:
        UsageError: An entry cannot be used, or an id or a file occurs twice.
    """
    records: dict[int, ImageRecord] = {}
    names: dict[str, int] = {}
    for place, entry in enumerate(entries):
        image_id, name = image_key(entry, place, source)
        if image_id in records:
            raise EntryError(f"{source}: image id {image_id} occurs twice")
        first = names.setdefault(picture_name(name), image_id)
        if first != image_id:
            raise EntryError(f"{source}: {name} occurs twice (images {first}, {image_id})")
        fault = size_fault(entry)
        if fault is None:
            height, width = entry["height"], entry["width"]
        elif headers is not None and lacks_size(entry):
            height, width = header_size(folder / name, headers.upright)
        else:
            raise EntryError(f"{source}: image {image_id} ({name}) {fault}")
        records[image_id] = ImageRecord(image_id, name, folder / name, height, width)
    return records


def read_categories(entries: Any, source: Path, used: Collection[int | None]) -> list[Category]:
    """Read a file's categories, without the one that Roboflow adds.

    Args:
        entries: The entries.
        source: The file, for messages.
        used: The ids that annotations have: a class that one has is no addition.

    Raises:
        UsageError: They are no list, an entry cannot be used, or an id or a name occurs twice.
    """
    if not isinstance(entries, list):
        raise UsageError(f"{source}: 'categories' is not a list")
    categories: dict[int, Category] = {}
    for place, entry in enumerate(entries):
        category_id, name = category_key(entry, place, source)
        if category_id in categories:
            raise UsageError(f"{source}: category id {category_id} occurs twice")
        categories[category_id] = Category(category_id, name)
    extra = supercategory_only(entries)
    kept = [c for c in categories.values() if c.id != extra or c.id in used]
    _check_names(kept, source)
    return kept


def _check_names(categories: Sequence[Category], source: Path) -> None:
    seen: dict[str, int] = {}
    for category in categories:
        if category.name in seen:
            raise UsageError(
                f"{source}: categories {seen[category.name]} and {category.id} are both named "
                f"{category.name!r}"
            )
        seen[category.name] = category.id


def supercategory_only(entries: Sequence[Mapping[str, Any]]) -> int | None:
    """Find the class of id 0 that Roboflow adds: the supercategory of all the others."""
    first = next((entry for entry in entries if entry["id"] == 0), None)
    others = [entry for entry in entries if entry["id"] != 0]
    if first is None or not others or first.get("supercategory") not in (None, "", "none"):
        return None
    return 0 if all(entry.get("supercategory") == first["name"] for entry in others) else None


def _by_image(
    entries: list[Any], records: Mapping[int, ImageRecord], known: set[int], source: Path
) -> dict[int, list[tuple[int, dict[str, Any]]]]:
    """Put annotations, each with its category id, together by image."""
    grouped: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise EntryError(f"{source}: annotation number {place} is not an object")
        if is_panoptic(entry):
            raise UsageError(f"{source}: {PANOPTIC}")
        name = f"annotation {shortened(entry['id']) if 'id' in entry else f'number {place}'}"
        image_id, category_id = reference(entry, "image_id"), reference(entry, "category_id")
        if image_id not in records:
            shown = shortened(entry.get("image_id"))
            raise EntryError(f"{source}: {name} is of image {shown}, which is not in the file")
        if category_id not in known:
            shown = shortened(entry.get("category_id"))
            raise EntryError(f"{source}: {name} has category {shown}, which is not in the file")
        grouped.setdefault(cast(int, image_id), []).append((cast(int, category_id), entry))
    return grouped


def _add_instances(
    image_set: ImageSet,
    image: ImageRecord,
    entries: list[tuple[int, dict[str, Any]]],
    source: Path,
) -> None:
    # late, because it needs numpy: `s4m status` reads images without masks
    from s4m_pipeline.data.formats.coco.segmentation import bbox_areas, encode_segmentation

    rles, crowds = [], []
    for _, entry in entries:
        try:
            rles.append(encode_segmentation(entry.get("segmentation"), image.height, image.width))
            crowds.append(crowd_of(entry))
        except ValueError as error:
            raise EntryError(
                f"{source}: annotation {shortened(entry.get('id'))} of image {image.id} "
                f"({image.file_name}): {error}"
            ) from error
    boxes, areas = bbox_areas(rles, image.height, image.width)
    kept = []
    measured = zip(entries, crowds, rles, boxes, areas, strict=True)
    for place, ((category_id, entry), crowd, rle, box, area) in enumerate(measured):
        own = (file_bbox(entry), file_area(entry))
        instance = Instance(category_id, rle, box, area, crowd, *own)
        if area:
            kept.append(instance)
        else:
            empty = EmptyMask(entry.get("id", -1), place, instance)
            image_set.empty.setdefault(image.id, []).append(empty)
    if kept:
        image_set.instances[image.id] = kept
