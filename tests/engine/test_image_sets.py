"""The image sets of a run: what is taken of a folder, and what notices a change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from s4m_pipeline.cli import main
from tests.workshop import Workshop


@pytest.fixture
def own(empty_workshop: Workshop, tmp_path: Path) -> Workshop:
    return empty_workshop.copy(tmp_path / "run")


def test_a_run_says_what_of_a_folder_it_passed_over(
    own: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own.folder / "scenes" / "unlabelled"
    first = min(folder.glob("*.jpg"))
    shutil.copy(first, folder / "web.jfif")
    shutil.copy(first, folder / "._web.jpg")
    (folder / "notes.txt").write_text("")
    (own.folder / "other").mkdir()
    shutil.copy(first, own.folder / "other" / "linked.jpg")
    (folder / "camera2").symlink_to(own.folder / "other")
    with pytest.raises(SystemExit) as ended:
        main(["run", "-c", str(own.config), "--dry-run"])
    assert not ended.value.code
    told = [line for line in capsys.readouterr().err.splitlines() if "data.unlabelled" in line]
    assert told == [
        "data.unlabelled: 20 images taken, also from linked folders (camera2); "
        "passed over: 1 .txt, 1 hidden"
    ]
