"""The demo's page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from s4m_pipeline.review.demo_page import DemoSample, write_demo_page
from s4m_pipeline.review.palette import PALETTE
from tests.review.reading import read_page


def rectangle(top: int, left: int) -> bytes:
    mask = np.zeros((128, 128), np.uint8, order="F")
    mask[top : top + 30, left : left + 40] = 1
    return coco_mask.encode(mask)["counts"]


def test_demo_page_shows_table_and_pictures(tmp_path: Path) -> None:
    image = np.full((128, 128, 3), 100, dtype=np.uint8)
    truth = [(rectangle(10, 10), "disc"), (rectangle(80, 60), "<star>")]
    samples = [
        DemoSample("scene 1", image, truth, truth[:1], truth[:1], []),
        DemoSample("scene <2>", image, truth[1:], [], [], truth[1:]),
    ]
    rows = [
        {"name": "teacher", "AP": 0.3},
        {"name": "student on refined labels", "AP": 0.4, "label IoU": 0.8},
    ]
    path = tmp_path / "demo.html"
    write_demo_page(path, rows, samples, ["Seed <0>."], ["disc", "<star>"])
    page = read_page(path.read_text(encoding="utf-8"))
    assert page.tables[0] == [
        ["", "AP", "label IoU"],
        ["teacher", "0.300", "–"],
        ["student on refined labels", "0.400 (best)", "0.800"],
    ]
    pictures = page.pictures()
    assert [p.size for p in pictures] == [(384, 384)] * 10
    alts = [attributes["alt"] for attributes in page.named("img")]
    assert alts[:2] == ["scene 1: image", "scene 1: truth, 2 masks"]
    assert alts[4] == "scene 1: student, no masks"
    assert "Seed <0>." in page.text
    plain, drawn = (np.asarray(pictures[i].convert("RGB")).astype(int) for i in (0, 1))
    assert np.abs(plain - 100).max() <= 2
    inside = drawn[3 * 25, 3 * 30]
    assert np.abs(inside - (100 + 0.4 * (np.array(PALETTE[0]) - 100))).max() <= 12
    assert np.abs(np.asarray(pictures[4].convert("RGB")).astype(int) - plain).max() <= 2


def test_demo_page_without_samples(tmp_path: Path) -> None:
    write_demo_page(tmp_path / "demo.html", [{"name": "teacher", "AP": 0.3}], [])
    page = read_page((tmp_path / "demo.html").read_text(encoding="utf-8"))
    assert "No pictures." in page.text
