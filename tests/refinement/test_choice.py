"""Choice of candidate and its mask, against plain whole-image formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4m_pipeline.errors import UsageError
from s4m_pipeline.refinement import choice as choice_module
from s4m_pipeline.refinement.choice import choose, segmenter_mask, wants_multimask
from s4m_pipeline.segmenter.base import Candidates, Frame
from tests.segmenter.fakes import (
    blob_logits,
    decode_mask,
    padded_frame,
    square_frame,
    whole_logits,
)

SHAPES = [(90, 160), (151, 97), (40, 40), (300, 500)]
FRAMES = [make(*shape) for make in (square_frame, padded_frame) for shape in SHAPES]


def _candidates() -> Candidates:
    discs = [blob_logits((32, 32), (16, 16), r) for r in (4, 8, 12)]
    logits = torch.from_numpy(np.stack([discs, discs]))
    return Candidates((logits,), torch.tensor([[0.2, 0.9, 0.5], [0.7, 0.1, 0.7]]))


def test_choices() -> None:
    candidates = _candidates()
    teacher = torch.from_numpy(
        np.stack([blob_logits((32, 32), (16, 16), r) for r in (11, 5)])
    ).unsqueeze(1)
    assert choose(candidates, "argmax-iou", teacher).tolist() == [1, 0]
    assert choose(candidates, "closest", teacher).tolist() == [2, 0]
    single = Candidates((candidates.logits[:, :1],), candidates.ious[:, :1])
    assert choose(single, "single", teacher).tolist() == [0, 0]
    assert choose(single, "fuse", teacher).tolist() == [0, 0]


def test_closest_is_the_highest_iou_with_the_teacher() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(5, 3, 16, 16)).astype(np.float32))
    teacher = torch.from_numpy(rng.normal(size=(5, 1, 16, 16)).astype(np.float32))
    found = choose(Candidates((logits,), torch.zeros(5, 3)), "closest", teacher)
    for i in range(5):
        theirs = teacher[i, 0].numpy() > 0
        ious = [(own & theirs).sum() / (own | theirs).sum() for own in logits[i].numpy() > 0]
        assert found[i] == int(np.argmax(ious))


def test_the_teachers_logits_go_to_the_device_without_a_wait(monkeypatch) -> None:
    candidates = _candidates()
    teacher = candidates.logits[:, 2:]
    sent: list[tuple[torch.Tensor, torch.device]] = []

    def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        sent.append((tensor, device))
        return candidates.logits[:, 1:2]

    monkeypatch.setattr(choice_module, "to_device", to_device)
    assert choose(candidates, "closest", teacher).tolist() == [1, 1]
    assert len(sent) == 1
    assert sent[0][0] is teacher
    assert sent[0][1] == candidates.logits.device


def test_closest_without_logits_is_refused() -> None:
    with pytest.raises(ValueError, match="closest needs the teacher's logits"):
        choose(_candidates(), "closest")


def test_which_choices_want_three_candidates() -> None:
    assert [wants_multimask(c) for c in ("argmax-iou", "closest", "single", "fuse")] == [
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(UsageError, match=r"unknown refine\.candidate 'best'"):
        wants_multimask("best")


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("kind", ["disc", "corner", "noise", "nothing", "everything"])
def test_mask_equals_that_of_the_whole_image(frame: Frame, kind: str) -> None:
    logits = {
        "disc": blob_logits((32, 32), (11, 15), 5.3),
        "corner": blob_logits((32, 32), (0, 0), 4.2),
        "noise": np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32),
        "nothing": np.full((32, 32), -1, np.float32),
        "everything": np.full((32, 32), 1, np.float32),
    }[kind]
    whole = whole_logits(logits, frame, 128)
    found = decode_mask(segmenter_mask(logits, frame, 128), frame.height, frame.width)
    differs = found != (whole > 0)
    assert np.abs(whole[differs]).max(initial=0) < 1e-5
    assert differs.mean() < 1e-3
    if kind == "everything":
        assert found.all()
