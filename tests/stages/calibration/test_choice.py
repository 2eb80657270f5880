"""What a calibration's measurements come to: the policy, and the classes and sizes without it."""

import numpy as np
import pytest

from s4m_pipeline.review.calibration_tables import part_table
from s4m_pipeline.stages.calibration.calibrate import Calibrate
from s4m_pipeline.stages.calibration.choice import choice_of
from s4m_pipeline.stages.calibration.gains import Measurements
from s4m_pipeline.stages.calibration.policies import calibration_policies
from s4m_pipeline.stages.refine.settings import policies_by_class, policy_of_settings

AREAS = {"small": 500, "medium": 5000, "large": 20000}


@pytest.fixture(scope="module")
def config(empty_workshop):
    return empty_workshop.run().config


def measured(config, groups):
    """The same measurements for every policy; each group is a class, a size, a count and a gain."""
    rows = [(key, AREAS[size], gain) for key, size, count, gain in groups for _ in range(count)]
    names, count = list(calibration_policies(config)), len(rows)
    key, area, gain = (np.tile(column, len(names)) for column in zip(*rows, strict=True))
    return Measurements(
        image_id=np.tile(np.arange(count), len(names)),
        category_id=key.astype(np.int64),
        area=area.astype(np.int64),
        policy=np.repeat(np.array(names, object), count),
        before=np.full(len(key), 0.5),
        after=0.5 + gain,
    )


def refined(config, groups, categories):
    """The classes and sizes that are refined, and the choice."""
    choice = choice_of(measured(config, groups), categories, config)
    policies = policies_by_class(choice, categories)
    assert set(policies.values()) <= {None, policy_of_settings(choice["policy"])}
    assert len(policies) == 3 * len(categories)
    return {key for key, policy in policies.items() if policy is not None}, choice


def all_sizes(*categories):
    return {(key, size) for key in categories for size in AREAS}


def test_a_class_that_gains_is_refined_though_the_others_lose_more(config):
    on, _ = refined(config, [(1, "medium", 20, 0.15), (2, "medium", 20, -0.2)], [1, 2])
    assert on == all_sizes(1)


def test_a_class_of_few_instances_follows_all_classes_together(config):
    groups = [(1, "medium", 20, 0.15), (2, "medium", 20, -0.2), (3, "medium", 9, 0.1)]
    assert refined(config, groups, [1, 2, 3, 4])[0] == all_sizes(1)
    groups = [(1, "medium", 20, 0.3), (2, "medium", 20, -0.2), (3, "medium", 9, -0.1)]
    assert refined(config, groups, [1, 2, 3, 4])[0] == all_sizes(1, 3, 4)


def test_nothing_is_refined_where_every_class_loses_or_nothing_changes(config):
    assert refined(config, [(1, "small", 20, -0.1), (2, "small", 5, 0.1)], [1, 2])[0] == set()
    assert refined(config, [(1, "small", 20, 0.0)], [1, 2])[0] == set()


def test_a_size_is_judged_by_the_classes_that_are_refined(config):
    groups = [(1, "small", 20, 0.2), (1, "large", 20, -0.1), (2, "small", 30, -0.3)]
    on, choice = refined(config, groups, [1, 2])
    assert on == {(1, "small"), (1, "medium")}
    assert choice["gains"][choice["best"]]["size"]["small"]["after"] < 0.5  # over both classes
    assert choice["sizes"]["small"]["instances"] == 20
    assert choice["sizes"]["small"]["after"] == pytest.approx(0.7)


def test_the_table_shows_what_decided(config):
    groups = [(1, "small", 20, 0.2), (1, "large", 20, -0.1), (2, "small", 30, -0.3)]
    _, choice = refined(config, groups, [1, 2])
    rows = part_table(choice, {1: "cat", 2: "dog"}).rows
    shown = {row[0]: (row[1], row[4], row[-1]) for row in rows}
    assert shown == {
        "small": (20, "+0.200", "on"),
        "medium": (0, None, "on"),
        "large": (20, "-0.100", "off"),
        "cat": (40, "+0.050", "on"),
        "dog": (30, "-0.300", "off"),
    }


def test_a_handful_of_instances_chooses_no_policy(config):
    few = choice_of(measured(config, [(1, "small", 9, -0.1)]), [1], config)
    assert (few["best"], few["chosen"]) == ("points, fuse", False)
    assert policy_of_settings(few["policy"]) == calibration_policies(config)["points, fuse"]
    assert few["off"] == {"classes": [], "sizes": []}
    enough = measured(config, [(1, "small", 10, 0.1)])
    enough.after[enough.policy == "box, single"] += 0.1
    choice = choice_of(enough, [1], config)
    assert (choice["best"], choice["chosen"]) == ("box, single", True)


@pytest.mark.parametrize("count", [9, 20])
def test_one_fingerprint_has_one_choice_whatever_policy_is_configured(empty_workshop, count):
    runs = [
        empty_workshop.run(f"refine.policy={policy}")
        for policy in ("points", "box+points", "none", "auto")
    ]
    assert len({run.fingerprint(Calibrate()) for run in runs}) == 1
    measurements = measured(runs[0].config, [(1, "small", count, 0.1)])
    first, *others = (choice_of(measurements, [1], run.config) for run in runs)
    assert others == [first] * 3
