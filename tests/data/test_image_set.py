"""Image sets in memory."""

from __future__ import annotations

import pytest

from s4m_pipeline.data.image_set import Category, check_same_categories
from s4m_pipeline.errors import UsageError


def test_categories_are_compared_by_id_and_name() -> None:
    a = [Category(1, "bear"), Category(2, "deer")]
    check_same_categories(a, a[::-1], "a.json", "b.json")
    with pytest.raises(UsageError, match=r"a.json and b.json.*id 2 is 'deer' and 'otter'"):
        check_same_categories(a, [Category(1, "bear"), Category(2, "otter")], "a.json", "b.json")
    with pytest.raises(UsageError, match="id 2 is 'deer' and 'missing'"):
        check_same_categories(a, a[:1], "a.json", "b.json")
