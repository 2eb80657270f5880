"""No command opens a connection, where no weights are asked for by a name of the network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from s4m_pipeline.cli import main
from tests.workshop import Workshop


def test_a_run_opens_no_connection(
    empty_workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    whole = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX:  # by which processes of one machine talk
            asked.append(address)
            raise OSError("no connection in tests")
        whole(self, address)

    def look_up(*arguments: Any, **_: Any) -> None:
        asked.append(arguments)
        raise OSError("no look-up in tests")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    here = empty_workshop.copy(tmp_path / "run")
    config = ["-c", str(here.config)]
    sets = str(here.folder / "scenes" / "labelled")
    checked = ["--annotations", f"{sets}.json", "--images", sets, "--model", "mask2former_lite0"]
    for words in (
        ["doctor"],
        ["data", "check", *checked],
        ["run", *config, "--dry-run"],
        ["structure", *config],
        ["train-teacher", *config, "teacher.iterations=1"],
        ["pseudo-label", *config, "teacher.iterations=1"],
        ["status", *config],
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0, words
        assert asked == [], words
