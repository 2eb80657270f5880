import hashlib
import json
import os

import numpy as np
import pytest

from s4m_pipeline.artifacts.fingerprint import (
    FORMAT_VERSION,
    DigestCache,
    canonical_json,
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


def test_digest_cache_follows_the_file(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"one")
    cache = DigestCache(tmp_path / "digests.json")
    assert cache.file(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"other")
    assert DigestCache(tmp_path / "digests.json").file(path) == hashlib.sha256(b"other").hexdigest()


def test_digest_cache_is_used_where_size_and_time_stand(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"one")
    DigestCache(tmp_path / "digests.json").file(path)
    known = json.loads((tmp_path / "digests.json").read_text())
    known[str(path.resolve())][2] = "from the cache"
    (tmp_path / "digests.json").write_text(json.dumps(known))
    assert DigestCache(tmp_path / "digests.json").file(path) == "from the cache"


def test_digest_cache_notices_a_change_of_the_same_size_whose_time_is_put_back(tmp_path):
    path, cache = tmp_path / "labelled.json", tmp_path / "digests.json"
    path.write_bytes(b"one")
    first, before = DigestCache(cache).file(path), os.stat(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as rsync and cp -p do
    assert DigestCache(cache).file(path) == hashlib.sha256(b"two").hexdigest()
    path.write_bytes(b"one")
    assert DigestCache(cache).file(path) == first
    os.utime(path)
    assert DigestCache(cache).file(path) == first  # touched


def test_folder_digest_changes_with_a_file_inside(tmp_path):
    folder = tmp_path / "mobilesam"
    folder.mkdir()
    (folder / "decoder").write_bytes(b"a")
    cache = DigestCache(tmp_path / "digests.json")
    before = cache.file(folder)
    (folder / "decoder").write_bytes(b"bb")
    assert cache.file(folder) != before


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


@pytest.mark.parametrize("text", ["", "[]", "7", '{"a": 1}', '{"PATH": []}', "[" * 5000, "\udcff"])
def test_a_damaged_cache_of_digests_is_left_out(tmp_path, text):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    text = text.replace("PATH", str(path))
    (tmp_path / "digests.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    cache = DigestCache(tmp_path / "digests.json")
    assert cache.file(path) == hashlib.sha256(b"content").hexdigest()
