"""Cityscapes' folders, read as an image set or written as one COCO file. No torch.

The layout is that of the data set's archives: ``leftImg8bit/SPLIT/CITY/FRAME_leftImg8bit.png`` and
``gtFine/SPLIT/CITY/FRAME_gtFine_instanceIds.png``, where FRAME is city, sequence and frame number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s4m_pipeline.data.folders import require_folder
from s4m_pipeline.data.formats.cityscapes.reader import CLASSES, convert_image
from s4m_pipeline.data.formats.coco.reader import from_coco_dict
from s4m_pipeline.data.formats.coco.writer import save_content
from s4m_pipeline.data.image_set import ImageSet
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.parallel import Progress, silent, work_through

IMAGE_SUFFIX = "_leftImg8bit.png"
TRUTH_SUFFIX = "_gtFine_instanceIds.png"
EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Pairs:
    """What the folders of a split hold, by CITY/FRAME, sorted.

    Attributes:
        frames: Frames with image and ground truth.
        without_truth: Images without ground truth.
        without_image: Ground truth without image.
    """

    frames: list[str]
    without_truth: list[str]
    without_image: list[str]

    @property
    def fault(self) -> str | None:
        """What is missing, with the first few names; None when nothing is."""
        parts = [
            f"{len(names)} {what} (" + ", ".join(names[:EXAMPLES]) + ")"
            for names, what in (
                (self.without_truth, f"images without {TRUTH_SUFFIX}"),
                (self.without_image, f"ground truth files without {IMAGE_SUFFIX}"),
            )
            if names
        ]
        return " and ".join(parts) or None


def find_pairs(root: Path, split: str) -> Pairs:
    """Find a split's frames.

    Args:
        root: The folder that has ``leftImg8bit`` and ``gtFine``.
        split: A folder below both, such as train or val.

    Raises:
        UsageError: A folder is missing, or there is no frame at all.
    """
    require_folder(root)
    images = _frames(root / "leftImg8bit" / split, IMAGE_SUFFIX)
    truths = _frames(root / "gtFine" / split, TRUTH_SUFFIX)
    if not images and not truths:
        raise UsageError(f"{root}: no {IMAGE_SUFFIX} and no {TRUTH_SUFFIX} in the split {split!r}")
    return Pairs(sorted(images & truths), sorted(images - truths), sorted(truths - images))


def load(
    root: Path,
    split: str,
    *,
    skip_missing: bool = False,
    processes: int = 1,
    progress: Progress = silent,
) -> ImageSet:
    """Read a split's instances as an image set.

    Ids and file names are those of ``convert``. Groups are crowds.

    Args:
        root: The folder that has ``leftImg8bit`` and ``gtFine``.
        split: A folder below both, such as train or val.
        skip_missing: Leave out frames whose image or ground truth is missing.
        processes: How many processes read.
        progress: Shows how far it is.

    Raises:
        UsageError: A file is missing and ``skip_missing`` is off, or cannot be read.
    """
    content, _ = _read(root, split, skip_missing, processes, progress)
    return from_coco_dict(content, root / "gtFine" / split, root / "leftImg8bit" / split)


def convert(
    root: Path,
    split: str,
    out: Path,
    *,
    skip_missing: bool = False,
    processes: int = 1,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write a split's instances as a COCO file.

    File names are relative to ``leftImg8bit/SPLIT``, image ids count from 1 in their order, and
    category ids are Cityscapes' label ids. Each image has the pixels without a label as ``void``.

    Args:
        root: The folder that has ``leftImg8bit`` and ``gtFine``.
        split: A folder below both, such as train or val.
        out: The file to write; its folder is made when missing.
        skip_missing: Leave out frames whose image or ground truth is missing.
        processes: How many processes convert.
        progress: Shows how far it is.

    Returns:
        ``images``, ``instances``, ``groups`` and ``left_out`` (frames) as counts, and
        ``per_class``: instances by name.

    Raises:
        UsageError: A file is missing and ``skip_missing`` is off, or cannot be read or written.
    """
    content, left_out = _read(root, split, skip_missing, processes, progress)
    save_content(content, out)
    return {**_figures(content), "left_out": left_out}


def _read(
    root: Path, split: str, skip_missing: bool, processes: int, progress: Progress
) -> tuple[dict[str, Any], int]:
    """A split as a COCO file's content, and the number of frames that are left out."""
    pairs = find_pairs(root, split)
    if pairs.fault is not None and not skip_missing:
        raise UsageError(f"{root}: {pairs.fault}; --skip-missing leaves them out")
    if not pairs.frames:
        raise UsageError(f"{root}: {pairs.fault}; no frame has both")
    content = _content(split)
    with progress(f"cityscapes {split}", len(pairs.frames)) as advance:
        jobs = ((root, split, frame) for frame in pairs.frames)
        results = work_through(_convert_frame, jobs, processes)
        for frame, converted in zip(pairs.frames, results, strict=True):
            _add(content, frame + IMAGE_SUFFIX, converted)
            advance(1, "")
    return content, len(pairs.without_truth) + len(pairs.without_image)


def _frames(folder: Path, suffix: str) -> set[str]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; Cityscapes has its files there")
    return {
        path.relative_to(folder).as_posix().removesuffix(suffix)
        for path in folder.glob(f"*/*{suffix}")
    }


def _convert_frame(job: tuple[Path, str, str]) -> dict[str, Any]:
    root, split, frame = job
    image = root / "leftImg8bit" / split / (frame + IMAGE_SUFFIX)
    return convert_image(image, root / "gtFine" / split / (frame + TRUTH_SUFFIX))


def _content(split: str) -> dict[str, Any]:
    return {
        "info": {"description": f"Cityscapes gtFine {split}: instances of 8 classes"},
        "categories": [{"id": key, "name": name} for key, name in CLASSES.items()],
        "images": [],
        "annotations": [],
    }


def _add(content: dict[str, Any], name: str, converted: dict[str, Any]) -> None:
    """Add an image and its annotations, numbered on."""
    image = {
        "id": len(content["images"]) + 1,
        "file_name": name,
        "height": converted["height"],
        "width": converted["width"],
    }
    if converted["void"] is not None:
        image["void"] = converted["void"]
    content["images"].append(image)
    for entry in converted["annotations"]:
        number = len(content["annotations"]) + 1
        content["annotations"].append({"id": number, "image_id": image["id"], **entry})


def _figures(content: dict[str, Any]) -> dict[str, Any]:
    entries: Sequence[dict[str, Any]] = content["annotations"]
    single = [entry for entry in entries if not entry["iscrowd"]]
    return {
        "images": len(content["images"]),
        "instances": len(single),
        "groups": len(entries) - len(single),
        "per_class": {
            name: sum(entry["category_id"] == key for entry in single)
            for key, name in CLASSES.items()
        },
    }
