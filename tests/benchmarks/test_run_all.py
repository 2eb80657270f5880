"""The script that runs all benchmarks: what it runs, skips and writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.conftest import FOLDER

MADE = f"""
import json, os, pathlib, sys
sys.path.insert(0, {str(FOLDER)!r})
from harness import RESULTS, skip
"""
ONE = """
machine = dict(processor="p", cores="2", date="d", torch="2")
row = dict(name="one", ratio=2.5, goal=2, verdict="ok", equal="", machine=machine)
pathlib.Path(os.environ[RESULTS], "one.json").write_text(json.dumps(row))
"""


@pytest.fixture
def run_all(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module over two scripts, of which one has a result and one is skipped."""
    module = script("run_all")
    (tmp_path / "one.py").write_text(MADE + ONE)
    (tmp_path / "two.py").write_text(MADE + 'skip("two", "no photographs")')
    (tmp_path / "results.md").write_text(f"before\n{module.BEGIN}\nold\n{module.END}\nafter\n")
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "SCRIPTS", ("one", "two"))
    monkeypatch.setattr(sys, "argv", ["run_all.py", "--write", str(tmp_path / "results.md")])
    return module


def test_what_was_skipped_is_named_in_the_output_and_the_table(
    run_all: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_all.main()
    printed = capfd.readouterr().out
    assert "skipped: `two` (no photographs)" in printed.splitlines()
    written = (tmp_path / "results.md").read_text()
    assert "| `one` | 2.5 | 2 | ok |" in written
    assert "Skipped: `two` (no photographs)." in written
    assert "old" not in written
    assert written.startswith("before\n")
    assert written.endswith("after\n")


def test_a_script_that_fails_leaves_the_table(run_all: Any, tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text("raise SystemExit('other values')")
    with pytest.raises(SystemExit, match="failed: two"):
        run_all.main()
    assert "old" in (tmp_path / "results.md").read_text()


def test_without_a_gpu_it_says_so(ran: Any) -> None:
    assert ran("run_all", "--gpu") == ["bench-gpu skipped: torch sees no CUDA device here"]


def test_each_script_of_a_gpus_run_takes_its_arguments(script: Any, ran: Any) -> None:
    runs = script("run_all").runs(gpu=True, only=None)
    assert ("gpu_refine", "--compile") in runs
    assert any(one[0] == "student_step" and "--bfloat16" in one for one in runs)
    for name, *arguments in runs:
        assert ran(name, *arguments) == [f"{name} skipped: torch sees no CUDA device here"]


def test_a_choice_takes_all_runs_of_a_script(script: Any) -> None:
    runs = script("run_all").runs
    assert [one[0] for one in runs(True, ["gpu_refine"])] == ["gpu_refine"] * 2
    assert runs(False, ["growth", "matcher"]) == [("matcher",), ("growth",)]


def test_a_skip_is_kept_where_results_are(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = script("harness")
    monkeypatch.setenv(harness.RESULTS, str(tmp_path))
    harness.skip("x", "no weights")
    (tmp_path / "a.json").write_text(json.dumps({"name": "a"}))
    assert script("run_all").read(tmp_path) == ([{"name": "a"}], ["`x` (no weights)"])
