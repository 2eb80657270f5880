"""Stage ``pseudo-label``: what it asks of the teacher, when, and in which thread."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s4m_pipeline.artifacts.shards import Shard
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.engine import reading
from s4m_pipeline.models.scaled_image import ScaledImage, scale_image
from s4m_pipeline.stages import prediction_worker
from s4m_pipeline.stages.prediction_settings import PredictionSettings
from s4m_pipeline.stages.prediction_task import PredictionTask

PATIENCE = 20.0


class Teacher:
    """A teacher on a device that is not there; what it finds of an image is the image's mean.

    Args:
        device: Where it says it is.
        work: Called with the number of each call before it answers.
    """

    def __init__(self, device: str, work: Callable[[int], None]) -> None:
        self.device = torch.device(device)
        self.categories = [{"id": 7}]
        self.warnings: list[str] = []
        self.work = work
        self.calls = 0
        self.threads: list[threading.Thread] = []

    def scaled(self, image: np.ndarray) -> ScaledImage:
        return scale_image(image, (6, 4))

    def predict(self, images: list[ScaledImage], min_score: float) -> list[float]:
        assert min_score == 0.05
        number, self.calls = self.calls, self.calls + 1
        self.threads.append(threading.current_thread())
        self.work(number)
        return [float(image.tensor.float().mean()) for image in images]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Make a worker whose teacher is made up, whose images are grey and whose rows are told."""

    def worker(teacher: Teacher, images: int, rows: Callable[[int], None]) -> Any:
        instance: Any = object.__new__(prediction_worker.PredictionWorker)
        instance.stage = "pseudo-label"
        records = {n: ImageRecord(n, f"{n}.png", Path(f"{n}.png"), 4, 6) for n in range(images)}
        settings = PredictionSettings(0, 0.05, 3)
        instance._task = PredictionTask(Path(), str(teacher.device), records, settings, 1)
        instance._teacher = teacher
        instance._category_ids = [7]
        instance.batch_size, instance.streams = 1, teacher.device.type != "cpu"

        def read(path: Path, height: int, width: int, reading: object) -> np.ndarray:
            return np.full((height, width, 3), int(path.stem), np.uint8)

        def rows_of(record: ImageRecord, size: Any, value: float, *rest: Any) -> list[Any]:
            assert (value, size) == (record.id, (4, 6))
            rows(record.id)
            return [{"image_id": record.id}]

        monkeypatch.setattr(reading, "read_sized_image", read)
        monkeypatch.setattr(prediction_worker, "prediction_rows", rows_of)
        return instance

    return worker


def _shard(images: int) -> Shard:
    return Shard(0, tuple(range(images)))


def _nothing(number: int) -> None:
    pass


def _helpers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("images", [0, 1, 5])
@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_every_batch_gets_its_own_predictions_in_order(make, device: str, images: int) -> None:
    order: list[int] = []
    worker = make(Teacher(device, _nothing), images, order.append)
    advanced: list[int] = []
    result = worker.process(_shard(images), advanced.append)
    assert order == list(range(images))
    assert result.rows["predictions"] == [{"image_id": n} for n in range(images)]
    assert result.counts == {"images": images, "instances": images, "quarantined": 0}
    assert sum(advanced) == images


def test_rows_are_made_while_another_thread_is_at_the_next_batch_on_a_gpu(make) -> None:
    """The teacher ends no batch but the first before the rows of the one before are under way."""
    begun = [threading.Event() for _ in range(4)]
    rows = [threading.Event() for _ in range(4)]

    def work(number: int) -> None:
        begun[number].set()
        if number:
            assert rows[number - 1].wait(PATIENCE)

    def make_rows(number: int) -> None:
        rows[number].set()
        if number + 1 < len(begun):
            assert begun[number + 1].wait(PATIENCE)

    teacher = Teacher("cuda", work)
    make(teacher, 4, make_rows).process(_shard(4), _nothing)
    assert len(set(teacher.threads)) == 1
    assert teacher.threads[0] is not threading.main_thread()
    assert not teacher.threads[0].is_alive()


def test_no_more_than_two_batches_are_in_flight(make) -> None:
    taken: list[int] = []
    flying: list[int] = []
    teacher = Teacher("cuda", lambda number: flying.append(number + 1 - len(taken)))
    make(teacher, 20, taken.append).process(_shard(20), _nothing)
    assert len(flying) == 20
    assert max(flying) <= 2


def test_on_a_cpu_there_is_no_thread_and_nothing_ahead(make) -> None:
    events: list[tuple[str, int]] = []
    teacher = Teacher("cpu", lambda number: events.append(("network", number)))
    make(teacher, 3, lambda number: events.append(("rows", number))).process(_shard(3), _nothing)
    assert events == [(what, number) for number in range(3) for what in ("network", "rows")]
    assert set(teacher.threads) == {threading.main_thread()}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_teachers_error_comes_with_its_traceback_and_leaves_no_thread(make, device: str) -> None:
    def fail_at_the_third(number: int) -> None:
        if number == 2:
            raise RuntimeError("device-side assert")

    order: list[int] = []
    worker = make(Teacher(device, fail_at_the_third), 9, order.append)
    with pytest.raises(RuntimeError, match="device-side assert") as caught:
        worker.process(_shard(9), _nothing)
    assert order == [0, 1]
    assert "fail_at_the_third" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert not _helpers()


def test_an_error_in_the_rows_leaves_no_thread_though_its_traceback_is_held(make) -> None:
    def fail(number: int) -> None:
        raise ValueError("rows")

    gc.disable()  # what only a collection would end is no end
    try:
        with pytest.raises(ValueError, match="rows") as caught:
            make(Teacher("cuda", _nothing), 9, fail).process(_shard(9), _nothing)
        assert caught.value.__traceback__ is not None
        assert not _helpers()
    finally:
        gc.enable()


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a thread")
@pytest.mark.parametrize("where", ["waiting for the teacher", "making rows"])
def test_ctrl_c_ends_the_stage_after_the_batch_under_way(make, where: str) -> None:
    def interrupt() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def work(number: int) -> None:
        if number == 2 and where == "waiting for the teacher":
            interrupt()

    def rows(number: int) -> None:
        if number == 1 and where == "making rows":
            interrupt()

    teacher = Teacher("cuda", work)
    # a shell's background jobs, and so a test run among them, begin with Ctrl-C ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            make(teacher, 100, rows).process(_shard(100), _nothing)
    finally:
        signal.signal(signal.SIGINT, before)
    assert teacher.calls <= 4
    assert not _helpers()


def test_what_the_teacher_warns_of_is_handed_on(make) -> None:
    teacher = Teacher("cuda", lambda number: teacher.warnings.append("memory ran out: 1 images"))
    result = make(teacher, 1, _nothing).process(_shard(1), _nothing)
    assert result.warnings == ["memory ran out: 1 images"]
