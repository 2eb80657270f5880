"""Workers over a stream of shards: what is in a batch, what is begun when, what is given back."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.engine import reading
from s4m_pipeline.engine.streaming import Batch, OpenShard, StreamingWorker
from s4m_pipeline.errors import UsageError
from s4m_pipeline.execution.ahead import one_ahead
from s4m_pipeline.execution.base import Advance

SHARDS = [Shard(0, (1, 2, 3)), Shard(1, (4, 5)), Shard(2, ()), Shard(3, (6, 7, 8))]


class Noting(StreamingWorker[OpenShard, int]):
    """Notes what happens; a row is the image's id and the mean that was read of it."""

    stage = "noting"

    def __init__(self, streams: bool, batch_size: int = 2) -> None:
        self.streams, self.batch_size = streams, batch_size
        self.events: list[Any] = []
        self.fails_at = -1

    def most_open(self) -> int:
        """The most shards that were open at a time."""
        now, most = 0, 0
        for what, _ in self.events:
            now += (what == "opened") - (what == "closed")
            most = max(most, now)
        return most

    def open(self, shard: Shard, advance: Advance) -> OpenShard:
        self.events.append(("opened", shard.number))
        if shard.number == self.fails_at:
            raise UsageError("damaged predictions")
        records = [ImageRecord(n, f"{n}.png", Path(f"{n}.png"), 2, 2) for n in shard.image_ids]
        return OpenShard(shard, records, {"rows": [], "quarantine": []})

    def prepare(self, image: np.ndarray) -> int:
        return int(image.mean())

    def through(
        self, batches: Iterator[Batch[OpenShard, int]]
    ) -> Generator[tuple[OpenShard, int], None, None]:
        for opened, batch in one_ahead(self._begin, batches):
            if batch:
                self.events.append(("made", [record.id for record, _ in batch]))
            opened.add({"rows": [{"id": record.id, "mean": mean} for record, mean in batch]})
            yield opened, len(batch)

    def close(self, done: OpenShard) -> ShardResult:
        self.events.append(("closed", done.shard.number))
        return ShardResult(done.tables, {"images": len(done.tables["rows"])})

    def _begin(self, given: Batch[OpenShard, int]) -> Batch[OpenShard, int]:
        if given[1]:
            self.events.append(("begun", [record.id for record, _ in given[1]]))
        return given


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Images that cannot be read; the others have their id as the value of all pixels."""
    some: set[int] = set()

    def read(path: Path, height: int, width: int, reading: object) -> np.ndarray:
        if int(path.stem) in some:
            raise UsageError(f"{path}: broken")
        return np.full((height, width, 3), int(path.stem), np.uint8)

    monkeypatch.setattr(reading, "read_sized_image", read)
    return some


def _run(worker: Noting) -> tuple[list[int], dict[int, ShardResult], int]:
    advanced: list[int] = []
    results = list(worker.run(iter(SHARDS), advanced.append))
    return [s.number for s, _ in results], {s.number: r for s, r in results}, sum(advanced)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("streams", [True, False])
def test_every_shard_comes_back_in_order_with_the_rows_of_its_images(
    broken: set[int], streams: bool, batch_size: int
) -> None:
    order, results, advanced = _run(Noting(streams, batch_size))
    assert order == [0, 1, 2, 3]
    assert advanced == 8
    for shard in SHARDS:
        expected = [{"id": n, "mean": n} for n in shard.image_ids]
        assert results[shard.number].rows == {"rows": expected, "quarantine": []}
        assert results[shard.number].seconds["noting"] >= 0


@pytest.mark.parametrize("streams", [True, False])
def test_a_batch_holds_images_of_one_shard(broken: set[int], streams: bool) -> None:
    worker = Noting(streams)
    _run(worker)
    batches = [ids for what, ids in worker.events if what == "begun"]
    assert batches == [[1, 2], [3], [4, 5], [6, 7], [8]]


def test_a_device_has_the_next_shards_batch_before_a_shard_is_closed(broken: set[int]) -> None:
    worker = Noting(streams=True)
    _run(worker)
    places = {str(event): place for place, event in enumerate(worker.events)}
    assert places["('begun', [4, 5])"] < places["('made', [3])"] < places["('closed', 0)"]
    assert places["('begun', [6, 7])"] < places["('made', [4, 5])"] < places["('closed', 1)"]


def test_without_streaming_no_image_of_the_next_shard_is_begun(broken: set[int]) -> None:
    worker = Noting(streams=False)
    _run(worker)
    closed = [place for place, event in enumerate(worker.events) if event[0] == "closed"]
    places = [place for place, event in enumerate(worker.events) if event == ("begun", [4, 5])]
    assert closed[0] < places[0]


@pytest.mark.parametrize("streams", [True, False])
def test_images_that_cannot_be_read_are_set_aside_in_their_own_shard(
    broken: set[int], streams: bool
) -> None:
    broken |= {2, 4, 5, 8}
    order, results, advanced = _run(Noting(streams))
    assert (order, advanced) == ([0, 1, 2, 3], 8)
    aside = {n: [row["image_id"] for row in r.rows["quarantine"]] for n, r in results.items()}
    assert aside == {0: [2], 1: [4, 5], 2: [], 3: [8]}
    kept = {n: [row["id"] for row in r.rows["rows"]] for n, r in results.items()}
    assert kept == {0: [1, 3], 1: [], 2: [], 3: [6, 7]}


def test_a_worker_that_is_left_has_no_thread(broken: set[int]) -> None:
    results = Noting(streams=True).run(iter(SHARDS), lambda count: None)
    next(results)
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead")]


def test_shards_without_an_image_to_read_are_given_back_as_they_come(broken: set[int]) -> None:
    """So that each is written, and a run that is stopped has lost few."""
    worker = Noting(streams=True)
    shards = [Shard(number, ()) for number in range(40)]
    numbers = [shard.number for shard, _ in worker.run(iter(shards), lambda count: None)]
    assert numbers == list(range(40))
    assert worker.most_open() < 10


def test_so_are_shards_whose_images_cannot_be_read_or_are_few(broken: set[int]) -> None:
    broken |= set(range(100, 140))
    for ids in ([(100 + n,) for n in range(40)], [(n,) for n in range(40)]):
        worker = Noting(streams=True)
        shards = [Shard(number, some) for number, some in enumerate(ids)]
        numbers = [shard.number for shard, _ in worker.run(iter(shards), lambda count: None)]
        assert numbers == list(range(40))
        assert worker.most_open() < 10


def test_what_was_begun_before_a_failure_is_given_back_first(broken: set[int]) -> None:
    worker = Noting(streams=True)
    worker.fails_at = 3
    results: list[Any] = []
    with pytest.raises(UsageError, match="damaged predictions"):
        results.extend(worker.run(iter(SHARDS), lambda count: None))
    sizes = [(shard.number, len(result.rows["rows"])) for shard, result in results]
    assert sizes == [(0, 3), (1, 2), (2, 0)]
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead")]
