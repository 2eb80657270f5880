"""What all fuzz tests share: a folder a file, and a line for each test of what it was fed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.fuzz import answers

TABLE = "S4M_FUZZ_TABLE"
"""Names a file of JSON lines, from which ``tools/fuzz_table.py`` makes the document's table."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(autouse=True)
def _written_down(request):
    answers.tally.__init__()  # type: ignore[misc]
    yield
    if TABLE in os.environ:
        done = answers.tally
        name = request.node.originalname.removeprefix("test_").replace("_", " ")
        line = [name, done.inputs, done.largest, round(done.seconds, 3), done.memory]
        with Path(os.environ[TABLE]).open("a") as lines:
            lines.write(json.dumps(line) + "\n")
