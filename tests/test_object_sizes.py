"""Size classes against COCO's limits, at both sides of each."""

from __future__ import annotations

import pytest
from pycocotools.cocoeval import Params

from s4m_pipeline.object_sizes import SIZES, size_of


@pytest.mark.parametrize(
    ("area", "size"),
    [(1, "small"), (1023, "small"), (1024, "medium"), (9215, "medium"), (9216, "large")],
)
def test_sizes_are_cocos(area: int, size: str) -> None:
    assert size_of(area) == size


def test_the_limits_are_those_of_cocos_own_tool() -> None:
    ranges = dict(zip(Params("segm").areaRngLbl, Params("segm").areaRng, strict=True))
    for size in SIZES:
        low, high = ranges[size]
        assert size_of(low + 0.5) == size
        assert size_of(high - 0.5) == size
