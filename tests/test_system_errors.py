"""What the system refuses: the path and what is needed, whatever a library says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from s4m_pipeline import system_errors
from s4m_pipeline.artifacts.durable import sync_file
from s4m_pipeline.artifacts.shards import ShardResult, make_shards
from s4m_pipeline.artifacts.tables import write_table
from s4m_pipeline.data.formats.coco.writer import write_text
from s4m_pipeline.data.split.lists import write_list
from s4m_pipeline.errors import S4MError, UsageError, is_out_of_memory
from s4m_pipeline.execution.base import ShardJob, ShardWorker
from s4m_pipeline.execution.local import run_shards
from s4m_pipeline.review.page import write_page
from s4m_pipeline.system_errors import telling, told
from tests.file_systems import Disk

ROOT = Path(__file__).parents[1]
NOBODY = 65534


def _full(number: int = errno.ENOSPC, name: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), name)


@pytest.fixture
def small_disk(disk: Disk) -> Path:
    """A file system of 64 KB."""
    disk.resize(64 * 1024)
    return disk.folder


def _overflow_by_python(folder: Path) -> None:
    (folder / "a.json").write_bytes(bytes(100_000))


def _overflow_by_arrow(folder: Path) -> None:
    rows = [
        {
            "image_id": number,
            "file_name": os.urandom(3000).hex(),
            "stage": "refine",
            "error": "",
            "attempts": 1,
        }
        for number in range(40)
    ]
    write_table(folder / "a.parquet", "quarantine", rows, [])


def _overflow_by_torch(folder: Path) -> None:
    import torch

    torch.save(torch.ones(50_000), folder / "a.pth")


@pytest.mark.parametrize("overflow", [_overflow_by_python, _overflow_by_arrow, _overflow_by_torch])
def test_a_full_disk_is_told_with_its_path_whoever_writes(small_disk, overflow):
    with pytest.raises(S4MError) as raised, telling(small_disk / "refine"):
        overflow(small_disk)
    assert raised.value.exit_code == 1
    first, second = str(raised.value).splitlines()
    assert first.startswith(f"{small_disk / 'refine'}: No space left on device (")
    assert first.endswith(" left of 65.5 KB).")
    assert second == "Free some space there, then run it again."


class Overflowing(ShardWorker):
    def __init__(self, stage, task, place):
        del stage, task, place

    def process(self, shard, advance):
        return ShardResult(
            {
                "quarantine": [
                    {
                        "image_id": image_id,
                        "file_name": os.urandom(100_000).hex(),
                        "stage": "refine",
                        "error": "",
                        "attempts": 1,
                    }
                    for image_id in shard.image_ids
                ]
            }
        )


def test_a_full_disk_is_told_by_workers_as_well(small_disk):
    job = ShardJob("refine", f"{__name__}:Overflowing", None, small_disk / "refine", [])
    with pytest.raises(S4MError, match=f"^{small_disk / 'refine'}: No space left on device"):
        list(run_shards(make_shards(range(4), size=1), job, 2, lambda _: None))


def test_a_disk_without_room_for_one_more_file_is_told_as_such(small_disk, monkeypatch):
    subprocess.run(["mount", "-o", "remount,nr_inodes=3", str(small_disk)], check=True)
    for number in range(2):
        (small_disk / str(number)).touch()
    message = r"No space left on device \(no file more, 3 are there\)"
    with pytest.raises(S4MError, match=message), telling():
        (small_disk / "another").touch()


def test_a_disk_is_named_by_the_error_or_by_the_first_full_place(small_disk, tmp_path):
    (small_disk / "fill").write_bytes(bytes(60_000))
    named = told(_full(name=str(tmp_path / "a.json")), [small_disk])
    assert str(named).startswith(f"{tmp_path / 'a.json'}: No space left on device (")
    found = told(_full(), [tmp_path / "somewhere", small_disk / "work", small_disk])
    assert str(found).startswith(f"{small_disk / 'work'}: No space left on device (")
    assert str(told(_full(), [])).startswith("No space left on device.\n")
    assert "Disk quota exceeded" in str(told(_full(errno.EDQUOT, "a.json")))


def test_a_quota_is_told_with_the_folder_that_is_written_to(tmp_path):
    assert str(told(_full(errno.EDQUOT), [tmp_path])).startswith("Disk quota exceeded.\n")
    with pytest.raises(S4MError) as raised, telling(tmp_path / "refine"):
        raise _full(errno.EDQUOT)
    first, second = str(raised.value).splitlines()
    assert first.startswith(f"{tmp_path / 'refine'}: Disk quota exceeded (")
    assert second == "Free some space there, then run it again."


def test_a_file_that_the_disk_does_not_take_is_named(tmp_path, monkeypatch):
    def fails(_):
        raise _full()

    (tmp_path / "a.json").touch()
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'a.json'}'"):
        sync_file(tmp_path / "a.json")


def _write_page(path: Path) -> None:
    write_page(path, "title", "word " * 20_000)


def _write_list(path: Path) -> None:
    write_list(path, (f"{number}.png" for number in range(20_000)))


def _write_coco(path: Path) -> None:
    write_text(path, ["{", " " * 100_000, "}"])


@pytest.mark.parametrize("write", [_write_page, _write_list, _write_coco])
def test_a_file_that_a_full_disk_does_not_take_is_no_wrong_use(small_disk, write):
    with pytest.raises(S4MError, match="No space left on device") as caught:
        write(small_disk / "named")
    assert caught.value.exit_code == 1
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{small_disk / 'named'}: ")
    assert second == "Free some space there, then run it again."


def test_what_torch_says_of_a_file_is_a_full_disk_only_where_one_is(small_disk):
    fails = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")
    assert told(fails, [ROOT]) is None
    (small_disk / "fill").write_bytes(bytes(60_000))
    assert "No space left" in str(told(fails, [small_disk]))


@pytest.mark.parametrize(
    "text",
    [
        "unable to write to file </torch_123_456_7>: No space left on device (28)",
        "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback\n"
        "RuntimeError: unable to allocate shared memory(shm) for file </torch_1_2_3>: "
        "No space left on device (28)",
        "DataLoader worker (pid 77) is killed by signal: Bus error. It is possible that "
        "dataloader's workers are out of shared memory.",
    ],
)
def test_full_shared_memory_is_told_with_what_to_do(text):
    first, second = str(told(RuntimeError(text))).splitlines()
    assert first.startswith("/dev/shm: No space left on device (")
    assert "--shm-size" in second
    assert "workers: 0" in second


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid 77) is killed by signal: Killed. ",
        "DataLoader worker (pid(s) 77, 78) exited unexpectedly",
    ],
)
def test_a_data_process_that_was_killed_is_told_as_memory(text):
    assert "perhaps for lack of memory" in str(told(RuntimeError(text)))


def test_a_data_process_that_was_killed_is_told_where_a_library_puts_it_in_other_words():
    import inspect

    class Interrupted:
        @property
        def __signature__(self):  # where PyTorch's error may come, as from a signal
            raise RuntimeError("DataLoader worker (pid 77) is killed by signal: Killed. ")

        def __call__(self):
            """Do nothing."""

    with pytest.raises(TypeError, match="unsupported callable") as raised:
        inspect.getfullargspec(Interrupted())
    assert "perhaps for lack of memory" in str(told(raised.value))


def test_memory_that_runs_out_on_a_cpu_is_told_whoever_asks_for_it():
    import cv2
    import numpy as np
    import torch

    asks = [
        lambda: torch.empty(10**14),
        lambda: np.zeros(10**15),
        lambda: bytearray(10**15),
        lambda: cv2.resize(np.zeros((2, 2), np.uint8), (2**20, 2**20)),
    ]
    for ask in asks:
        with pytest.raises(Exception) as raised:
            ask()
        assert is_out_of_memory(raised.value), raised.value
        assert "Memory ran out" in str(told(raised.value))
    assert is_out_of_memory(_full(errno.ENOMEM))
    assert not is_out_of_memory(ValueError("Cannot allocate memory in a sentence of another kind"))


PROGRAM = """
import os, sys
from pathlib import Path
from s4m_pipeline.review.page import write_page
from s4m_pipeline.system_errors import telling
os.setuid({user})
try:
    with telling():
        {act}
except Exception as error:
    print(type(error).__name__, getattr(error, "exit_code", None))
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize(
    ("act", "right", "at"),
    [
        ("Path({!r}).write_text('a')", "write", "closed"),
        ("Path({!r}).mkdir()", "write", "closed"),
        ("Path({!r}).read_text()", "read", "closed/secret.json"),
    ],
)
def test_a_missing_permission_is_told_with_whose_it_is(act, right, at):
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp", prefix="process-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "closed").mkdir(mode=0o755)
        (folder / "closed" / "secret.json").write_text("{}")
        (folder / "closed" / "secret.json").chmod(0o600)
        path = folder / at if right == "read" else folder / "closed" / "new"
        code = PROGRAM.format(user=NOBODY, act=act.format(str(path)))
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
        )
        kind, first, second = done.stdout.splitlines()
        assert kind == f"{UsageError.__name__} 2"
        assert "Permission denied" in first
        assert first.startswith(str(folder / "closed"))
        assert f"needs the right to {right} {folder / at}, which is root's (" in second
        assert not second.startswith("root")


def test_errors_of_ours_and_of_other_kinds_pass_as_they_are():
    assert told(UsageError("wrong")) is None
    assert told(ValueError("wrong")) is None
    assert told(FileNotFoundError(errno.ENOENT, "No such file", "a")) is None
    with pytest.raises(ValueError, match="as it is"), telling():
        raise ValueError("as it is")


def test_the_command_names_the_disk_that_its_line_names(small_disk, tmp_path, monkeypatch, s4m):
    from s4m_pipeline.commands import app

    def fails(_):
        raise _full()

    monkeypatch.setattr(app, "call", fails)
    monkeypatch.setattr(system_errors, "LITTLE", 100_000)
    code, _, err = s4m("status", "-c", tmp_path / "run.yaml", f"work_dir={small_disk}")
    assert (code, err.splitlines()[0][:25]) == (1, f"error: {small_disk}: No"[:25])
    assert "bug in s4m" not in err


def test_a_data_process_that_was_killed_is_told_where_we_took_it_for_a_fault_of_a_file():
    """PyTorch raises it in the midst of whatever is being done, such as reading a checkpoint."""
    killed = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    taken = UsageError("not a checkpoint that can be read safely: a.pth")
    taken.__cause__ = killed
    found = told(taken)
    assert found is not None
    assert found.exit_code == 1
    assert "A process that loads data was killed" in str(found)
    assert "a.pth" not in str(found)
