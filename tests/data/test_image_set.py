"""Image sets in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from s4m_pipeline.data.formats import coco
from s4m_pipeline.data.image_set import Category, check_same_categories
from s4m_pipeline.errors import UsageError
from tests.small_sets import coco_content, write_json


def test_categories_are_compared_by_id_and_name() -> None:
    a = [Category(1, "bear"), Category(2, "deer")]
    check_same_categories(a, a[::-1], "a.json", "b.json")
    with pytest.raises(UsageError, match=r"a.json and b.json.*id 2 is 'deer' and 'otter'"):
        check_same_categories(a, [Category(1, "bear"), Category(2, "otter")], "a.json", "b.json")
    with pytest.raises(UsageError, match="id 2 is 'deer' and 'missing'"):
        check_same_categories(a, a[:1], "a.json", "b.json")


def test_a_part_of_a_set_has_its_images_labels_and_empty_masks(
    small_set: tuple[Path, Path],
) -> None:
    content = coco_content()
    for number in (0, 4):  # of images 0 and 10
        content["annotations"][number]["segmentation"] = [[5.0, 5.0, 5.1, 5.0, 5.1, 5.1]]
    whole = coco.load(write_json(small_set[0], content), small_set[1])
    assert set(whole.empty) == {0, 10}
    part = whole.only({10, 30, 99})
    assert [image.id for image in part.images] == [10, 30]
    assert part.categories == whole.categories
    assert part.instances == {10: whole.instances[10]}
    assert part.empty == {10: whole.empty[10]}
    assert part.empty_masks == [4]
    assert whole.without({0, 20, 40, 50, 99}) == part
