"""Splitting a labelled COCO file into a labelled share and an unlabelled rest. No torch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s4m_pipeline.artifacts.seeds import rng
from s4m_pipeline.data.coco import load_coco_json, read_coco, require_instances
from s4m_pipeline.errors import UsageError

CANDIDATES = 1024
"""Images looked at for each place of a stratified split; keeps large sets quick."""


def split_coco(
    annotations: Path, images: Path, percent: float, seed: int, stratified: bool = True
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw a labelled share of a COCO file's images.

    Entries are passed on as they stand (ids, file names, everything else in them), only divided.

    Args:
        annotations: The COCO file.
        images: The folder its file names are relative to.
        percent: The labelled share of the images, above 0 and at most 100.
        seed: Fixes the draw.
        stratified: Keep each class's share of the instances close to ``percent``; otherwise the
            images are drawn evenly.

    Returns:
        The labelled part with its annotations, and the unlabelled part without any.

    Raises:
        UsageError: The file is not usable, an image is missing, or the percentage is out of range.
    """
    if not 0 < percent <= 100:
        raise UsageError(f"percent is {percent:g}; it must be above 0 and at most 100")
    found = read_coco(annotations, images)
    require_instances(found, str(annotations))
    missing = [image.file_name for image in found.images if not image.path.is_file()]
    if missing:
        raise UsageError(f"{images}: {len(missing)} images are missing, the first is {missing[0]}")
    ids = [image.id for image in found.images]
    count = min(len(ids), max(1, round(len(ids) * percent / 100)))
    generator = rng(seed, "split", f"{percent:g}")
    if stratified:
        labels = [[i.category_id for i in found.instances.get(key, [])] for key in ids]
        places = _draw_stratified(labels, count, generator)
    else:
        places = [int(place) for place in generator.permutation(len(ids))[:count]]
    return _divide(load_coco_json(annotations), {ids[place] for place in places})


def write_split(
    annotations: Path,
    images: Path,
    percent: float,
    seed: int,
    stratified: bool,
    folder: Path,
) -> tuple[Path, Path]:
    """Split a COCO file and write ``labelled-P.json`` and ``unlabelled-P.json`` into a folder.

    Args:
        annotations: The COCO file.
        images: The folder its file names are relative to.
        percent: The labelled share of the images; P in the files' names (10 or 2.5).
        seed: Fixes the draw.
        stratified: See ``split_coco``.
        folder: Where to write; made when missing.

    Returns:
        The labelled and the unlabelled file.

    Raises:
        UsageError: See ``split_coco``; or the folder cannot be written.
    """
    parts = split_coco(annotations, images, percent, seed, stratified)
    written = []
    for name, part in zip(("labelled", "unlabelled"), parts, strict=True):
        path = folder / f"{name}-{percent:g}.json"
        partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(part, ensure_ascii=False), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}") from error
        written.append(path)
    return written[0], written[1]


def _divide(content: dict[str, Any], chosen: set[int]) -> tuple[dict[str, Any], dict[str, Any]]:
    shared: dict[str, Any] = {
        key: content[key] for key in ("info", "licenses", "categories") if key in content
    }
    labelled: dict[str, Any] = {
        **shared,
        "images": [image for image in content["images"] if image["id"] in chosen],
        "annotations": [a for a in content["annotations"] if a["image_id"] in chosen],
    }
    unlabelled: dict[str, Any] = {
        **shared,
        "images": [image for image in content["images"] if image["id"] not in chosen],
        "annotations": [],
    }
    return labelled, unlabelled


def _draw_stratified(
    labels: Sequence[Sequence[int]], count: int, generator: np.random.Generator
) -> list[int]:
    """Choose images one by one, each time the one that keeps the classes nearest their share.

    After k of ``count`` images every class should have k / count of its part; images without
    instances count as a class of their own. A class's error is relative to its part, so that
    rare classes weigh as much as common ones.
    """
    table = _count_table(labels)
    part = table.sum(0) * (count / len(labels))
    weight = 1 / np.maximum(part, 1.0)
    open_places = generator.permutation(len(labels))
    reached = np.zeros(table.shape[1])
    chosen: list[int] = []
    for step in range(1, count + 1):
        looked_at = open_places[:CANDIDATES]
        error = (reached + table[looked_at] - part * (step / count)) * weight
        best = int(np.square(error).sum(1).argmin())
        chosen.append(int(looked_at[best]))
        reached += table[chosen[-1]]
        # the place is filled from the end, so that other images come into view
        open_places[best] = open_places[-1]
        open_places = open_places[:-1]
    return chosen


def _count_table(labels: Sequence[Sequence[int]]) -> np.ndarray:
    """Count instances: float array (images, classes + 1), the last column images without any."""
    column = {key: place for place, key in enumerate(sorted({c for row in labels for c in row}))}
    table = np.zeros((len(labels), len(column) + 1))
    for row, found in enumerate(labels):
        for key in found:
            table[row, column[key]] += 1
        if not found:
            table[row, -1] = 1
    return table
