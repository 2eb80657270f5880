"""How a reader's answer to an input is judged, and what of it is written down.

``make test`` tries a thousand inputs, always the same ones. ``make fuzz`` sets ``S4M_FUZZ`` and
tries a hundred thousand new ones. An input may take five seconds and two gigabytes.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from s4m_pipeline.errors import BAD_ARTIFACT, WRONG_USE, S4MError

READERS = 19
"""How many tests share the inputs."""
INPUTS = int(os.environ.get("S4M_FUZZ", "1000"))
"""Inputs of all readers together."""
SECONDS = 5
MEMORY = 2 << 30

fuzzed = settings(
    max_examples=-(-INPUTS // READERS),
    deadline=None,  # `answer` counts the seconds that the process works, whatever else runs
    derandomize="S4M_FUZZ" not in os.environ,
    database=None,
    print_blob=True,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Tally:
    """What one reader was fed, and what it took at most for an input."""

    inputs: int = 0
    largest: int = 0
    seconds: float = 0.0
    memory: int = 0


tally = Tally()
"""Of the test that runs."""


def feed(path: Path, data: bytes) -> None:
    """Put an input where a reader looks for it."""
    path.unlink(missing_ok=True)  # what is mapped into memory keeps the bytes that it had
    path.write_bytes(data)
    tally.inputs += 1
    tally.largest = max(tally.largest, len(data))


def peak() -> int:
    """The most memory that the process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def answer(read: Callable[[], Any]) -> Any:
    """What a reader gives; None for an error of ours, whose message is fit to be read."""
    start, before, value, refusal = time.process_time(), peak(), None, None
    try:
        value = read()
    except S4MError as error:
        refusal = error
    seconds, memory = time.process_time() - start, peak() - before
    tally.seconds, tally.memory = max(tally.seconds, seconds), max(tally.memory, memory)
    assert seconds < SECONDS
    assert memory < MEMORY
    if refusal is None:
        return value
    assert 1 <= len(str(refusal).splitlines()) <= 3, str(refusal)
    assert refusal.exit_code in (WRONG_USE, BAD_ARTIFACT)
    return None
