"""The worker of ``refine``: decisions and their reasons in the rows, and what is kept of masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_api

from s4m_pipeline.artifacts.shards import Shard
from s4m_pipeline.artifacts.table_definitions import TABLES
from s4m_pipeline.artifacts.tables import read_table, write_table
from s4m_pipeline.config import RefineSection
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.devices.placement import Place
from s4m_pipeline.refinement.policies import ConflictRules, RefinePolicy
from s4m_pipeline.refinement.soft_masks import encode_soft_mask
from s4m_pipeline.stages.refine.refine_task import RefineTask
from s4m_pipeline.stages.refine.settings import conflict_rules, refine_policy
from s4m_pipeline.stages.refine.worker import RefineWorker
from s4m_pipeline.stages.segmenter_settings import SegmenterSettings
from tests.segmenter.fakes import PromptedSegmenter

CLASSES = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
HEIGHT, WIDTH = 96, 128
# Instance: class, score, column and radius of its disc in cells of 4 px. In image 1 instance 1 is
# a duplicate of 0, and 2 lies partly under it; 3 and 4 are below the score, 5 below min_score.
INSTANCES: dict[int, list[tuple[int, float, float, float]]] = {
    1: [
        (1, 0.95, 10, 6.0),
        (1, 0.9, 10.5, 6.0),
        (2, 0.8, 17, 5.0),
        (2, 0.6, 24, 3.0),
        (1, 0.4, 4, 3.0),
        (1, 0.2, 28, 2.0),
    ],
    2: [(1, 0.4, 16, 4.0)],
    3: [],
}


def _row(image: int, number: int, instance: tuple[int, float, float, float]) -> dict[str, Any]:
    category, score, column, radius = instance
    y, x = np.mgrid[:24, :32]
    logits = radius - np.hypot(y - 12, x - column)
    data, box = encode_soft_mask(1 / (1 + np.exp(-logits)))
    mask = np.kron(logits > 0, np.ones((4, 4), bool))
    rle = mask_api.encode(np.asfortranarray(mask, np.uint8))
    return {
        "image_id": image,
        "file_name": f"{image}.png",
        "height": HEIGHT,
        "width": WIDTH,
        "instance_id": number,
        "category_id": category,
        "score": score,
        "class_probs": [score, 1 - score],
        "bbox": mask_api.toBbox(rle).tolist(),
        "area": int(mask.sum()),
        "mask_rle": rle["counts"],
        "prompt_points": [4 * column + 2, 50, 4 * column + 2, 46],
        "soft_mask": data,
        "soft_mask_box": box,
        "soft_mask_stride": 4.0,
    }


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RefineTask:
    rows = [_row(i, n, one) for i, ones in INSTANCES.items() for n, one in enumerate(ones)]
    folder = tmp_path / "predictions"
    path = folder / "predictions" / "00000.parquet"
    write_table(path, "predictions", rows, CLASSES)
    records = {}
    for image in INSTANCES:
        file = tmp_path / f"{image}.png"
        Image.new("RGB", (WIDTH, HEIGHT)).save(file)
        records[image] = ImageRecord(image, file.name, file, HEIGHT, WIDTH)
    monkeypatch.setattr(
        SegmenterSettings, "build", lambda self, device, records: PromptedSegmenter()
    )
    return RefineTask(
        predictions=folder,
        records=records,
        segmenter=SegmenterSettings("prompted", None, None, 2, "cpu"),
        policy=RefinePolicy("points", 2, "fuse", 0.0),
        rules=ConflictRules(),
        scores={1: 0.7, 2: 0.7},
        min_score=0.3,
        min_area=5,
        targets=None,
    )


def _tables(task: RefineTask) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
    worker = RefineWorker("refine", task, Place(0, 1))
    result = worker.process(Shard(0, (1, 2, 3)), lambda count: None)
    return result.rows, result.counts


def _reasons(rows: list[dict[str, Any]]) -> dict[tuple[int, int], tuple[str, str]]:
    return {(r["image_id"], r["instance_id"]): (r["decision"], r["reason"]) for r in rows}


def _mask(rle: bytes) -> np.ndarray:
    return mask_api.decode({"size": [HEIGHT, WIDTH], "counts": rle}).astype(bool)


def test_scores_are_per_class_and_spare_masks_are_kept(task: RefineTask, tmp_path: Path) -> None:
    tables, counts = _tables(replace(task, scores={1: 0.7, 2: 0.55}))
    reasons = _reasons(tables["refined"])
    assert [key for key, (decision, _) in reasons.items() if decision == "refined"] == [
        (1, 0),
        (1, 1),
        (1, 2),
        (1, 3),
    ]
    assert reasons[1, 4] == ("dropped", "score 0.40 <= 0.7")
    assert reasons[1, 5] == ("dropped", "score 0.20 <= 0.7")
    assert [row["reason_code"] for row in tables["refined"]] == [""] * 4 + ["score"] * 3
    assert list(_reasons(tables["segmented"])) == [*((1, n) for n in range(5)), (2, 0)]
    labels = {r["instance_id"]: r for r in tables["refined"] if r["decision"] == "refined"}
    for row in tables["segmented"][:4]:
        label = labels[row["instance_id"]]
        assert {key: label[key] for key in row} == row
    spare = tables["segmented"][4]
    teachers = tables["refined"][4]["teacher_mask_rle"]
    assert (spare["decision"], spare["mask_rle"] == teachers) == ("refined", False)
    assert tables["refined"][4]["mask_rle"] == teachers
    assert counts == {
        "instances": 4,
        "refined": 4,
        "kept": 0,
        "dropped": 3,
        "quarantined": 0,
        "images": 3,
        "encoder_passes": 2,
    }
    for name in ("refined", "segmented"):
        write_table(tmp_path / "out" / name / "0.parquet", name, tables[name], CLASSES)
        assert read_table(tmp_path / "out", name).schema.remove_metadata() == TABLES[name].schema


def test_labels_masks_do_not_depend_on_thresholds_between_min_score_and_the_score(
    task: RefineTask,
) -> None:
    """So that a later threshold can take up spare masks as if they had been labels."""
    policy = RefinePolicy("box+points", 1, "fuse", 0.0, negative_points=2)
    high, low = (
        _tables(replace(task, policy=policy, scores={1: s, 2: s}))[0]["segmented"]
        for s in (0.9, 0.35)
    )
    assert high == low


def test_duplicates_and_overlaps_are_written_with_their_reasons(task: RefineTask) -> None:
    rules = ConflictRules("score", duplicate_iou=0.6)
    before = _tables(task)[0]
    tables, counts = _tables(replace(task, rules=rules))
    raw = {n: _mask(before["refined"][n]["mask_rle"]) for n in range(3)}
    iou = (raw[0] & raw[1]).sum() / (raw[0] | raw[1]).sum()
    lost = (raw[2] & raw[0]).sum()
    assert iou > 0.6
    assert lost > 0
    reasons = _reasons(tables["refined"])
    assert reasons[1, 0] == ("refined", "")
    assert reasons[1, 1] == ("dropped", f"duplicate of instance 0: IoU {iou:.2f} > 0.6")
    assert reasons[1, 2] == ("refined", f"overlap: {lost} px went to higher scores")
    rest = _mask(tables["refined"][2]["mask_rle"])
    assert np.array_equal(rest, raw[2] & ~raw[0])
    assert tables["refined"][2]["area"] == rest.sum()
    assert tables["refined"][1]["mask_rle"] == tables["refined"][1]["teacher_mask_rle"]
    assert tables["segmented"] == before["segmented"]  # as they were before
    assert (counts["instances"], counts["dropped"]) == (2, 5)


def test_the_gates_reasons_stand_in_the_rows(task: RefineTask) -> None:
    strict = RefinePolicy("points", 2, "single", 0.99)
    kept, dropped = (
        _tables(replace(task, policy=replace(strict, gate=gate)))[0]["refined"]
        for gate in ("keep", "drop")
    )
    for row, gone in zip(kept[:3], dropped[:3], strict=True):
        assert row["reason"] == gone["reason"] == f"agreement {row['agreement']:.2f} < 0.99"
        assert (row["decision"], gone["decision"]) == ("kept", "dropped")
        assert row["mask_rle"] == gone["mask_rle"] == gone["teacher_mask_rle"]
    wide = RefinePolicy("points", 2, "single", 0.0, max_area_ratio=1.001)
    row = _tables(replace(task, policy=wide))[0]["refined"][0]
    assert row["reason"].startswith(f"area ratio {row['area_ratio']:.2f} ")


def test_policies_by_class_and_policy_none(task: RefineTask) -> None:
    tables, _ = _tables(replace(task, policy={1: None, 2: RefinePolicy("points", 2, "fuse", 0.0)}))
    reasons = _reasons(tables["refined"])
    helped = "calibrated: refinement does not help such instances"
    expected = [("kept", helped), ("kept", helped), ("refined", "")]
    assert [reasons[1, n] for n in range(3)] == expected
    rules = ConflictRules(duplicate_iou=0.6)
    plain, _ = _tables(replace(task, policy=None, segmenter=None, rules=rules))
    assert set(plain) == {"refined", "quarantine"}
    reasons = _reasons(plain["refined"])
    assert reasons[1, 0] == reasons[1, 2] == ("kept", "policy none")
    assert reasons[1, 1][1].startswith("duplicate of instance 0: IoU")
    assert reasons[2, 0] == ("dropped", "score 0.40 <= 0.7")
    codes = ["policy_none", "duplicate", "policy_none", *["score"] * 4]
    assert [row["reason_code"] for row in plain["refined"]] == codes


def test_a_section_becomes_a_policy_and_rules() -> None:
    section = RefineSection(
        policy="box",
        points=4,
        candidate="closest",
        fuse_policies=["points"],
        max_area_ratio=3,
        gate="drop",
        overlaps="score",
        duplicate_containment=0.8,
    )
    expected = RefinePolicy(
        "box", 4, "closest", 0.3, fuse_prompts=("points",), max_area_ratio=3, gate="drop"
    )
    assert refine_policy(section) == expected
    assert conflict_rules(section) == ConflictRules(
        "score", duplicate_containment=0.8, min_agreement=0.3
    )


def test_closer_views_are_counted_and_change_masks_alone(task: RefineTask) -> None:
    policy = RefinePolicy("points", 2, "fuse", 0.0)
    whole, counts = _tables(task)
    assert counts["encoder_passes"] == 2
    closer = replace(policy, view="windows", view_cells=30)
    tables, counted = _tables(replace(task, policy=closer))
    assert counted["encoder_passes"] > 2
    assert counted["images"] == counts["images"] == 3
    for before, after in zip(whole["refined"], tables["refined"], strict=True):
        names = ("image_id", "instance_id", "category_id", "score", "teacher_mask_rle")
        assert [before[name] for name in names] == [after[name] for name in names]
    assert whole["segmented"] != tables["segmented"]
