"""Names and paths of model configs: what is said of those that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from s4m_pipeline.configs import model_config_path
from s4m_pipeline.errors import UsageError


def test_a_file_that_is_no_python_file_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "config.txt").write_text("model = {}")
    with pytest.raises(UsageError, match=r"whose name ends in \.py"):
        model_config_path(tmp_path / "config.txt")
    with pytest.raises(UsageError, match="neither a file nor"):
        model_config_path(tmp_path / "absent.txt")
