"""Trying again with less where memory runs out."""

from __future__ import annotations

import pytest
import torch

from s4m_pipeline.devices.memory import attempt


class Held:
    """What work has made when its memory runs out."""

    count = 0

    def __init__(self) -> None:
        Held.count += 1

    def __del__(self) -> None:
        Held.count -= 1


def without_room() -> None:
    work = Held()
    raise torch.OutOfMemoryError(f"no room beside {work}")


def test_what_failed_work_held_is_free_when_the_caller_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: live.append(Held.count))
    assert attempt(without_room, 2) is None
    assert live == [0]


LIBRARIES = [
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
]


@pytest.mark.parametrize("message", LIBRARIES)
def test_a_library_of_cuda_that_finds_no_memory_is_tried_with_less(
    monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    freed: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(1))

    def work() -> int:
        raise RuntimeError(message)

    assert attempt(work, 2) is None
    assert freed == [1]
    with pytest.raises(RuntimeError, match=message[:25]):
        attempt(work, 1)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: an illegal memory access was encountered",
        "shapes do not match",
        "out of memory",
    ],
)
def test_other_errors_of_torch_pass(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: pytest.fail("memory sufficed"))

    def work() -> int:
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match=message):
        attempt(work, 2)


def test_one_thing_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        attempt(without_room, 1)


def test_work_that_fits_is_done_once_and_other_errors_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: pytest.fail("memory sufficed"))
    assert attempt(lambda: 3, 2) == 3
    with pytest.raises(ZeroDivisionError):
        attempt(lambda: 1 // 0, 2)
