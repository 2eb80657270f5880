"""Duplicates and overlaps between an image's masks, against numpy on full-size masks."""

from __future__ import annotations

import numpy as np
import pytest

from s4m_pipeline.errors import UsageError
from s4m_pipeline.refinement.conflicts import settle_conflicts
from s4m_pipeline.refinement.instances import RefinedMask, TeacherInstance, kept_mask
from s4m_pipeline.refinement.policies import ConflictRules
from s4m_pipeline.refinement.reasons import Cause, Reason
from tests.segmenter.fakes import decode_mask, encode_mask, teacher_instance

SIZE = (96, 128)
OFF = ConflictRules()


def _disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.hypot(rows - y, columns - x) < radius


def _record(
    mask: np.ndarray, decision: str = "refined", code: str = "", reason: str = ""
) -> RefinedMask:
    rows, columns = np.nonzero(mask)
    corner = (float(columns.min()), float(rows.min()))
    size = (float(np.ptp(columns) + 1), float(np.ptp(rows) + 1))
    return RefinedMask(
        mask_rle=encode_mask(mask),
        bbox=(*corner, *size),
        area=int(mask.sum()),
        candidate_ious=[0.5],
        candidate=0,
        agreement=0.9,
        area_ratio=1.0,
        decision=decision,
        reason_code=code,
        reason=reason,
    )


def _instance(number: int, score: float, category: int = 1, x: float = 16) -> TeacherInstance:
    instance = teacher_instance(*SIZE, (12, x), 4, number)
    instance.score, instance.category_id = score, category
    return instance


def _crowd(seed: int) -> tuple[list[TeacherInstance], list[np.ndarray]]:
    """A dozen overlapping discs of two classes; two scores are equal."""
    rng = np.random.default_rng(seed)
    scores = rng.permutation(np.linspace(0.3, 0.9, 12)).tolist()
    scores[5] = scores[1]
    instances = [_instance(n, scores[n], int(rng.integers(1, 3)), 4 + 2 * n) for n in range(12)]
    masks = [
        _disc(rng.uniform(20, 100), rng.uniform(20, 70), rng.uniform(4, 32)) for _ in range(12)
    ]
    return instances, masks


def _ranks(instances: list[TeacherInstance]) -> list[int]:
    return sorted(range(len(instances)), key=lambda n: (-instances[n].score, n))


def _naive_duplicates(
    instances: list[TeacherInstance], masks: list[np.ndarray], iou: float, containment: float
) -> dict[int, int]:
    """Which instance each duplicate is a duplicate of."""
    found: dict[int, int] = {}
    standing: list[int] = []
    for n in _ranks(instances):
        for other in standing:
            both = (masks[n] & masks[other]).sum()
            like = both / (masks[n] | masks[other]).sum() > iou
            like |= both / min(masks[n].sum(), masks[other].sum()) > containment
            if instances[n].category_id == instances[other].category_id and like:
                found[n] = other
                break
        else:
            standing.append(n)
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("iou", "share"), [(0.3, 1.0), (1.0, 0.6), (0.4, 0.8), (0.0, 1.0)])
def test_duplicates_equal_the_full_size_formula(seed: int, iou: float, share: float) -> None:
    instances, masks = _crowd(seed)
    records = [_record(mask) for mask in masks]
    rules = ConflictRules(duplicate_iou=iou, duplicate_containment=share)
    found = settle_conflicts(instances, records, *SIZE, rules)
    expected = _naive_duplicates(instances, masks, iou, share)
    assert expected
    for n, mask in enumerate(found):
        if n not in expected:
            assert mask == records[n]
            continue
        assert mask.decision == "dropped"
        assert mask.reason.startswith(f"duplicate of instance {expected[n]}: ")
        assert mask.reason_code == "duplicate"
        assert mask.mask_rle == instances[n].mask_rle
        assert (mask.bbox, mask.area) == (instances[n].bbox, instances[n].area)


def test_a_duplicates_reason_says_which_rule_and_figure() -> None:
    instances = [_instance(3, 0.9), _instance(8, 0.7), _instance(9, 0.6)]
    masks = [_disc(60, 48, 20), _disc(63, 48, 20), _disc(60, 40, 6)]
    rules = ConflictRules(duplicate_iou=0.7, duplicate_containment=0.9)
    found = settle_conflicts(instances, [_record(m) for m in masks], *SIZE, rules)
    iou = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    assert found[1].reason == f"duplicate of instance 3: IoU {iou:.2f} > 0.7"
    assert found[2].reason == "duplicate of instance 3: containment 1.00 > 0.9"
    others = [_instance(3, 0.9), _instance(8, 0.7, 2), _instance(9, 0.6, 2)]
    apart = settle_conflicts(others, [_record(m) for m in masks], *SIZE, rules)
    assert [m.decision for m in apart] == ["refined", "refined", "dropped"]
    assert apart[2].reason.startswith("duplicate of instance 8: containment")


def test_the_same_mask_twice_is_no_duplicate_when_both_rules_are_off() -> None:
    instances = [_instance(0, 0.9), _instance(1, 0.7)]
    records = [_record(_disc(60, 48, 20))] * 2
    assert settle_conflicts(instances, records, *SIZE, OFF) == records
    barely = ConflictRules(duplicate_iou=0.999)
    assert settle_conflicts(instances, records, *SIZE, barely)[1].decision == "dropped"


@pytest.mark.parametrize("seed", range(6))
def test_overlaps_equal_the_full_size_formula(seed: int) -> None:
    instances, masks = _crowd(seed)
    masks[_ranks(instances)[-1]] = masks[_ranks(instances)[0]] & _disc(64, 48, 60)
    records = [_record(mask) for mask in masks]
    found = settle_conflicts(
        instances, records, *SIZE, ConflictRules(overlaps="score", min_agreement=0.0)
    )
    claimed = np.zeros(SIZE, bool)
    cut = emptied = 0
    for n in _ranks(instances):
        rest = masks[n] & ~claimed
        claimed |= masks[n]
        lost = int(masks[n].sum() - rest.sum())
        theirs = decode_mask(instances[n].mask_rle, *SIZE)
        if not rest.any():
            emptied += 1
            assert (found[n].decision, found[n].candidate) == ("dropped", -1)
            assert found[n].reason == "overlap: higher scores have all its pixels"
            assert found[n].reason_code == "covered"
            assert found[n].mask_rle == instances[n].mask_rle
            assert (found[n].agreement, found[n].area_ratio) == (0, 0)
        elif lost:
            cut += 1
            assert np.array_equal(decode_mask(found[n].mask_rle, *SIZE), rest)
            assert (found[n].bbox, found[n].area) == (_record(rest).bbox, rest.sum())
            assert found[n].agreement == pytest.approx(
                (rest & theirs).sum() / (rest | theirs).sum()
            )
            assert found[n].area_ratio == pytest.approx(rest.sum() / theirs.sum())
            assert found[n].decision == "refined"
            assert found[n].reason == f"overlap: {lost} px went to higher scores"
            assert found[n].reason_code == "cut"
        else:
            assert found[n] == records[n]
    assert cut
    assert emptied


def test_a_kept_mask_that_is_cut_keeps_its_first_reason() -> None:
    instances = [_instance(0, 0.9, x=10), _instance(1, 0.7, x=16)]
    cause = Cause.of(Reason.AGREEMENT, compared="agreement 0.10 < 0.3")
    records = [kept_mask(instance, cause) for instance in instances]
    found = settle_conflicts(
        instances, records, *SIZE, ConflictRules(overlaps="score", min_agreement=0.0)
    )
    first, second = (decode_mask(i.mask_rle, *SIZE) for i in instances)
    lost = (first & second).sum()
    assert found[1].decision == "kept"
    assert found[1].reason == f"agreement 0.10 < 0.3; overlap: {lost} px went to higher scores"
    assert found[1].reason_code == "agreement"
    assert np.array_equal(decode_mask(found[1].mask_rle, *SIZE), second & ~first)


def test_a_mask_cut_below_the_gate_is_dropped_and_claims_nothing() -> None:
    instances = [_instance(0, 0.9, x=10), _instance(1, 0.7, x=12), _instance(2, 0.5, x=14)]
    first, second, third = (decode_mask(i.mask_rle, *SIZE) for i in instances)
    rest = second & ~first
    agreement = rest.sum() / second.sum()
    least = round(float(agreement) + 0.02, 2)
    rules = ConflictRules(overlaps="score", min_agreement=least)
    found = settle_conflicts(instances, [_record(m) for m in (first, second, third)], *SIZE, rules)
    assert found[1].decision == "dropped"
    assert found[1].mask_rle == instances[1].mask_rle
    assert found[1].agreement == pytest.approx(agreement)
    lost = (second & first).sum()
    assert found[1].reason == (
        f"overlap: {lost} px went to higher scores, agreement {agreement:.2f} < {least:g}"
    )
    assert found[1].reason_code == "remnant"
    assert found[2].decision == "refined"
    assert np.array_equal(decode_mask(found[2].mask_rle, *SIZE), third & ~first)


def test_duplicates_go_before_overlaps_and_what_was_dropped_claims_nothing() -> None:
    instances = [_instance(n, 0.9 - n / 10) for n in range(4)]
    masks = [_disc(30, 48, 20), _disc(60, 48, 20), _disc(63, 48, 20), _disc(80, 48, 10)]
    records = [
        _record(masks[0], "dropped", "agreement", "agreement 0.10 < 0.3"),
        *map(_record, masks[1:]),
    ]
    rules = ConflictRules("score", duplicate_iou=0.7, min_agreement=0.0)
    found = settle_conflicts(instances, records, *SIZE, rules)
    assert found[0] == records[0]
    assert found[1] == records[1]  # though the one dropped before lies over it
    assert found[2].reason.startswith("duplicate of instance 1: IoU")
    expected = masks[3] & ~masks[1]  # the duplicate took nothing
    assert np.array_equal(decode_mask(found[3].mask_rle, *SIZE), expected)


def test_no_masks_and_unknown_rule() -> None:
    everything = ConflictRules("score", 0.5, 0.5)
    assert settle_conflicts([], [], *SIZE, everything) == []
    with pytest.raises(UsageError, match=r"unknown refine\.overlaps 'area'"):
        ConflictRules(overlaps="area")
