import hashlib
import json
import os

import numpy as np
import pytest

from s4m_pipeline.artifacts import file_facts
from s4m_pipeline.artifacts import fingerprint as fingerprints
from s4m_pipeline.artifacts.file_facts import FileFacts
from s4m_pipeline.artifacts.fingerprint import (
    FORMAT_VERSION,
    canonical_json,
    content_digest,
    digest_of,
    file_digest,
    fingerprint,
    image_set_digest,
)
from s4m_pipeline.artifacts.seeds import rng, seed_of
from s4m_pipeline.errors import UsageError


def test_fingerprint_is_the_head_of_sha256_over_canonical_json():
    settings, inputs = {"b": 1, "a": [1.5, "ä"]}, {"labelled": "ff"}
    text = json.dumps(
        {
            "format_version": FORMAT_VERSION,
            "inputs": inputs,
            "settings": {"a": [1.5, "ä"], "b": 1},
            "stage": "refine",
        },
        separators=(",", ":"),
        ensure_ascii=False,
        sort_keys=True,
    )
    assert fingerprint("refine", settings, inputs) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_canonical_json_does_not_depend_on_key_order():
    assert canonical_json({"x": 1, "y": 2}) == canonical_json({"y": 2, "x": 1})


@pytest.mark.parametrize("change", ["stage", "settings", "inputs"])
def test_fingerprint_changes_with_each_part(change):
    parts = {"stage": "refine", "settings": {"a": 1}, "inputs": {"b": "2"}}
    other = {"stage": "structure", "settings": {"a": 2}, "inputs": {"b": "3"}}
    assert fingerprint(**parts) != fingerprint(**(parts | {change: other[change]}))


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setattr(file_facts, "YOUNG", -(10**18))  # what was just written counts as old
    path = tmp_path / "weights.bin"
    path.write_bytes(b"one")
    return path


def remembered(path):
    return content_digest(path, FileFacts(path.parent / "digests.json"))


def test_a_remembered_digest_follows_the_file(weights):
    assert remembered(weights) == hashlib.sha256(b"one").hexdigest()
    weights.write_bytes(b"other")
    assert remembered(weights) == hashlib.sha256(b"other").hexdigest()


def test_a_remembered_digest_follows_a_change_of_the_same_size_whose_time_is_put_back(weights):
    first, before = remembered(weights), weights.stat()
    weights.write_bytes(b"two")  # as rsync -t, cp -p and touch -r leave it
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert remembered(weights) == hashlib.sha256(b"two").hexdigest()
    weights.write_bytes(b"one")
    assert remembered(weights) == first
    os.utime(weights)
    assert remembered(weights) == first  # touched


def test_a_remembered_digest_follows_a_file_that_took_the_others_place(weights):
    remembered(weights)
    other = weights.with_name("other.bin")
    other.write_bytes(b"two")
    before = weights.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(weights)
    assert remembered(weights) == hashlib.sha256(b"two").hexdigest()


def test_a_digest_is_taken_once_for_a_files_state(weights, monkeypatch):
    digest = remembered(weights)
    monkeypatch.setattr(fingerprints, "file_digest", lambda path: pytest.fail("it was read again"))
    assert remembered(weights) == digest


def test_a_file_with_a_time_to_come_is_read_once_too(weights, monkeypatch):
    monkeypatch.setattr(file_facts, "YOUNG", 0)
    os.utime(weights, (2e9, 4e9))  # a camera's clock that is wrong
    digest = remembered(weights)
    monkeypatch.setattr(fingerprints, "file_digest", lambda path: pytest.fail("it was read again"))
    assert remembered(weights) == digest


def test_folder_digest_changes_with_a_file_inside(tmp_path):
    folder = tmp_path / "mobilesam"
    (folder / "part").mkdir(parents=True)
    (folder / "part" / "decoder").write_bytes(b"a")
    before = remembered(folder)
    decoder = hashlib.sha256(b"a").hexdigest()
    assert before == digest_of([["part/decoder", decoder]]) == content_digest(folder)
    (folder / "part" / "decoder").write_bytes(b"b")
    assert remembered(folder) != before


def test_a_missing_file_has_no_content(tmp_path):
    with pytest.raises(UsageError, match=r"nothing\.bin"):
        content_digest(tmp_path / "nothing.bin")


def test_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"nothing\.bin"):
        file_digest(tmp_path / "nothing.bin")


def test_image_set_digest_depends_on_sizes_not_on_order(tmp_path):
    for name, size in (("a.jpg", 3), ("b.jpg", 4)):
        (tmp_path / name).write_bytes(b"x" * size)
    digest = image_set_digest(tmp_path, ["a.jpg", "b.jpg"])
    assert digest == image_set_digest(tmp_path, ["b.jpg", "a.jpg"])
    (tmp_path / "b.jpg").write_bytes(b"x" * 5)
    assert digest != image_set_digest(tmp_path, ["a.jpg", "b.jpg"])


def test_random_numbers_belong_to_their_key():
    assert seed_of(0, "refine", 1) != seed_of(0, "refine", 2)
    assert seed_of(0, "refine", 1) != seed_of(1, "refine", 1)
    np.testing.assert_array_equal(rng(3, "a", 1).random(4), rng(3, "a", 1).random(4))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", '{"a": 1}', '{"PATH": []}', '{"PATH": [7, 7, "0"]}', "[" * 5000, "\udcff"],
)
def test_damaged_and_earlier_memories_of_digests_are_left_out(tmp_path, text):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    text = text.replace("PATH", str(path))
    (tmp_path / "digests.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert remembered(path) == hashlib.sha256(b"content").hexdigest()


def test_a_changed_byte_among_remembered_digests_is_noticed(weights):
    """It changed the fingerprints of all that reads the file, for as long as that stood still."""
    right, stored = remembered(weights), weights.with_name("digests.json")
    text = stored.read_text()
    assert right in text
    for at in range(len(text)):
        stored.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])
        assert remembered(weights) == right
