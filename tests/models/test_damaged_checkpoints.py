"""What a stopped training goes on from: the newest checkpoint that is as it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from s4m_pipeline.artifacts.digest_beside import digest_file, is_whole_archive
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.models import training
from s4m_pipeline.models.hooks import read_log
from s4m_pipeline.models.training import TrainingSpec, damaged_files, resume_iteration, train
from tests.models.stopping import Stopped, stop_after, weights


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def hole(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(4096)
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def without_digest(path: Path) -> None:
    """A bit in one that an earlier version wrote: its own checksums tell."""
    digest_file(path).unlink()
    flip(path)


@pytest.fixture
def stopped(spec: TrainingSpec, tmp_path: Path) -> TrainingSpec:
    """A training of six iterations, stopped after the fifth, with checkpoints of 2 and 4."""
    parts = replace(
        spec,
        iterations=6,
        checkpoint_interval=2,
        folder=tmp_path / "parts",
        log_file=tmp_path / "parts.jsonl",
    )
    with pytest.raises(Stopped):
        train(replace(parts, on_step=stop_after(5)))
    work = parts.folder / training.WORK_FOLDER
    names = sorted(path.name for path in work.glob("iter_*"))
    assert names == ["iter_2.pth", "iter_2.pth.sha256", "iter_4.pth", "iter_4.pth.sha256"]
    assert all(is_whole_archive(path) for path in work.glob("*.pth"))
    return parts


def resumed_at(spec: TrainingSpec) -> tuple[int, dict[str, torch.Tensor]]:
    """The first iteration of a resumed training, and the weights that it ends with."""
    steps: list[int] = []
    result = train(replace(spec, on_step=lambda iteration, _: steps.append(iteration)))
    return steps[0], weights(result.checkpoint)


@pytest.mark.parametrize("damage", [flip, hole, cut, empty, without_digest])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    spec: TrainingSpec, stopped: TrainingSpec, damage: Callable[[Path], None]
) -> None:
    straight = weights(train(replace(spec, iterations=6, checkpoint_interval=2)).checkpoint)
    work = stopped.folder / training.WORK_FOLDER
    assert damaged_files(stopped.folder) == []
    damage(work / "iter_4.pth")
    assert damaged_files(stopped.folder) == [work / "iter_4.pth"]
    assert resume_iteration(stopped.folder) == 2
    first, ended = resumed_at(stopped)
    assert first == 3
    assert ended.keys() == straight.keys()
    assert all(torch.equal(ended[name], value) for name, value in straight.items())


@pytest.mark.parametrize("name", ["mmengine/iter_4.pth", "mmengine/labels.arrow", "checkpoint.pth"])
def test_a_folder_in_a_files_place_is_refused_before_the_work(
    stopped: TrainingSpec, name: str
) -> None:
    path = stopped.folder / name
    path.unlink(missing_ok=True)
    path.mkdir()
    steps: list[int] = []
    with pytest.raises(ArtifactError, match=f"{name}: is a folder, where a file belongs"):
        train(replace(stopped, on_step=lambda iteration, _: steps.append(iteration)))
    assert steps == []
    path.rmdir()
    assert resumed_at(stopped)[0] in (3, 5)


def test_where_all_are_damaged_the_training_begins_anew(stopped: TrainingSpec) -> None:
    for path in (stopped.folder / training.WORK_FOLDER).glob("*.pth"):
        flip(path)
    assert len(damaged_files(stopped.folder)) == 2
    assert resumed_at(stopped)[0] == 1


def test_a_checkpoint_that_was_written_without_its_digest_counts(stopped: TrainingSpec) -> None:
    digest_file(stopped.folder / training.WORK_FOLDER / "iter_4.pth").unlink()
    assert damaged_files(stopped.folder) == []
    assert resumed_at(stopped)[0] == 5


@pytest.mark.parametrize("damage", [flip, hole, cut, empty])
def test_a_trained_checkpoint_that_is_damaged_before_its_manifest_is_made_again(
    spec: TrainingSpec, damage: Callable[[Path], None]
) -> None:
    path = train(spec).checkpoint
    before = weights(path)
    damage(path)
    assert damaged_files(spec.folder) == [path]
    first, again = resumed_at(spec)
    assert first == 1
    assert all(torch.equal(again[name], value) for name, value in before.items())


@pytest.mark.parametrize("broken", [b"\xff\xfe{", b"[1, 2]", b"{}", b'{"iteration": "a"}', b"7"])
def test_a_broken_log_is_mended(stopped: TrainingSpec, broken: bytes) -> None:
    line = json.dumps({"iteration": 1, "loss": 2.5}).encode()
    stopped.log_file.write_bytes(line + b"\n" + broken + b"\n" + line[:9])
    assert read_log(stopped.log_file) == [{"iteration": 1, "loss": 2.5}]
    assert resumed_at(stopped)[0] == 5
    lines = [json.loads(text) for text in stopped.log_file.read_text().splitlines()]
    assert [entry["iteration"] for entry in lines] == [1, 6]
