"""Where ``s4m report`` writes its page, and where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workshop import Workshop


@pytest.mark.parametrize("name", ["run.yaml", "tiny.py", "scenes/labelled.json"])
def test_a_report_is_not_written_over_a_file_that_is_no_page(
    finished: Workshop, tmp_path: Path, s4m, name: str
) -> None:
    copy = finished.copy(tmp_path / "run")
    out = copy.folder / name
    before = out.read_bytes()
    code, _, err = s4m("report", "-c", copy.config, "--stage", "train-teacher", "--out", out)
    assert code == 2
    assert f"--out is there already and is no page that s4m wrote: {out}" in err
    assert out.read_bytes() == before


def test_a_report_is_written_over_an_earlier_one(finished: Workshop, tmp_path: Path, s4m) -> None:
    out = tmp_path / "page.html"
    for stage in ("train-teacher", "train-student", "refine"):
        call = ("report", "-c", finished.config, "--stage", stage, "--limit", 1, "--out", out)
        assert s4m(*call)[0] == 0
