"""Processes of this machine that work for this one, each at the end of a pipe of its own.

A queue that processes share is guarded by locks, and one that is killed while it holds such a lock
stops all others for ever. A pipe that two processes share ends with either of them: this one sees
the end of a helper, and a helper ends where this one is gone. No torch.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

CHECK_SECONDS = 1.0
"""How often a helper that says nothing is looked at, in case that its pipe outlives it."""
END_SECONDS = 5.0
"""How long a helper has to end when it is told to, before it is killed."""
_starting = threading.Lock()


class HelperEndedError(Exception):
    """A helper ended before it was told to.

    Args:
        exit_code: Its exit code, negative for the signal that killed it; None where it is not
            known.
    """

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


class Helper:
    """A process at work, as the one that started it sees it.

    Args:
        work: A function at the top of a module, called there with its end of the pipe and then
            ``arguments``.
        arguments: Picklable.
    """

    def __init__(self, work: Callable[..., None], arguments: Iterable[Any] = ()) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, its_end = context.Pipe()
        self._process = context.Process(
            target=_begin, args=(work, its_end, tuple(arguments)), daemon=True
        )
        try:
            with _starting, _ctrl_c_held_back():
                self._process.start()
        except BaseException:
            self.pipe.close()
            raise
        finally:
            its_end.close()  # so that the pipe ends with the helper

    def send(self, message: Any) -> None:
        """Send it a message, for which it waits (HelperEndedError)."""
        try:
            self.pipe.send(message)
        except OSError as error:
            raise self._ended() from error

    def receive(self) -> Any:
        """Its next message, once there is one (HelperEndedError)."""
        while not self.pipe.poll(CHECK_SECONDS):
            if self.is_gone():
                raise self._ended()
        try:
            return self.pipe.recv()
        except (EOFError, OSError) as error:  # between two messages, or within one
            raise self._ended() from error

    def is_gone(self) -> bool:
        """Whether it ended and left no message."""
        return self._process.exitcode is not None and not self.pipe.poll()

    def _ended(self) -> HelperEndedError:
        self._process.join(END_SECONDS)
        return HelperEndedError(self._process.exitcode)

    def terminate(self) -> None:
        """Tell it to end, without waiting for it."""
        self._process.terminate()

    def end(self) -> None:
        """End it, by force where it does not end by itself."""
        self._process.terminate()
        self._process.join(END_SECONDS)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self.pipe.close()


def end_all(helpers: Iterable[Helper]) -> None:
    """End helpers, all at the same time."""
    helpers = list(helpers)
    for helper in helpers:
        helper.terminate()
    for helper in helpers:
        helper.end()


def with_messages(helpers: Iterable[Helper]) -> list[Helper]:
    """Wait until helpers have a message, or are gone, and give these helpers.

    A helper that is gone is seen at once where its pipe ends with it, and else within a second or
    two: processes that it had started may hold the pipe open.
    """
    by_pipe: dict[Any, Helper] = {helper.pipe: helper for helper in helpers}
    while True:
        found = [by_pipe[pipe] for pipe in wait(list(by_pipe), CHECK_SECONDS)]
        found = found or [helper for helper in by_pipe.values() if helper.is_gone()]
        if found:
            return found


def _begin(work: Callable[..., None], pipe: Connection, arguments: tuple[Any, ...]) -> None:
    """Do a helper's work, in its process."""
    leave_ctrl_c_to_parent()
    end_with_parent()
    work(pipe, *arguments)


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Hold Ctrl-C back in a process that is being started, which takes over what is held back.

    Else one that comes while it still imports would print a traceback for each helper. The first
    process that is spawned starts multiprocessing's own beside it, which lets Ctrl-C through again
    (``resource_tracker.ensure_running``); so that one is started before.
    """
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_ctrl_c_to_parent() -> None:
    """Ignore Ctrl-C here, which a terminal sends to all: the parent ends its helpers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def end_with_parent() -> None:
    """Have this process end, whatever it does, as soon as the one that started it is gone.

    The parent holds one end of a pipe, which the system closes however the parent ends. Nothing of
    what is being done here could be handed over any more.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
