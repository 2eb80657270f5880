import os

import pytest

from s4m_pipeline.artifacts.shards import ShardResult, make_shards, read_marker
from s4m_pipeline.artifacts.tables import read_rows
from s4m_pipeline.devices.placement import resolve_device
from s4m_pipeline.errors import S4MError, UsageError
from s4m_pipeline.execution.base import ShardJob, ShardWorker
from s4m_pipeline.execution.engines import ENGINES, check_engine, engine_named
from s4m_pipeline.execution.local import run_shards


class Doubler(ShardWorker):
    def __init__(self, stage, factor, place):
        self.stage, self.factor, self.place = stage, factor, place

    def process(self, shard, advance):
        for _ in shard.image_ids:
            advance(1)
        return ShardResult(counts={"sum": self.factor * sum(shard.image_ids)})


class Failing(Doubler):
    def process(self, shard, advance):
        if shard.number == 1:
            raise UsageError("photo.jpg is broken")
        return super().process(shard, advance)


class Dying(Doubler):
    def process(self, shard, advance):
        os._exit(9)


CATEGORIES = [{"id": 1, "name": "disc"}]


def job(worker, factor, folder):
    return ShardJob("doubling", f"{__name__}:{worker.__name__}", factor, folder, CATEGORIES)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_shard_is_processed_once(workers, tmp_path):
    seen = []
    shards = make_shards(range(10), size=3)
    results = dict(
        (shard.number, marker.counts["sum"])
        for shard, marker in run_shards(shards, job(Doubler, 2, tmp_path), workers, seen.append)
    )
    assert results == {0: 6, 1: 24, 2: 42, 3: 18}
    assert sum(seen) == 10


@pytest.mark.parametrize("workers", [1, 2])
def test_a_workers_error_reaches_the_user_with_its_kind(workers, tmp_path):
    shards = make_shards(range(4), size=1)
    with pytest.raises(UsageError, match=r"photo\.jpg is broken"):
        list(run_shards(shards, job(Failing, 1, tmp_path), workers, lambda _: None))


def test_a_worker_that_dies_is_an_error_not_a_hang(tmp_path):
    shards = make_shards(range(4), size=1)
    with pytest.raises(S4MError, match="exit code 9"):
        list(run_shards(shards, job(Dying, 1, tmp_path), 2, lambda _: None))


def test_no_shard_makes_no_worker():
    assert list(run_shards([], None, 1, lambda _: None)) == []


class Writing(ShardWorker):
    """Says in its rows which stage it was told, and in which process it is."""

    def __init__(self, stage, task, place):
        self.stage, self.task = stage, task

    def process(self, shard, advance):
        rows = [
            {
                "image_id": image_id,
                "file_name": f"{image_id}.png",
                "stage": self.stage,
                "error": str(os.getpid()),
                "attempts": 1,
            }
            for image_id in shard.image_ids
        ]
        advance(len(rows))
        return ShardResult({"quarantine": rows}, {"images": len(rows)})


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_write_their_shards_and_the_parent_gets_markers(workers, tmp_path, monkeypatch):
    from s4m_pipeline.artifacts import shards as writing

    shards = make_shards(range(10), size=3)
    if workers == 2:  # the workers import it anew; this process must not write at all

        def refuse(*_, **__):
            raise AssertionError("the parent writes no table and no marker")

        monkeypatch.setattr(writing, "write_table", refuse)
        monkeypatch.setattr(writing, "write_sealed", refuse)
    markers = dict(run_shards(shards, job(Writing, None, tmp_path), workers, lambda _: None))
    for shard in shards:
        assert read_marker(tmp_path, shard) == markers[shard]
        rows = read_rows(tmp_path, "quarantine", shard.image_ids)
        assert [row["image_id"] for row in rows] == list(shard.image_ids)
        assert {row["stage"] for row in rows} == {"doubling"}
        assert {int(row["error"]) == os.getpid() for row in rows} == {workers == 1}


def test_every_engine_of_the_table_can_be_loaded_and_another_is_refused():
    for name in ENGINES:
        assert callable(engine_named(name))
    with pytest.raises(UsageError, match=r"execution\.engine: there is no 'abacus', only local"):
        check_engine("abacus")


def test_devices_are_resolved_and_checked():
    import torch

    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UsageError, match="gpu9"):
        resolve_device("gpu9")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no CUDA"):
            resolve_device("cuda")
