import pytest

from s4m_pipeline.artifacts.shards import ShardResult, make_shards
from s4m_pipeline.devices.placement import resolve_device
from s4m_pipeline.errors import S4MError, UsageError
from s4m_pipeline.execution.base import ShardWorker
from s4m_pipeline.execution.local import run_shards


class Doubler(ShardWorker):
    def __init__(self, factor, place):
        self.factor, self.place = factor, place

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
        import os

        os._exit(9)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_shard_is_processed_once(workers):
    seen = []
    shards = make_shards(range(10), size=3)
    results = dict(
        (shard.number, result.counts["sum"])
        for shard, result in run_shards(shards, Doubler, 2, workers, seen.append)
    )
    assert results == {0: 6, 1: 24, 2: 42, 3: 18}
    assert sum(seen) == 10


@pytest.mark.parametrize("workers", [1, 2])
def test_a_workers_error_reaches_the_user_with_its_kind(workers):
    shards = make_shards(range(4), size=1)
    with pytest.raises(UsageError, match=r"photo\.jpg is broken"):
        list(run_shards(shards, Failing, 1, workers, lambda _: None))


def test_a_worker_that_dies_is_an_error_not_a_hang():
    with pytest.raises(S4MError, match="exit code 9"):
        list(run_shards(make_shards(range(4), size=1), Dying, 1, 2, lambda _: None))


def test_no_shard_makes_no_worker():
    assert list(run_shards([], None, None, 1, lambda _: None)) == []


def test_devices_are_resolved_and_checked():
    import torch

    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UsageError, match="gpu9"):
        resolve_device("gpu9")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no CUDA"):
            resolve_device("cuda")
