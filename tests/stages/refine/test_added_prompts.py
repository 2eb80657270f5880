"""Prompts that a test adds to the table are configured, listed and refined with: one edit."""

import pytest

from s4m_pipeline.artifacts.tables import read_table
from s4m_pipeline.config_file import load_config
from s4m_pipeline.config_prompts import PROMPTS, PromptParts
from s4m_pipeline.errors import UsageError
from s4m_pipeline.refinement import ask
from s4m_pipeline.stages.calibration.policies import calibration_policies
from s4m_pipeline.stages.refine.stage import Refine


@pytest.fixture
def added(monkeypatch):
    """The soft mask as the only prompt, which is none of the package's own rows."""
    monkeypatch.setitem(PROMPTS, "mask", PromptParts(mask=True))
    return "mask"


def test_refine_prompts_with_what_the_row_says(added, finished, tmp_path, s4m, monkeypatch):
    built = []
    real = ask.build_prompts

    def build_prompts(instances, *args):
        built.append(real(instances, *args))
        return built[-1]

    monkeypatch.setattr(ask, "build_prompts", build_prompts)
    copy = finished.copy(tmp_path / "run")
    setting = f"refine.policy={added}"
    code, _, err = s4m("refine", "-c", copy.config, setting)
    assert code == 0, err
    assert any(len(prompts) for prompts in built)
    for prompts in built:
        assert (prompts.points.shape[1], prompts.boxes) == (0, None)
        assert prompts.masks.shape[:2] == (len(prompts), 1)
    decisions = read_table(copy.run(setting).folder(Refine()), "refined")["decision"].to_pylist()
    assert "refined" in decisions


def test_a_row_is_compared_with_its_own_candidates_and_can_be_fused(added, finished):
    policies = calibration_policies(finished.run().config)
    own = [policy for policy in policies.values() if policy.prompts == added]
    whole = [policy.candidate for policy in own if policy.view == "image"]
    assert whole == ["single", "fuse"]  # without points no candidate is the closest
    closer = [policy.view for policy in own if policy.view != "image"]
    assert closer == ["tiles", "windows", "auto"]
    config = finished.run(f"refine.fuse_policies=[{added}]").config
    assert calibration_policies(config)["points with mask, fuse"].all_prompts == ("points", "mask")


def test_a_row_is_listed_where_a_name_is_unknown(added, finished):
    with pytest.raises(UsageError, match="'box\\+points', 'mask', 'none' or 'auto', found 'dots'"):
        load_config(finished.config, ["refine.policy=dots"])


def test_without_the_row_its_name_is_refused_with_those_that_there_are(finished, s4m):
    for setting, others in (
        ("policy=mask", ", 'box+points', 'none' or 'auto'"),
        ("fuse_policies=[mask]", " or 'box+points'"),
    ):
        code, _, err = s4m("refine", "-c", finished.config, f"refine.{setting}")
        assert code == 2
        assert f"expected 'points', 'box', 'box+mask'{others}, found" in err
