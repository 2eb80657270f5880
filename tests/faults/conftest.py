"""The run that faults are tried on."""

from __future__ import annotations

import pytest

from s4m_pipeline.artifacts import shards
from s4m_pipeline.engine import sharded
from s4m_pipeline.engine.perform import perform
from tests.faults.subject import stage_of
from tests.workshop import Workshop, WorkshopOnce


@pytest.fixture(scope="session")
def whole(calibrated: Workshop, workshop_once: WorkshopOnce) -> Workshop:
    """The finished run with all other artifacts that stages make beside it."""
    return workshop_once("whole", calibrated, lambda own: perform(own.run(), stage_of("held-out")))


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the few images into enough shards for two workers; 16 images are one shard elsewhere."""
    for module in (shards, sharded):
        monkeypatch.setattr(module, "PORTION", 2)
