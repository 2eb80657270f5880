"""Reports of artifacts against independent counts on generated tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from s4m_pipeline.artifacts.manifest import Manifest, file_entry, write_manifest
from s4m_pipeline.artifacts.tables import write_table
from s4m_pipeline.errors import ArtifactError, UsageError
from s4m_pipeline.review.refine_figures import (
    agreement_chart,
    decision_table,
    instances_per_image,
    plain_reason,
    read_figures,
)
from s4m_pipeline.review.report import stage_report
from s4m_pipeline.review.report_gallery import by_image, choose_images
from tests.review.reading import Page, read_page

HEIGHT, WIDTH = 48, 64
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog & <wolf>"}]
IMAGES = 12
EMPTY = 2  # images that the manifest counts and that have no instance


def instance(generator: np.random.Generator, image_id: int, number: int) -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    y, x = int(generator.integers(0, 30)), int(generator.integers(0, 40))
    mask[y : y + 15, x : x + 20] = 1
    rle = coco_mask.encode(mask)["counts"]
    score, agreement = float(generator.random()), float(generator.random())
    decision, code, reason = "refined", "", ""
    if score < 0.3:
        decision, code, reason = "dropped", "score", f"score {score:.2f} < 0.3"
    elif agreement < 0.4:
        decision, code = "kept", "agreement"
        reason = f"agreement {agreement:.2f} < 0.4"
    return {
        "image_id": image_id,
        "file_name": f"image<{image_id}>.png",
        "height": HEIGHT,
        "width": WIDTH,
        "instance_id": number,
        "category_id": CATEGORIES[int(generator.integers(0, 2))]["id"],
        "score": score,
        "class_probs": [0.5, 0.5],
        "bbox": [float(x), float(y), 20.0, 15.0],
        "area": 300,
        "mask_rle": rle,
        "prompt_points": [],
        "soft_mask": b"",
        "soft_mask_box": [0, 0, 0, 0],
        "soft_mask_stride": 4.0,
        "teacher_mask_rle": rle,
        "candidate_ious": [],
        "candidate": -1,
        "agreement": agreement,
        "area_ratio": 1.0,
        "decision": decision,
        "reason_code": code,
        "reason": reason,
    }


def make_artifact(folder: Path, table: str, stage: str) -> list[dict[str, Any]]:
    """An artifact of two shards; image 5 has ten instances, the others one to three."""
    generator = np.random.default_rng(11)
    rows = [
        instance(generator, image_id, number)
        for image_id in range(1, IMAGES + 1)
        for number in range(10 if image_id == 5 else 1 + image_id % 3)
    ]
    keep = set(rows[0]) if table == "refined" else set(list(rows[0])[:15])
    rows = [{key: row[key] for key in row if key in keep} for row in rows]
    for shard, part in enumerate((range(1, 7), range(7, IMAGES + 1))):
        chosen = [row for row in rows if row["image_id"] in part]
        write_table(folder / table / f"{shard:05d}.parquet", table, chosen, CATEGORIES)
    lost = {
        "image_id": 99,
        "file_name": "<lost>.jpg",
        "stage": stage,
        "error": "cut & broken",
        "attempts": 2,
    }
    write_table(folder / "quarantine" / "00000.parquet", "quarantine", [lost], CATEGORIES)
    counts = {"images": IMAGES + EMPTY, "instances": len(rows), "quarantined": 1}
    config = {"pseudo_label": {"score": 0.6}}
    files = [file_entry(folder, path) for path in sorted(folder.rglob("*.parquet"))]
    manifest = Manifest(stage, "0123456789abcdef", config, {}, files=files, counts=counts)
    write_manifest(folder, manifest)
    return rows


@pytest.fixture
def images(tmp_path: Path) -> Mapping[int, Path]:
    paths = {}
    for image_id in range(1, IMAGES + 1):
        path = tmp_path / f"image<{image_id}>.png"
        Image.new("RGB", (WIDTH, HEIGHT), (90, 20 * image_id, 60)).save(path)
        paths[image_id] = path
    return paths


def report(folder: Path, images: Mapping[int, Path], **options: Any) -> Page:
    out = folder.parent / "report.html"
    stage_report(folder, images, out, **options)
    return read_page(out.read_text(encoding="utf-8"))


def facts(page: Page) -> dict[str, str]:
    text = [t for t in page.texts if t.strip()]
    start = text.index("images")
    pairs = text[start : start + 12]
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def test_refine_figures_equal_independent_counts(
    tmp_path: Path, images: Mapping[int, Path]
) -> None:
    rows = make_artifact(tmp_path / "a", "refined", "refine")
    page = report(tmp_path / "a", images, limit=4)
    total = len(rows)
    decided = Counter(row["decision"] for row in rows)
    assert min(decided.values()) > 0
    shown = facts(page)
    assert shown["images"] == str(IMAGES + EMPTY)
    assert shown["instances"] == str(total)
    for decision, count in decided.items():
        assert shown[decision] == f"{100 * count / total:.1f} %"
    decisions = {row[0]: row[2:] for row in page.tables[0] if row[0]}
    for decision, count in decided.items():
        assert decisions[decision] == [str(count), f"{100 * count / total:.1f} %"]
    reasons = {row[1]: row[2] for row in page.tables[0][1:] if row[1]}
    assert reasons == {
        "score < 0.3": str(decided["dropped"]),
        "agreement < 0.4": str(decided["kept"]),
    }
    for name, line in zip(("cat", "dog & <wolf>"), page.tables[1][1:], strict=True):
        chosen = [r for r in rows if {3: "cat", 7: "dog & <wolf>"}[r["category_id"]] == name]
        labels = [r for r in chosen if r["decision"] != "dropped"]
        counts = [sum(r["decision"] == d for r in chosen) for d in ("refined", "kept", "dropped")]
        mean = sum(r["agreement"] for r in labels) / len(labels)
        assert line == [name, *map(str, [len(chosen), *counts]), f"{mean:.2f}", "1.00"]
    assert ["<lost>.jpg", "cut & broken", "2"] in page.tables[2]


def test_reasons_are_counted_by_their_code_whatever_their_sentences(
    tmp_path: Path, images: Mapping[int, Path]
) -> None:
    rows = make_artifact(tmp_path / "a", "refined", "refine")
    for number, row in enumerate(rows):
        if row["reason_code"] == "agreement":
            row["reason"] = f"in sentence {number} it strays"
    write_table(tmp_path / "a/refined/00000.parquet", "refined", rows, CATEGORIES)
    write_table(tmp_path / "a/refined/00001.parquet", "refined", [], CATEGORIES)
    figures = read_figures(tmp_path / "a", "refined")
    counts = {row[1]: row[2] for row in decision_table(figures).rows if row[1]}
    codes = Counter(row["reason_code"] for row in rows)
    assert counts == {"score < 0.3": codes["score"], "agreement": codes["agreement"]}


def test_agreement_histogram_counts_every_label_once(tmp_path: Path) -> None:
    rows = make_artifact(tmp_path / "a", "refined", "refine")
    figures = read_figures(tmp_path / "a", "refined")
    labels = [r for r in rows if r["decision"] != "dropped"]
    page = Page()
    page.feed(agreement_chart(figures).svg)
    tips = [text for text in page.texts if " to " in text]
    counted: Counter[tuple[int, str]] = Counter()
    for tip in tips:
        span, rest = tip.split(": ")
        counted[round(float(span.split(" to ")[0]) * 20), rest.split()[1]] += int(rest.split()[0])
    expected = Counter(
        (min(int(np.float32(r["agreement"]) * 20), 19), r["decision"]) for r in labels
    )
    assert counted == expected


def test_instances_per_image_count_empty_images(tmp_path: Path) -> None:
    rows = make_artifact(tmp_path / "a", "refined", "refine")
    figures = read_figures(tmp_path / "a", "refined")
    counts = instances_per_image(figures, figures.labels, IMAGES + EMPTY)
    expected = Counter(r["image_id"] for r in rows if r["decision"] != "dropped")
    whole = sorted([*expected.values(), *([0] * (IMAGES + EMPTY - len(expected)))])
    assert sorted(counts.tolist()) == whole


def test_pictures_are_of_the_images_chosen(tmp_path: Path, images: Mapping[int, Path]) -> None:
    rows = make_artifact(tmp_path / "a", "refined", "refine")
    page = report(tmp_path / "a", images, limit=6, seed=1)
    assert len(page.pictures()) == 6 * 3
    assert {picture.size for picture in page.pictures()} == {(WIDTH * 6, HEIGHT * 6)}
    names = [t for t in page.texts if t.startswith("image<")]
    assert len(set(names)) == 6
    lowest: dict[str, float] = {}
    for row in rows:
        if row["decision"] != "dropped":
            value = lowest.get(row["file_name"], 2.0)
            lowest[row["file_name"]] = min(value, row["agreement"])
    left = [name for name in sorted(lowest, key=lambda n: lowest[n]) if name not in names[:3]]
    assert names[3:] == left[:3]


def test_the_same_seed_shows_the_same_page(tmp_path: Path, images: Mapping[int, Path]) -> None:
    make_artifact(tmp_path / "a", "refined", "refine")
    pages = []
    for seed in (0, 0, 5):
        stage_report(tmp_path / "a", images, tmp_path / "p.html", limit=4, seed=seed)
        pages.append((tmp_path / "p.html").read_bytes())
    strip = [b"".join(part.split(b"</h3>")[0] for part in p.split(b"<h3>")[1:]) for p in pages]
    assert strip[0] == strip[1] != strip[2]


def test_lost_images_are_left_out_and_counted(tmp_path: Path, images: Mapping[int, Path]) -> None:
    make_artifact(tmp_path / "a", "refined", "refine")
    for path in images.values():
        path.write_bytes(b"no image")
    page = report(tmp_path / "a", images, limit=4)
    assert not page.named("img")
    assert "could not be read: 2 of 2 images" in page.text
    assert not report(tmp_path / "a", {}, limit=4).named("img")


def test_predictions_use_the_runs_own_score(tmp_path: Path, images: Mapping[int, Path]) -> None:
    rows = make_artifact(tmp_path / "a", "predictions", "pseudo-label")
    page = report(tmp_path / "a", images, limit=4)
    above = sum(np.float32(r["score"]) > 0.6 for r in rows)
    assert facts(page)["score > 0.6"] == str(above)
    total = [int(line[2]) for line in page.tables[0][1:]]
    assert sum(total) == above
    assert len(page.pictures()) == 4 * 2
    page = report(tmp_path / "a", images, limit=4, score=0.1)
    above = sum(np.float32(r["score"]) > 0.1 for r in rows)
    assert facts(page)["score > 0.1"] == str(above)


def test_an_artifact_without_instances_has_a_report(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    write_table(folder / "refined" / "00000.parquet", "refined", [], CATEGORIES)
    files = [file_entry(folder, folder / "refined" / "00000.parquet")]
    counts = {"images": 3, "instances": 0}
    manifest = Manifest("refine", "0" * 16, {}, {}, files=files, counts=counts)
    write_manifest(folder, manifest)
    page = report(folder, {})
    assert facts(page)["images"] == "3"
    assert facts(page)["refined"] == "0.0 %"


def test_an_unfinished_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="unfinished"):
        stage_report(tmp_path, {}, tmp_path / "p.html")


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    make_artifact(tmp_path / "a", "refined", "refine")
    (tmp_path / "a" / "refined" / "00001.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(ArtifactError, match=r"00001\.parquet"):
        stage_report(tmp_path / "a", {}, tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


def test_other_stages_have_no_report(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest("structure", "0" * 16, {}, {}))
    with pytest.raises(UsageError, match="no report of stage 'structure'"):
        stage_report(tmp_path, {}, tmp_path / "p.html")


def test_choosing_images() -> None:
    ids = list(range(100))
    lowest = {i: float(i % 50) for i in ids if i != 0}
    chance, extreme = choose_images(ids, lowest, 10, 3)
    assert len(chance) == 5
    assert chance == sorted(chance)
    assert not set(chance) & set(extreme)
    assert 0 not in extreme
    order = sorted(lowest, key=lambda i: (lowest[i], i))
    assert extreme == [i for i in order if i not in chance][:5]
    assert choose_images(ids, lowest, 10, 3) == (chance, extreme)
    assert choose_images([], {}, 10, 3) == ([], [])
    assert choose_images([4], {4: 0.1}, 24, 3) == ([4], [])


def test_reducing_by_image() -> None:
    image_id = np.array([2, 1, 2, 3, 1])
    values = np.array([0.5, 0.2, np.nan, np.nan, 0.1])
    assert by_image(image_id, values, np.min) == {1: 0.1, 2: 0.5}
    assert by_image(image_id[:0], values[:0], np.max) == {}


@pytest.mark.parametrize(
    ("reason", "plain"),
    [
        ("agreement 0.12 < 0.3", "agreement < 0.3"),
        ("score 5e-2 < 0.7", "score < 0.7"),
        ("empty mask", "empty mask"),
        ("", ""),
    ],
)
def test_reasons_lose_what_was_measured(reason: str, plain: str) -> None:
    assert plain_reason(reason) == plain
