"""A checkpoint's own digest: whole files pass, damaged ones are told without an error."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from s4m_pipeline.artifacts.digest_beside import digest_file, is_whole_archive, write_digest


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "iter_1.pth"
    with zipfile.ZipFile(path, "w") as content:
        content.writestr("data.pkl", bytes(range(256)))
    return path


@pytest.mark.parametrize("sealed", [True, False])
def test_a_whole_archive_is_whole_and_a_flipped_byte_is_seen(archive: Path, sealed: bool) -> None:
    if sealed:
        write_digest(archive)
    assert is_whole_archive(archive)
    content = bytearray(archive.read_bytes())
    content[100] ^= 1
    archive.write_bytes(content)
    assert not is_whole_archive(archive)


def test_an_end_that_python_cannot_read_is_damage_and_no_error(archive: Path) -> None:
    content = archive.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 2)  # an archive on two disks
    archive.write_bytes(content[:end] + locator + content[end:])
    with pytest.raises(zipfile.BadZipFile):
        zipfile.is_zipfile(archive)
    assert not is_whole_archive(archive)
    assert not digest_file(archive).exists()
