"""Ctrl-C and SIGTERM: the first one ends the work in an orderly way, another one at once.

Whatever is on disk survives a process that is killed, so that nothing is lost by the second.
"""

from __future__ import annotations

import os
import signal
import sys

from s4m_pipeline.errors import INTERRUPTED

SHOW_CURSOR = "\x1b[?25h"
"""For terminals: a progress bar hides the cursor until its end."""


class Interrupts:
    """What a command does about Ctrl-C and SIGTERM.

    Args:
        message: What the user is told of an interrupt.

    Attributes:
        came: Whether there was one.
    """

    def __init__(self, message: str) -> None:
        self._message = message
        self._process = os.getpid()
        self.came = self._told = False
        self._code: int | None = None

    def take(self) -> None:
        """Take the signals from now on; a Ctrl-C that is ignored, as in the background, stays so.

        For the main thread.
        """
        signal.signal(signal.SIGTERM, self._come)
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._come)

    def tell(self) -> None:
        """Tell the user, once, that the command was interrupted."""
        if not self._told:
            self._told = True
            print(self._message, file=sys.stderr)

    def end_with(self, code: int) -> None:
        """The work is over: an interrupt from now on ends the process with its exit code."""
        self._code = code

    def _come(self, number: int, frame: object) -> None:
        """Handle a signal.

        Raises:
            KeyboardInterrupt: It is the first one, and the work is not over.
        """
        del frame
        if os.getpid() != self._process:
            self._come_to_fork(number)
        elif self._code is not None:
            os._exit(self._code)
        elif self.came:
            self._leave()
        else:
            self.came = True
            raise KeyboardInterrupt

    def _come_to_fork(self, number: int) -> None:
        """Leave Ctrl-C, in a process that loads data, to the one that it works for."""
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _leave(self) -> None:
        """Leave at once; without Python's streams, within whose work the signal may have come."""
        text = SHOW_CURSOR if os.isatty(2) else ""
        if not self._told:
            text += self._message + "\n"
        os.write(2, text.encode(errors="backslashreplace"))
        os._exit(INTERRUPTED)
