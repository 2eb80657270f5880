"""A network that is no query model, trained and run through the same code."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s4m_pipeline.configs import model_config_path
from s4m_pipeline.configs.losses import StudentLosses
from s4m_pipeline.data.images import read_image
from s4m_pipeline.errors import UsageError
from s4m_pipeline.models.predictor import Predictor
from s4m_pipeline.models.training import TrainingSpec, train

SMALL = """
_base_ = ["{base}"]
model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNet",
        depth=18,
        base_channels=8,
        stem_channels=8,
        norm_cfg=dict(type="GN", num_groups=4),
        norm_eval=False,
    ),
    neck=dict(in_channels=[8, 16, 32, 64]),
    test_cfg=dict(rcnn=dict(score_thr=0.0)),
)
train_pipeline = [dict(type="Resize", scale=(64, 64), keep_ratio=True)]
test_scale = (64, 64)
"""


@pytest.fixture
def mask_rcnn(tmp_path: Path) -> Path:
    path = tmp_path / "mask_rcnn.py"
    path.write_text(SMALL.format(base=model_config_path("mask_rcnn_lite0")))
    return path


@pytest.mark.parametrize(
    ("module", "fault"),
    [
        ("rpn_head.rpn_conv", r"runs 5 times on a batch"),
        ("roi_head.mask_head.convs.0", r"puts out \d+ maps for 2 images"),
    ],
)
def test_a_module_that_makes_not_one_map_of_each_image_is_refused(
    spec: TrainingSpec, structured: dict[str, Any], mask_rcnn: Path, module: str, fault: str
) -> None:
    config = mask_rcnn.read_text() + f'feature_module = "{module}"\n'
    mask_rcnn.write_text(config)
    losses = StudentLosses(structure_weight=1.0)
    with pytest.raises(UsageError, match=fault):
        train(replace(spec, model=mask_rcnn, iterations=1, labelled=structured, losses=losses))


def test_mask_rcnn_trains_and_predicts(
    spec: TrainingSpec, structured: dict[str, Any], mask_rcnn: Path
) -> None:
    seen: dict[str, float] = {}
    result = train(
        replace(
            spec,
            model=mask_rcnn,
            iterations=1,
            labelled=structured,
            unlabelled={**structured, "branch": "unlabelled"},
            labelled_batch=1,
            unlabelled_batch=1,
            losses=StudentLosses(structure_weight=1.0),
            on_step=lambda _, losses: seen.update(losses),
        )
    )
    assert seen["loss_mask"] > 0
    assert seen["loss_structure"] > 0
    assert seen["unlabelled_loss_rpn_cls"] > 0
    predictor = Predictor(result.checkpoint, "cpu")
    folder = Path(spec.labelled["images"])
    image = read_image(next(folder.rglob("*.jpg")))
    predictions = predictor.predict([image])[0]
    scores = predictions.class_probs.max(axis=1)
    middle = float(np.median(scores))
    likely = predictor.predict([image], middle)[0]
    assert 0 < (scores >= middle).sum() < len(scores)
    assert np.array_equal(likely.class_probs, predictions.class_probs[scores >= middle])
    assert np.array_equal(likely.mask_logits, predictions.mask_logits[scores >= middle])
    detected = predictor.detect([image])[0]
    assert len(predictions.class_probs) == len(detected.labels) > 0
    rows = np.arange(len(detected.labels))
    assert np.allclose(predictions.class_probs[rows, detected.labels], detected.scores)
    assert np.allclose(predictions.class_probs.sum(1), detected.scores)
    assert predictions.mask_logits.shape == (len(rows), 16, 16)
    assert predictions.stride == 4
