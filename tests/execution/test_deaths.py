"""Processes that are killed at any moment: nothing hangs, nobody stays behind."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import pytest

from s4m_pipeline.artifacts.shards import ShardResult, make_shards
from s4m_pipeline.errors import S4MError
from s4m_pipeline.execution.base import ShardJob, ShardWorker
from s4m_pipeline.execution.local import run_shards
from s4m_pipeline.execution.parallel import work_through
from s4m_pipeline.execution.processes import Helper, HelperEndedError
from tests.faults.forking import members

TIMES = 20
SOON = 8.0
"""Seconds in which a death must be noticed, on a machine that others use too."""
ROOT = Path(__file__).parents[2]


class Busy(ShardWorker):
    """Says all the time that it has done something."""

    def __init__(self, stage, task, place):
        del stage, task, place

    def process(self, shard, advance):
        for _ in range(20):
            advance(1)
        time.sleep(0.002)
        return ShardResult(counts={"images": 1})


class Leaving(Busy):
    """Ends in an orderly way, at its first shard."""

    def process(self, shard, advance):
        os._exit(0)


class NeverThere(Busy):
    """Ends in an orderly way before it takes a shard."""

    def __init__(self, stage, task, place):
        os._exit(0)


def _job(worker, folder):
    return ShardJob("busy", f"{__name__}:{worker.__name__}", None, folder, [])


def _slow(number: int) -> bytes:
    time.sleep(0.002)
    return bytes(200_000)  # more than a pipe holds, so that most of the time is its handing over


def _unending():
    while True:
        yield 1


def _kill_one_later(delay: float, chosen: random.Random) -> threading.Thread:
    """Kill one of this process's children ``delay`` seconds after there is one."""

    def kill() -> None:
        while not multiprocessing.active_children():
            time.sleep(0.001)
        time.sleep(delay)
        children = sorted(child.pid or 0 for child in multiprocessing.active_children())
        os.kill(chosen.choice(children), signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("seed", range(TIMES))
def test_a_worker_that_is_killed_at_any_moment_is_noticed(seed, tmp_path):
    chosen = random.Random(seed)
    killer = _kill_one_later(chosen.uniform(0.0, 0.6), chosen)
    if seed % 2:
        shards = make_shards(range(100_000), size=1)
        results = run_shards(shards, _job(Busy, tmp_path), 2, lambda _: None)
    else:
        results = work_through(_slow, _unending(), 2)
    start = time.monotonic()
    with pytest.raises(S4MError, match=r"exit code -9|worker process died"):
        deque(results, maxlen=0)
    killer.join()
    assert time.monotonic() - start < SOON
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("worker", [Leaving, NeverThere])
def test_a_worker_that_leaves_before_its_work_is_done_is_noticed(worker, tmp_path):
    with pytest.raises(S4MError, match="exit code 0"):
        list(run_shards(make_shards(range(4), size=1), _job(worker, tmp_path), 2, lambda _: None))


def _half_a_message(pipe):
    os.write(pipe.fileno(), struct.pack("!i", 1000) + b"the first words")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_helper_that_is_killed_within_a_message_is_noticed():
    helper = Helper(_half_a_message)
    start = time.monotonic()
    with pytest.raises(HelperEndedError, match="exit code -9"):
        helper.receive()
    assert time.monotonic() - start < SOON
    helper.end()


def _answers(pipe):
    pipe.send("here")
    pipe.recv()


def test_ctrl_c_at_a_helper_that_is_being_started_is_left_to_its_parent(capfd):
    helper = Helper(_answers)
    os.kill(helper._process.pid, signal.SIGINT)  # while it imports, as a terminal sends it to all
    assert helper.receive() == "here"
    os.kill(helper._process.pid, signal.SIGINT)
    helper.send("go")
    helper.end()
    assert capfd.readouterr().err == ""
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _with_a_child(pipe):
    """Leave a child behind that holds the pipe open."""
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3 * SOON)
    os._exit(0)


def test_a_helper_whose_children_outlive_it_is_noticed():
    helper = Helper(_with_a_child)
    start = time.monotonic()
    with pytest.raises(HelperEndedError, match="exit code -9"):
        helper.receive()
    assert time.monotonic() - start < SOON
    helper.end()


DRIVER = """
import sys
from pathlib import Path
from s4m_pipeline.artifacts.shards import make_shards
from s4m_pipeline.execution.local import run_shards
from s4m_pipeline.execution.parallel import work_through
from tests.execution import test_deaths as here

if __name__ == "__main__":
    print("begins", flush=True)
    if sys.argv[1] == "shards":
        job = here._job(here.Busy, Path(sys.argv[2]))
        for _ in run_shards(make_shards(range(100_000), size=1), job, 2, lambda _: None):
            pass
    else:
        for _ in work_through(here._slow, here._unending(), 2):
            pass
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("first", range(0, TIMES, 5))
def test_no_worker_outlives_its_parent(first, tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER)
    drivers = [
        subprocess.Popen(
            [sys.executable, "driver.py", ("shards", "jobs")[number % 2], str(tmp_path)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        for number in range(first, first + 5)
    ]
    chosen = random.Random(first)
    met = 0
    for driver in drivers:
        assert driver.stdout is not None
        driver.stdout.readline()
        time.sleep(chosen.uniform(0.0, 0.5))
        met += len(members(driver.pid)) > 1
        driver.kill()
        driver.wait()
        driver.stdout.close()
    assert met
    deadline = time.monotonic() + SOON
    while any(members(driver.pid) for driver in drivers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [members(driver.pid) for driver in drivers] == [[]] * len(drivers)
