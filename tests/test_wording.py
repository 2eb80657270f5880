"""Numbers in sentences."""

import pytest

from s4m_pipeline.wording import counted


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0 images were"), (1, "1 image was"), (2500, "2,500 images were")]
)
def test_one_is_told_in_the_singular(count, told):
    assert counted(count, "image was", "images were") == told
