"""Small disks and folders that nobody may write to, for tests that may mount them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ReadOnly = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system in memory."""

    folder: Path

    def resize(self, size: int) -> None:
        """Give it another size, in bytes."""
        options = f"remount,size={size}"
        subprocess.run(["mount", "-o", options, str(self.folder)], check=True)

    def used(self) -> int:
        """How many bytes of it are taken."""
        state = os.statvfs(self.folder)
        return (state.f_blocks - state.f_bfree) * state.f_frsize


def _mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of 400 MB, of which only what is used is taken; skips where none may be."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not _mount("-t", "tmpfs", "-o", "size=400m", "tmpfs", str(folder)):
        pytest.skip("no file system can be mounted here")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only_folder(folder: Path) -> Iterator[None]:
    """Make a folder read-only: for root, who may write anywhere, by a mount.

    Skips the test where that may not be.
    """
    if os.geteuid() != 0:
        modes = {path: path.stat().st_mode for path in [*folder.rglob("*"), folder]}
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        yield
        for path, mode in reversed(modes.items()):
            path.chmod(mode)
        return
    if not _mount("--bind", str(folder), str(folder)):
        pytest.skip("no folder can be made read-only here")
    try:
        if not _mount("-o", "remount,ro,bind", str(folder)):
            pytest.skip("no folder can be made read-only here")
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def read_only() -> Iterator[ReadOnly]:
    """Makes folders read-only until the end of the test."""
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(read_only_folder(folder))
