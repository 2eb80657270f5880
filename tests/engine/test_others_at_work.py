"""Two processes at one work folder, and a work folder that nobody may write to."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from s4m_pipeline.artifacts.locks import is_held
from s4m_pipeline.artifacts.shards import shards_done, write_shard_count
from s4m_pipeline.engine.registry import stage_named
from s4m_pipeline.stages.training import iterations_done
from s4m_pipeline.workflow.pipeline import status
from tests.workshop import Workshop


def _why(own: Workshop, title: str) -> str:
    return {row["stage"]: row["why"] for row in status(own.run())}[title]


def _unfinished(own: Workshop, title: str) -> Path:
    run = own.run()
    folder = run.folder(stage_named(title))
    (folder / "manifest.json").unlink()
    return folder


def test_status_says_who_makes_a_stage_and_how_far_it_is(finished, tmp_path):
    own = finished.copy(tmp_path / "run")
    folder = _unfinished(own, "refine")
    write_shard_count(folder, 3)  # of which two have their markers
    store = own.run().store
    assert _why(own, "refine") == "stopped before its manifest was written"
    with store.lock("refine", folder.name):
        assert _why(own, "refine") == "another process is making it: 2 of 3 shards done"
        assert _why(own, "structure") == ""
    assert _why(own, "refine") == "stopped before its manifest was written"


def test_status_says_which_iteration_a_training_is_at(finished, tmp_path):
    own = finished.copy(tmp_path / "run")
    folder = _unfinished(own, "train-teacher")
    (folder / "log.jsonl").write_text('{"iteration": 10}\n{"iteration": 20}\n{"itera')
    with own.run().store.lock("train-teacher", folder.name):
        why = _why(own, "train-teacher")
        assert why == "another process is making it: iteration 20 of 40"
        (folder / "log.jsonl").unlink()
        assert _why(own, "train-teacher") == "another process is making it"


def test_what_cannot_be_read_of_a_progress_is_left_out(tmp_path):
    assert shards_done(tmp_path) == "0 shards done"
    write_shard_count(tmp_path, 1)
    assert shards_done(tmp_path) == "0 of 1 shard done"
    (tmp_path / "shards" / "all.json").write_text("[")
    assert shards_done(tmp_path) == "0 shards done"
    (tmp_path / "log.jsonl").write_text("[\n\n7\n")
    assert iterations_done(tmp_path, 9) == ""


def test_who_only_looks_does_not_keep_others_from_making(finished):
    store = finished.run().store
    ends = threading.Event()

    def look() -> None:
        while not ends.is_set():
            is_held(store.work_dir / "refine" / ".0123456789abcdef.lock")

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(100):
            with store.lock("refine", "0123456789abcdef"):
                time.sleep(0.0005)
    finally:
        ends.set()
        looker.join()


def test_a_finished_work_folder_that_is_read_only_can_be_used(finished, tmp_path, read_only, s4m):
    own = finished.copy(tmp_path / "run")
    student = own.run().folder(stage_named("train-student"))
    (own.folder / "work" / "refine" / "latest").write_text("0123456789abcdef\n")
    read_only(own.folder / "work")
    with pytest.raises(OSError, match=r"Read-only|Permission"):
        (own.folder / "work" / "new").touch()
    for command in (
        ["status"],
        ["run"],
        ["refine"],
        ["evaluate", "--of", "teacher"],
        ["report", "--out", tmp_path / "report.html"],
    ):
        code, _, err = s4m(command[0], "-c", own.config, *command[1:])
        assert code == 0, err
        assert "making" not in err
    assert s4m("artifacts", "list", own.folder / "work")[0] == 0
    assert s4m("artifacts", "gc", own.folder / "work")[0] == 0
    assert s4m("artifacts", "verify", student)[0] == 0
    code, out, err = s4m(
        *("evaluate", "-c", own.config, "--of", student, "--json"),
        f"work_dir={tmp_path / 'another'}",
    )
    assert code == 0, err
    assert json.loads(out)


def test_what_would_be_made_in_a_read_only_work_folder_is_refused_by_its_path(
    finished, tmp_path, read_only, s4m
):
    own = finished.copy(tmp_path / "run")
    read_only(own.folder / "work")
    code, _, err = s4m("refine", "-c", own.config, "refine.min_agreement=0.2")
    assert code in (1, 2)
    assert err.startswith(f"error: {own.folder / 'work' / 'refine'}")
    assert "Read-only file system" in err or "Permission denied" in err
    assert "work_dir" in err or "needs the right to write" in err
