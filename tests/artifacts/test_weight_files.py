"""Files that are given for weights and are none: each is told for what it is."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from s4m_pipeline.artifacts.weight_files import what_it_is, written_by

PAGE = b"\n<!DOCTYPE html>\n<html><head><title>model_final.pth</title></head>" + b" " * 5000
LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 178793939\n"
)


def archive(**entries: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        for name, value in entries.items():
            opened.writestr(name.replace("__", "/"), value)
    return content.getvalue()


def tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as opened:
        opened.addfile(tarfile.TarInfo("a.pth"))
    return content.getvalue()


def array() -> bytes:
    content = io.BytesIO()
    np.savez(content, a=np.zeros(2))
    return content.getvalue()


def safetensors(missing: int = 0) -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\x00" * (16 - missing)


CASES = {
    "page": (PAGE, "a web page"),
    "pointer": (LFS, r"Git LFS pointer to a file of 178,793,939 bytes: run 'git lfs pull'"),
    "annex": (b"/annex/objects/SHA256E-s123--ab.pth\n", "git-annex pointer"),
    "empty": (b"", "it is empty"),
    "zeros": (b"\x00" * 100, "nothing but zeros"),
    "error": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "words": (b"Not Found\n", 'a text, beginning "Not Found"'),
    "escapes": (b"\x1b[31mred\n", None),
    "json": (b'{"message": "rate limit"}', "JSON, beginning"),
    "index": (b'{"metadata": {}, "weight_map": {"a": "b"}}', "a list of files of weights"),
    "gzip": (gzip.compress(b"a" * 100), "packed by gzip"),
    "tar": (tar(), "an archive of tar"),
    "other zip": (archive(a__model="x"), "a zip archive of 1 files"),
    "script": (archive(a__constants_pkl=b"x") .replace(b"constants_pkl", b"constants.pkl"),
               "TorchScript"),
    "cut zip": (archive(a__data=b"x" * 1000)[:500], r"cut short at 500 bytes"),
    "arrays": (array(), "numpy's arrays"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"\x01" * 100, "HDF5"),
    "picture": (b"\x89PNG\r\n\x1a\n" + b"\x01" * 100, "a picture"),
    "cut tensors": (safetensors(3), r"cut short \(\d+ of \d+ bytes\)"),
    "tensors": (safetensors(), r"rename it to end in \.safetensors"),
    "noise": (bytes(range(255, 0, -1)), None),
    "json with a mark": (b"\xef\xbb\xbf{\"a\": 1}", r'JSON, beginning "\{"a": 1\}"'),
    "page in UTF-16": ("<!DOCTYPE html><html>".encode("utf-16"), "web page"),
    "text in UTF-16": ("not found".encode("utf-16"), 'a text, beginning "not found"'),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_file_is(case: str, tmp_path: Path) -> None:
    content, told = CASES[case]
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    said = what_it_is(path)
    if told is None:
        assert said is None
        return
    assert said is not None
    assert re.search(told, said), said
    assert said.isprintable()


def test_a_file_that_is_what_its_name_says_is_not_spoken_of(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(safetensors())
    assert what_it_is(tmp_path / "a.safetensors") is None
    (tmp_path / "a.pth").write_bytes(archive(a__data=b"x").replace(b"a/data", b"a/data"))
    assert what_it_is(tmp_path / "none.pth") is None


def test_tools_by_what_their_files_name() -> None:
    assert "Ultralytics" in str(written_by("ultralytics.nn.tasks.DetectionModel"))
    assert written_by("unheard.of") is None
