"""Closer views: which are taken, and that masks drawn in them come back where they belong."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from s4m_pipeline.errors import UsageError
from s4m_pipeline.refinement.ask import ask, refine_images
from s4m_pipeline.refinement.choice import segmenter_mask
from s4m_pipeline.refinement.fusion import fused_mask
from s4m_pipeline.refinement.instances import TeacherInstance
from s4m_pipeline.refinement.negatives import negative_points
from s4m_pipeline.refinement.policies import RefinePolicy
from s4m_pipeline.refinement.prompts import build_prompts, teacher_frame_logits
from s4m_pipeline.refinement.resampling import Window
from s4m_pipeline.refinement.view_plan import encode_views, plan_batch, whole
from s4m_pipeline.refinement.views import View, plan_views
from s4m_pipeline.segmenter.base import Segmenter
from s4m_pipeline.segmenter.build import build_segmenter
from tests.segmenter.fakes import (
    PromptedSegmenter,
    blob_logits,
    decode_mask,
    padded_frame,
    soft_probabilities,
    square_frame,
    teacher_instance,
    whole_logits,
)

WINDOWS = RefinePolicy("points", 3, "fuse", 0.0, view="windows", view_cells=8)
CLOSER = [replace(WINDOWS, view=view) for view in ("tiles", "windows", "auto")]


def _crowd(
    count: int, height: int, width: int, seed: int, largest: float = 5
) -> list[TeacherInstance]:
    """Discs of random places and sizes; radii in cells of 4 px."""
    draw = np.random.default_rng(seed)
    return [
        teacher_instance(
            height,
            width,
            (draw.uniform(0, height / 4), draw.uniform(0, width / 4)),
            draw.uniform(1.2, largest),
            number,
        )
        for number in range(count)
    ]


def _everyone(instances: list[TeacherInstance]) -> range:
    return range(len(instances))


def _plan(instances: list[TeacherInstance], policy: RefinePolicy, size: tuple[int, int]):
    return plan_views(PromptedSegmenter(), instances, _everyone(instances), policy, *size)


@pytest.mark.parametrize("policy", CLOSER, ids=lambda policy: policy.view)
@pytest.mark.parametrize("seed", range(6))
def test_each_instance_is_in_one_view_that_holds_it_with_its_context(
    policy: RefinePolicy, seed: int
) -> None:
    height, width = [(400, 600), (900, 300), (256, 256)][seed % 3]
    policy = replace(policy, view_passes=[1, 2, 3, 6, 12, 40][seed])
    instances = _crowd(30, height, width, seed, largest=12)
    views = _plan(instances, policy, (height, width))
    assert sorted(n for view in views for n in view.members) == list(_everyone(instances))
    assert len(views) <= policy.view_passes
    whole_image = Window(0, 0, width, height)
    for place, view in enumerate(views):
        window = view.window
        assert (place > 0) <= (window != whole_image)  # the whole image only comes first
        assert 0 <= window.x <= window.x + window.width <= width
        assert 0 <= window.y <= window.y + window.height <= height
        for n in view.members:
            x, y, w, h = instances[n].bbox
            more = (policy.view_context - 1) / 2 * max(w, h)
            assert window.x <= max(0, x - more)
            assert window.y <= max(0, y - more)
            assert window.x + window.width >= min(width, x + w + more)
            assert window.y + window.height >= min(height, y + h + more)


def test_more_passes_give_smaller_views() -> None:
    instances = _crowd(40, 600, 900, 3, largest=3)
    sides = []
    for most in (1, 3, 6, 40):
        views = _plan(instances, replace(WINDOWS, view_passes=most), (600, 900))
        sides.append(np.mean([max(v.window.width, v.window.height) for v in views]))
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == 900
    assert sides[-1] < 200


def test_neighbours_share_a_window_and_the_far_have_their_own() -> None:
    places = [(20, 20), (24, 22), (20, 25), (100, 130)]
    instances = [teacher_instance(500, 600, place, 2, n) for n, place in enumerate(places)]
    views = _plan(instances, WINDOWS, (500, 600))
    assert [view.members for view in views] == [(0, 1, 2), (3,)]


def test_a_window_gives_an_instance_the_cells_that_are_asked_for() -> None:
    (instance,) = _crowd(1, 800, 800, 5, largest=5)
    for cells in (4, 8, 12):
        (view,) = _plan([instance], replace(WINDOWS, view_cells=cells), (800, 800))
        side = math.sqrt(instance.area) * 32 / max(view.window.width, view.window.height)
        assert side >= cells - 0.2 or view.window.width == 64  # not magnified more than twice


def test_auto_takes_the_image_where_an_instance_has_cells_enough() -> None:
    large, small = (teacher_instance(600, 600, (80, 80), radius, 0) for radius in (30, 3))
    policy = replace(WINDOWS, view="auto")
    assert [v.window for v in _plan([large], policy, (600, 600))] == [Window(0, 0, 600, 600)]
    both = _plan([large, small], policy, (600, 600))
    assert [view.members for view in both] == [(0,), (1,)]
    assert both[0].window == Window(0, 0, 600, 600)
    assert both[1].window.width < 300


@pytest.mark.parametrize("policy", CLOSER, ids=lambda policy: policy.view)
def test_an_image_hardly_larger_than_the_input_is_seen_whole(policy: RefinePolicy) -> None:
    instances = _crowd(5, 90, 95, 0, largest=2)
    assert _plan(instances, policy, (90, 95)) == [View(Window(0, 0, 95, 90), (0, 1, 2, 3, 4))]


@pytest.mark.parametrize("policy", CLOSER, ids=lambda policy: policy.view)
def test_unlikely_predictions_move_nobodys_view(policy: RefinePolicy) -> None:
    instances = _crowd(12, 500, 700, 1, largest=3)
    alone = _plan(instances, policy, (500, 700))
    more = [replace(one, is_neighbour=False) for one in _crowd(30, 500, 700, 2, largest=3)]
    views = _plan([*instances, *more], policy, (500, 700))
    of_member = {n: view.window for view in views for n in view.members}
    assert all(of_member[n] == view.window for view in alone for n in view.members)


def test_an_unlikely_large_prediction_takes_no_pass_from_the_likely() -> None:
    """Drawn on the whole image by ``auto``; its pass once made the windows of all others wider."""
    policy = replace(WINDOWS, view="auto", view_passes=3)
    instances = _crowd(40, 600, 900, 4, largest=2)
    alone = _plan(instances, policy, (600, 900))
    large = replace(teacher_instance(600, 900, (80, 90), 60, 40), is_neighbour=False)
    views = _plan([*instances, large], policy, (600, 900))
    assert views[0] == View(Window(0, 0, 900, 600), (40,))
    assert [view.window for view in views[1:]] == [view.window for view in alone]
    assert all(view.window.width < 900 for view in alone)


@pytest.mark.parametrize("seed", range(8))
def test_windows_are_about_as_close_as_a_grid_of_as_many(seed: int) -> None:
    """Six squares in two rows cover 1 200 x 800 px, each overlapping the next by an instance.

    The grid's side is reckoned from the largest box with its context, 2 * largest * 1.5 px.
    """
    policy = replace(WINDOWS, view_cells=40)
    instances = _crowd(400, 800, 1200, seed, largest=2.5)
    views = _plan(instances, policy, (800, 1200))
    assert len(views) <= 6
    context = max(max(one.bbox[2:]) for one in instances) * policy.view_context
    grid = max((1200 + 2 * context) / 3, (800 + context) / 2)
    assert max(max(v.window.width, v.window.height) for v in views) <= 1.06 * grid


def test_windows_are_no_larger_than_their_instances_need() -> None:
    """One pair of distant neighbours needs a wide window, the others do not."""
    places = [(20, 20), (20, 110), (140, 20), (140, 22), (140, 140)]
    instances = [teacher_instance(600, 600, place, 2, n) for n, place in enumerate(places)]
    views = _plan(instances, replace(WINDOWS, view_passes=3), (600, 600))
    widths = sorted(max(view.window.width, view.window.height) for view in views)
    assert len(widths) == 3
    assert widths[0] <= 64
    assert widths[-1] < 600


def test_nobody_needs_no_view() -> None:
    assert plan_views(PromptedSegmenter(), [], [], WINDOWS, 500, 500) == []


def test_an_unknown_view_is_refused() -> None:
    with pytest.raises(UsageError, match=r"refine\.view 'close'.*image, tiles, windows, auto"):
        RefinePolicy("points", 3, "fuse", 0.0, view="close")


@pytest.mark.parametrize("make", [square_frame, padded_frame])
def test_a_mask_of_a_view_is_that_of_the_cut_image_put_in_its_place(make) -> None:
    logits = blob_logits((32, 32), (9, 12), 6.5, slope=0.3)
    alone = make(90, 150)
    frame = alone.placed(33, 17, 200, 260)
    expected = np.zeros((200, 260), bool)
    expected[17 : 17 + 90, 33 : 33 + 150] = decode_mask(segmenter_mask(logits, alone, 128), 90, 150)
    assert expected.any()
    assert np.array_equal(decode_mask(segmenter_mask(logits, frame, 128), 200, 260), expected)


@pytest.mark.parametrize("make", [square_frame, padded_frame])
@pytest.mark.parametrize("weight", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("space", ["probabilities", "logits"])
def test_fusion_in_a_view_equals_the_formula_at_every_pixel(make, weight: float, space) -> None:
    height, width, x, y = 220, 300, 61, 35
    alone = make(110, 140)
    instance = teacher_instance(height, width, (22, 30), 9)
    maps = blob_logits((32, 32), (15, 13), 6, slope=0.3)[None]
    rle = fused_mask(maps, instance, alone.placed(x, y, height, width), 128, weight, 0.5, space)
    part = (slice(y, y + 110), slice(x, x + 140))
    theirs = soft_probabilities(instance, height, width)[part]
    ours = whole_logits(maps[0], alone, 128).astype(np.float64)
    if space == "logits":
        theirs = np.clip(theirs, 0.5 / 255, 1 - 0.5 / 255)
        value = weight * np.log(theirs / (1 - theirs)) + (1 - weight) * ours
    else:
        value = weight * theirs + (1 - weight) * expit(ours) - 0.5
    found = decode_mask(rle, height, width)
    sure = np.abs(value) > 1e-4
    assert np.array_equal(found[part][sure], (value > 0)[sure])
    assert found[part].sum() == found.sum() > 0


@pytest.mark.parametrize("make", [square_frame, padded_frame])
def test_a_mask_prompt_shows_the_part_of_the_soft_mask_in_the_view(make) -> None:
    instance = teacher_instance(200, 240, (20, 25), 8)
    frame = make(64, 96).placed(60, 44, 200, 240)
    found = teacher_frame_logits([instance], frame, 128, 32)[0, 0].numpy()
    soft = soft_probabilities(instance, 200, 240)
    rate_y, rate_x = frame.valid_height / 64 / 4, frame.valid_width / 96 / 4  # cells a pixel
    for row, column in [(3, 5), (10, 20), (12, 12), (15, 30)]:
        x, y = (column + 0.5) / rate_x + 60, (row + 0.5) / rate_y + 44
        near = soft[int(y - 0.5) : int(y - 0.5) + 2, int(x - 0.5) : int(x - 0.5) + 2]
        assert near.min() - 0.01 <= expit(found[row, column]) <= near.max() + 0.01


def test_negative_points_stay_in_the_view() -> None:
    instances = _crowd(8, 200, 200, 0, largest=4)
    view = Window(40, 30, 80, 90)
    points, labels = negative_points(instances, 6, 200, 200, view)
    anywhere, of_all = negative_points(instances, 6, 200, 200)
    taken = points[labels == 0]
    assert len(taken)
    assert ((taken >= (40, 30)) & (taken < (120, 120))).all()
    inside = ((anywhere >= (40, 30)) & (anywhere < (120, 120))).all(2) & (of_all == 0)
    for row in range(8):  # those that are inside anyway come first, in the same order
        wanted = anywhere[row][inside[row]]
        assert np.array_equal(points[row][labels[row] == 0][: len(wanted)], wanted)


def test_points_that_a_view_does_not_show_are_no_prompts() -> None:
    """Points are drawn from the whole image: some of a small object's lie far from it."""
    near = teacher_instance(400, 600, (20, 25), 3, 0)
    stray = replace(near, points=np.array([[590, 390], [101, 82], [3, 399]], np.float32))
    nowhere = replace(near, points=np.full((3, 2), 399, np.float32))
    view = Window(60, 40, 100, 90)
    prompts = build_prompts([near, stray, nowhere], "points", 3, view=view)
    assert np.array_equal(prompts.points[0], near.points)
    assert prompts.labels.tolist() == [[1, 1, 1], [-1, 1, -1], [1, -1, -1]]
    assert prompts.points[1].tolist() == [[0, 0], [101, 82], [0, 0]]
    soft = soft_probabilities(near, 400, 600)
    x, y = prompts.points[2, 0]
    assert soft[int(y), int(x)] >= soft.max() - 0.05
    assert decode_mask(near.mask_rle, 400, 600)[int(y), int(x)]
    everything = build_prompts([near, stray], "points", 3, view=Window(0, 0, 600, 400))
    assert np.array_equal(everything.points, [near.points, stray.points])
    assert (everything.labels == 1).all()


@pytest.mark.parametrize("policy", CLOSER, ids=lambda policy: policy.view)
def test_all_that_the_segmenter_is_shown_lies_in_its_view(policy: RefinePolicy) -> None:
    draw = np.random.default_rng(2)
    segmenter = PromptedSegmenter()
    instances = [
        replace(one, points=draw.uniform(0, (899, 599), (3, 2)).astype(np.float32))
        for one in _crowd(30, 600, 900, 2, largest=3)
    ]
    rules = replace(policy, negative_points=2, candidate="single")
    plan = plan_batch(segmenter, [instances], [(600, 900)], rules)
    encoded = encode_views(segmenter, [np.zeros((600, 900, 3), np.uint8)], plan.places(), 4)
    shown = []
    decode = segmenter.decode
    segmenter.decode = lambda e, prompts, multi: (shown.extend(prompts), decode(e, prompts, multi))[
        1
    ]
    ask(segmenter, encoded, [instances], plan).masks()
    count = 0
    for (_, window), prompts in zip(encoded.places, shown, strict=True):
        points = prompts.points[prompts.labels >= 0]
        count += len(points)
        assert (points >= (window.x, window.y)).all()
        assert (points < (window.x + window.width, window.y + window.height)).all()
        assert (prompts.labels == 1).any(1).all()
    assert count >= 30


@pytest.fixture(scope="module")
def real() -> Segmenter:
    return build_segmenter("sam2.1_hiera_tiny", "random", 64, "cpu")


def _refined(segmenter: Segmenter, images, instances, policy: RefinePolicy, most: int = 4):
    plan = plan_batch(segmenter, instances, [image.shape[:2] for image in images], policy)
    encoded = encode_views(segmenter, images, plan.places(), most)
    return ask(segmenter, encoded, instances, plan).masks()


@pytest.mark.parametrize("policy", CLOSER, ids=lambda policy: policy.view)
@pytest.mark.parametrize("prompts", ["points", "box+mask"])
def test_masks_do_not_depend_on_the_batch(
    real: Segmenter, policy: RefinePolicy, prompts: str
) -> None:
    draw = np.random.default_rng(0)
    sizes = [(200, 260), (90, 90), (300, 150)]
    images = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    instances = [_crowd(9, *size, seed) for seed, size in enumerate(sizes)]
    rules = replace(policy, prompts=prompts, negative_points=2)
    together = _refined(real, images, instances, rules)
    alone = [
        _refined(real, [image], [some], rules, most=1)[0]
        for image, some in zip(images, instances, strict=True)
    ]
    assert together == alone
    assert {mask.decision for some in together for mask in some} >= {"refined"}


def test_one_window_equals_the_cut_image_refined_by_itself(real: Segmenter) -> None:
    """The view's instance, moved by whole cells, on the image that is the view: the same mask."""
    image = np.random.default_rng(1).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    instance = teacher_instance(240, 320, (30, 40), 5)
    plan = plan_batch(real, [[instance]], [(240, 320)], replace(WINDOWS, candidate="single"))
    ((_, window),) = plan.places()
    (mask,) = _refined(real, [image], [[instance]], replace(WINDOWS, candidate="single"))[0]
    assert max(window.width, window.height) < 200
    moved = replace(instance, points=instance.points - np.array([window.x, window.y], np.float32))
    cut = np.ascontiguousarray(image[window.cells])
    encoded = real.encode([cut])
    rules = RefinePolicy("points", 3, "single", -1.0)
    size = cut.shape[:2]
    moved.mask_rle = teacher_instance(*size, (5, 5), 2).mask_rle
    (own,) = refine_images(real, encoded, [[moved]], rules)[0]
    expected = np.zeros((240, 320), bool)
    expected[window.cells] = decode_mask(own.mask_rle, *size)
    assert expected.any()
    assert np.array_equal(decode_mask(mask.mask_rle, 240, 320), expected)


def test_what_was_encoded_whole_serves_no_closer_view(real: Segmenter) -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    instances = [_crowd(3, 240, 320, 0, largest=2)]
    with pytest.raises(ValueError, match="closer views need the images"):
        refine_images(real, real.encode([image]), instances, WINDOWS)


def test_views_are_encoded_once_whole_images_first(real: Segmenter) -> None:
    images = [np.zeros((240, 320, 3), np.uint8), np.zeros((60, 60, 3), np.uint8)]
    instances = [_crowd(6, 240, 320, 0, largest=2), _crowd(2, 60, 60, 1, largest=2)]
    plan = plan_batch(real, instances, [(240, 320), (60, 60)], WINDOWS)
    places = plan.places() | {whole(0, 240, 320)}
    encoded = encode_views(real, images, places, 2)
    assert set(encoded.places) == places
    assert len(encoded.places) == len(places) == len(encoded.embeddings.image)
    assert [image for image, _ in encoded.places] == sorted(image for image, _ in places)
    assert encoded.index(whole(0, 240, 320)) == 0
