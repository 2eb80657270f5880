"""A worker's device."""

from __future__ import annotations

import pytest
import torch

from s4m_pipeline.devices.placement import Place, gpus_of, resolve_device, settle, side_by_side
from s4m_pipeline.errors import UsageError


@pytest.mark.parametrize(
    ("asked", "worker", "expected"),
    [("cuda", 0, "cuda:0"), ("cuda", 3, "cuda:1"), ("cuda:1", 0, "cuda:1")],
)
def test_a_worker_makes_its_gpu_the_current_one(
    monkeypatch: pytest.MonkeyPatch, asked: str, worker: int, expected: str
) -> None:
    current: list[str] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert settle(asked, Place(worker, 4)) == expected
    assert current == [expected]


def test_workers_share_the_processors_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert settle("cpu", Place(1, 4)) == "cpu"
    assert settle("cpu", Place(0, 1)) == "cpu"
    assert threads == [2]


def test_a_worker_takes_no_more_threads_than_the_user_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    settle("cpu", Place(0, 2))
    assert threads == [1]


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(UsageError, match=r"cuda:2.*only 2"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("device", "workers", "gpus", "together"),
    [
        ("cpu", 1, 0, 1),
        ("cpu", 3, 0, 3),
        ("cpu", 99, 0, 8),  # of eight cores
        ("cuda", 1, 4, 1),
        ("cuda", 3, 4, 3),
        ("cuda", 8, 4, 4),  # two wait for each other on each GPU
        ("cuda:2", 8, 1, 1),
    ],
)
def test_workers_of_one_gpu_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch, device: str, workers: int, gpus: int, together: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert gpus_of(device) == gpus
    assert side_by_side(device, workers) == together
