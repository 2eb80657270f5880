"""The section ``data`` of a run's file: the image sets, and how their pictures are read."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from s4m_pipeline.config_section import PLACE, Section

MOST_MEGAPIXELS = 110
"""What a picture may have unless ``data.max_megapixels`` says otherwise: a telephone's 108 fit in,
and reading one takes no more than two gigabytes and a few seconds."""
DRAWN = ("EPS", "WMF")
"""Formats of drawings, of which other programs of the machine would make a picture: none is read.
"""


class LabelledSet(Section):
    """Images with masks: a folder and a COCO annotation file."""

    images: Path
    annotations: Path


class UnlabelledSet(Section):
    """Images without masks: a folder, and optionally a COCO file that lists images in it.

    Validation images among them are left out, and labelled ones too, unless ``include_labelled``
    is true. What is left out is in the set's digest, and so in fingerprints.
    """

    images: Path
    annotations: Path | None = None
    include_labelled: bool = False


class DataSection(Section):
    """The image sets, and how their pictures are read.

    ``levels`` are the stored values that become black and white in pictures of more than 8 bits a
    channel: a low and a high one, or ``auto``, which takes the bit depth of the largest value in
    all sets. ``exif`` says whether pictures are turned ``upright`` as their EXIF orientation says,
    or taken as stored (``ignore``), for labels that were drawn on the stored picture. A picture of
    more than ``max_megapixels`` is refused before it is decoded. ``outside`` ``allow`` takes names
    in a list that lead out of the folder of images.
    """

    labelled: LabelledSet
    unlabelled: UnlabelledSet | None = None
    validation: LabelledSet | None = None
    levels: Literal["auto"] | list[float] = "auto"
    exif: Literal["upright", "ignore"] = "upright"
    max_megapixels: Annotated[int, Field(gt=0, le=2048)] = MOST_MEGAPIXELS
    outside: Literal["refuse", "allow"] = Field("refuse", json_schema_extra=PLACE)

    @field_validator("levels")
    @classmethod
    def _low_and_high(cls, value: str | list[float]) -> str | list[float]:
        if isinstance(value, str):
            return value
        if len(value) != 2 or not all(map(isfinite, value)) or value[0] >= value[1]:
            raise ValueError("expected auto, or a low and a higher value, such as [0, 4095]")
        return value
