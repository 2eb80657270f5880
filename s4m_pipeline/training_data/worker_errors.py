"""Errors that come out of a DataLoader's worker, in the words meant for the user. No torch."""

from __future__ import annotations

import re

from s4m_pipeline.errors import S4MError

RAISED = re.compile(r"^s4m_pipeline\.errors\.\w+: ", re.MULTILINE)


def unwrap(error: S4MError) -> S4MError:
    """Take the user's message out of an error that a worker passed on.

    PyTorch raises a worker's error again in the main process with the worker's whole traceback
    as its message. An error from the main process comes back as it is.

    Returns:
        An error of the same class whose message is the original one.
    """
    text = str(error)
    raised = list(RAISED.finditer(text))
    if not text.startswith("Caught ") or not raised:
        return error
    return type(error)(text[raised[-1].end() :].strip())
