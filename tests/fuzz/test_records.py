"""What the work folder remembers is as it was written, or is found anew, or refused."""

from __future__ import annotations

import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s4m_pipeline.artifacts import file_facts
from s4m_pipeline.artifacts.collecting import leftovers
from s4m_pipeline.artifacts.file_facts import FileFacts
from s4m_pipeline.artifacts.fingerprint import FORMAT_VERSION, content_digest
from s4m_pipeline.artifacts.manifest import read_manifest
from s4m_pipeline.artifacts.markers import marker_at
from s4m_pipeline.artifacts.sealed import SEAL, write_sealed
from s4m_pipeline.artifacts.shards import shards_done
from s4m_pipeline.artifacts.store import Store
from s4m_pipeline.models.hooks import read_log as read_steps
from s4m_pipeline.review.curves import read_log, training_figures
from s4m_pipeline.review.page import is_page
from s4m_pipeline.stages.comparison.decision import DECISION, read_decision
from tests.fuzz.answers import answer, feed, fuzzed
from tests.fuzz.inputs import changed_json, damaged_bytes, values


def json_bytes(value) -> bytes:
    return json.dumps(value).encode()


MANIFEST = {
    "stage": "refine",
    "fingerprint": "0123456789abcdef",
    "config": {"score": 0.7},
    "inputs": {"predictions": "fedcba9876543210"},
    "input_contents": {},
    "files": [{"path": "refined/00000.parquet", "bytes": 7, "sha256": "00" * 32, "rows": 3}],
    "counts": {"images": 3, "instances": 9},
    "metrics": {"seconds": {"refine": 0.5}},
    "environment": {"python": "3.11"},
    "created": "2026-01-01T00:00:00+00:00",
    "format_version": FORMAT_VERSION,
}


@fuzzed
@given(
    st.one_of(
        changed_json(MANIFEST).map(json_bytes), damaged_bytes(json_bytes(MANIFEST)), st.binary()
    )
)
def test_manifests(folder, data):
    artifact = folder / "work" / "refine" / "0123456789abcdef"
    artifact.mkdir(parents=True, exist_ok=True)
    feed(artifact / "manifest.json", data)
    manifest = answer(lambda: read_manifest(artifact))
    if manifest is not None:
        assert isinstance(manifest.stage, str)
        assert isinstance(manifest.counts, dict)
        assert all(isinstance(entry.path, str) and entry.bytes >= 0 for entry in manifest.files)
        assert len(manifest.content) == 64
    store = Store(folder / "work")
    answer(lambda: store.requested("refine", "0123456789abcdef"))
    answer(lambda: store.artifacts())
    answer(lambda: leftovers(store, ["refine"]))


MARKER = {
    "images": "ab" * 32,
    "files": [{"path": "refined/00000.parquet", "bytes": 7, "sha256": "00" * 32, "rows": 3}],
    "counts": {"images": 3},
    "seconds": {"refine": 0.5},
    "warnings": ["one"],
}


@fuzzed
@given(st.data())
def test_markers_of_shards(folder, data):
    artifact = folder / "work" / "structure" / "0123456789abcdef"
    path = artifact / "shards" / "00000.json"
    write_sealed(path, MARKER)
    good = path.read_bytes()
    changed = changed_json(MARKER).map(json_bytes)  # without a digest, as earlier versions wrote
    written = data.draw(damaged_bytes(good) | changed)
    feed(path, written)
    feed(artifact / "shards" / "all.json", written)

    def marker():
        try:
            return marker_at(path)
        except ValueError:
            return None

    found = answer(marker)
    assert found is None or all(isinstance(one, str) for one in found.warnings)
    if found is not None and SEAL in json.loads(written):
        assert json.loads(written) == json.loads(good)
    answer(lambda: shards_done(artifact))


@pytest.fixture
def _young(monkeypatch):
    monkeypatch.setattr(file_facts, "YOUNG", -(10**18))  # what was just written counts as old


@fuzzed
@given(st.data())
@pytest.mark.usefixtures("_young")
def test_what_is_remembered_of_files(folder, data):
    """Whatever the bytes of ``.digests.json`` and ``.pictures.json`` are, the facts are right."""
    one, digests, facts = folder / "one.bin", folder / ".digests.json", folder / ".pictures.json"
    one.write_bytes(b"content")
    right = hashlib.sha256(b"content").hexdigest()
    for path in (digests, facts):
        path.unlink(missing_ok=True)
    content_digest(one, FileFacts(digests))
    FileFacts(facts).of("text", folder, ["one.bin"], lambda path: path.read_text())
    changes = st.one_of(damaged_bytes(digests.read_bytes()), values.map(json_bytes))
    feed(digests, data.draw(changes))
    assert answer(lambda: content_digest(one, FileFacts(digests))) == right
    feed(facts, data.draw(damaged_bytes(facts.read_bytes())))
    found = answer(
        lambda: FileFacts(facts).of("text", folder, ["one.bin"], lambda path: path.read_text())
    )
    assert found == ["content"]


STEPS = [
    {"iteration": 10, "loss": 2.5, "lr": 1e-4, "losses": {"loss_mask": 1.0, "d0.loss_cls": 0.5}},
    {"iteration": 20, "validation": {"coco/segm_mAP": 0.25}},
    {"iteration": 30, "loss": float("nan")},
]
LOG = b"\n".join(map(json_bytes, STEPS))


@fuzzed
@given(
    damaged_bytes(LOG)
    | changed_json(STEPS).map(lambda steps: b"\n".join(map(json_bytes, steps)))
    | st.binary()
)
def test_logs_of_trainings(folder, data):
    path = folder / "log.jsonl"
    feed(path, data)
    log = answer(lambda: read_log(path))
    answer(lambda: training_figures(log))
    for step in answer(lambda: read_steps(path)):
        assert isinstance(step["iteration"], int)
    assert answer(lambda: is_page(path)) in (True, False)


TAKEN = {"labels": 2, "count": 30, "quality": 0.75}


@fuzzed
@given(damaged_bytes(json_bytes(TAKEN)) | changed_json(TAKEN).map(json_bytes))
def test_decisions_about_labels(folder, data):
    feed(folder / DECISION, data)
    taken = answer(lambda: read_decision(folder))
    if taken is not None:
        assert taken.labels >= 0
        assert taken.quality is None or math.isfinite(taken.quality)
