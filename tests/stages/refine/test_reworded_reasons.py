"""What the student learns hangs on the codes of decisions, and not on their sentences."""

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.refinement.reasons import GATE, SENTENCES, Reason
from s4m_pipeline.stages.refine.stage import Refine
from s4m_pipeline.training_data.refined_labels import label_batches

IGNORE_SCORE = 0.02
SETTINGS = (
    "pseudo_label.score=0.1",
    "refine.min_score=0.02",
    "refine.gate=drop",
    "refine.min_agreement=0.7",
    "refine.duplicate_iou=0.5",
    "student.structure_weight=0",
)


def refined(workshop, s4m):
    """The columns that tell of decisions, and what a student learns of the artifact."""
    code, _, err = s4m("refine", "-c", workshop.config, *SETTINGS, "--force")
    assert code == 0, err
    run = workshop.run(*SETTINGS)
    folder, categories = run.folder(Refine()), run.images.labelled.categories
    table = read_table(folder, "refined", ["decision", "reason_code", "reason"])
    learned = [batch.to_pydict() for batch in label_batches(folder, categories, IGNORE_SCORE)]
    return table, learned


def test_reworded_sentences_change_no_label(finished, tmp_path, s4m, monkeypatch):
    copy = finished.copy(tmp_path / "run")
    before, learned = refined(copy, s4m)
    codes = set(before["reason_code"].to_pylist())
    assert {Reason.SCORE.value, Reason.DUPLICATE.value} < codes
    assert codes & {reason.value for reason in GATE}
    assert any(1 in ignored for batch in learned for ignored in batch["ignored"])
    for reason, sentence in SENTENCES.items():
        monkeypatch.setitem(SENTENCES, reason, f"now in other words, {sentence}")
    after, learned_after = refined(copy, s4m)
    texts = [text for text in after["reason"].to_pylist() if text]
    assert texts
    assert all(text.startswith("now in other words, ") for text in texts)
    assert after.drop(["reason"]).equals(before.drop(["reason"]))
    assert learned_after == learned
