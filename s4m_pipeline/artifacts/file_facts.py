"""What is known of files, such as their digests: found once for each state of a file.

A file's state is its size, the time of its last change of content, that of its last change of any
kind, both in nanoseconds, and its inode: tools that put the first time back do not reach the
second. This is the one place that says when a file counts as the same as before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from s4m_pipeline.artifacts.sealed import read_if_whole, write_sealed

MOST_BYTES = 1 << 34
"""Of the file of facts, which has a line for each picture of a set."""
THREADS = 4
"""Files that are looked at at a time; reading and hashing release the GIL."""
YOUNG = 2_000_000_000
"""Nanoseconds in which a file may change again without another time; what is younger is looked at
anew the next time."""
AHEAD = 3_600_000_000_000
"""Nanoseconds by which a file server's clock may be ahead. A later time was set by hand, and says
nothing of when the file was changed."""
SHOWN = 1000
"""From how many files on it is shown how far the work is."""

Find = Callable[[Path], Any]
"""Finds a fact of a file, as a JSON value. It raises nothing."""
FileState = tuple[int, int, int, int]
"""Bytes, time of the last change of content, of any change, and inode."""


class Progress(Protocol):
    """Opens a progress display, as the terminal's reporter does."""

    def __call__(
        self, description: str, total: int
    ) -> AbstractContextManager[Callable[[int, str], None]]:
        """Show ``total`` items; the callback takes the number of items just done, and a note."""


class FileFacts:
    """Facts of files, kept beside the artifacts.

    Args:
        path: The facts' JSON file; made when the first one is found. None keeps them in memory.
        progress: Shows how far it is with many files.
    """

    def __init__(self, path: Path | None, progress: Progress | None = None) -> None:
        self._path, self._progress = path, progress
        self._known: dict[str, dict[str, dict[str, list[Any]]]] | None = None

    def of(self, kind: str, root: Path, names: Sequence[str], find: Find) -> list[Any]:
        """A fact of each file, found where it is not known for the file's state.

        Args:
            kind: The fact's name.
            root: The folder that the names are relative to.
            names: The files.
            find: Finds it.

        Returns:
            The facts in the order of the names; None for a file that is not there.
        """
        known = self._load().setdefault(kind, {}).setdefault(os.path.abspath(root), {})
        folder = os.fspath(root)
        states = [_state_if_there(os.path.join(folder, name)) for name in names]
        facts: list[Any] = [None] * len(names)
        todo = []
        for place, (name, state) in enumerate(zip(names, states, strict=True)):
            if state is None:
                continue
            if name in known and known[name][:-1] == [*state]:
                facts[place] = known[name][-1]
            else:
                todo.append(place)
        learnt = False
        for place, fact in self._found(kind, root, [(p, names[p]) for p in todo], find):
            facts[place] = fact
            state = states[place]
            if state is not None and not _is_young(state):
                known[names[place]] = [*state, fact]
                learnt = True
        if learnt:
            self._save()
        return facts

    def _found(
        self, kind: str, root: Path, files: Sequence[tuple[int, str]], find: Find
    ) -> Iterator[tuple[int, Any]]:
        """Look at files in threads; gives each one's place with what was found."""
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="files")
        places, paths = [place for place, _ in files], [root / name for _, name in files]
        try:
            found = zip(places, pool.map(find, paths), strict=True)
            if self._progress is None or len(files) < SHOWN:
                yield from found
                return
            with self._progress(f"looking at {kind} of {root.name}", len(files)) as advance:
                for place, fact in found:
                    advance(1, "")
                    yield place, fact
        finally:
            pool.shutdown(cancel_futures=True)

    def _load(self) -> dict[str, dict[str, dict[str, list[Any]]]]:
        if self._known is None:
            self._known = {} if self._path is None else read_if_whole(self._path, MOST_BYTES)
        return self._known

    def _save(self) -> None:
        if self._path is None:
            return
        try:
            write_sealed(self._path, self._known or {})
        except OSError:  # a read-only work folder: what was found is right all the same
            return


def state_of(path: str | Path) -> FileState:
    """By what a file is taken for the same as before (OSError where there is none)."""
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _state_if_there(path: str) -> FileState | None:
    """A file's state; None where there is no such file, and for a name that no file can have."""
    try:
        return state_of(path)
    except (OSError, ValueError):
        return None


def _is_young(state: FileState) -> bool:
    """Whether a file changed so lately that it may change again and keep its times."""
    _, content, any_change, _ = state
    now = time.time_ns()
    return any(-AHEAD < now - changed <= YOUNG for changed in (content, any_change))
