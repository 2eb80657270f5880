"""Rates of pseudo-labels against labelled ones, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from s4m_pipeline.review.table import Cell, Table

_TONES = {
    "almost none": "bad",
    "far too few": "warn",
    "far too many": "warn",
    "not labelled": "warn",
}


def rate_table(rows: Sequence[Sequence[Cell]], warnings: Sequence[str]) -> Table:
    """Instances an image, labelled and pseudo, of all classes and of each.

    Args:
        rows: Class, labelled instances, pseudo-instances, both an image, their ratio, and what is
            wrong with it in words (empty where nothing is).
        warnings: Sentences below the table.
    """
    heads = ["class", "labelled", "pseudo", "labelled/image", "pseudo/image", "ratio", "warning"]
    note = "Ratio: pseudo-instances an image over labelled instances an image."
    if warnings:
        note += " Look at these before training a student: " + "; ".join(warnings) + "."
    return Table("Labels against the labelled rate", heads, rows, note, digits=2, tones=_TONES)
