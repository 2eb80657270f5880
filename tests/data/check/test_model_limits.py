"""More objects than queries, and objects of a few cells, are told before a training."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_api

from s4m_pipeline.configs import model_names
from s4m_pipeline.configs.limits import limits_of
from s4m_pipeline.data.check.model_limits import misfits
from s4m_pipeline.data.formats import coco
from s4m_pipeline.errors import UsageError


@pytest.fixture
def crowded(tmp_path):
    """Photographs of 640 px with squares of 20 px: 130 in the first one, three in the second."""

    def write(counts=(130, 3), side=20, size=640):
        folder = tmp_path / "photos"
        folder.mkdir(exist_ok=True)
        content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
        for number, count in enumerate(counts, 1):
            Image.fromarray(np.zeros((size, size, 3), np.uint8)).save(folder / f"{number}.png")
            image = {"id": number, "file_name": f"{number}.png", "height": size, "width": size}
            content["images"].append(image)
            for n in range(count):
                x, y = (n % 20) * (side + 2), (n // 20) * (side + 2)
                box = [x, y, side, side]
                corners = [x, y, x + side, y, x + side, y + side, x, y + side]
                rle = mask_api.merge(mask_api.frPyObjects([corners], size, size))
                assert int(mask_api.area(rle)) == side * side
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]) + 1,
                        "image_id": number,
                        "category_id": 1,
                        "segmentation": [corners],
                        "bbox": box,
                        "area": side * side,
                        "iscrowd": 0,
                    }
                )
        path = tmp_path / "labels.json"
        path.write_text(json.dumps(content))
        return path, folder

    return write


@pytest.mark.parametrize("name", model_names())
def test_limits_are_those_of_the_config_that_runs(name):
    """MMEngine reads the same, where a model is a Mask2Former."""
    from mmengine.config import Config

    from s4m_pipeline.configs import model_config_path

    config, limits = Config.fromfile(model_config_path(name)), limits_of(name)
    if "panoptic_head" not in config.model:
        assert (limits.queries, limits.stride, limits.scale) == (None, None, None)
        return
    assert limits.queries == config.model.panoptic_head.num_queries
    assert limits.stride == config.model.panoptic_head.strides[0]
    scales = [step["scale"] for step in config.train_pipeline if "scale" in step]
    assert limits.scale == tuple(scales[-1] if scales else config.test_scale)


def test_a_config_of_ones_own_counts_before_its_base(tmp_path):
    from s4m_pipeline.configs import model_config_path

    model = tmp_path / "mine.py"
    base = model_config_path("mask2former_lite0")
    model.write_text(
        f"_base_ = ['{base}']\nqueries = 50 * 3\n"
        "model = dict(panoptic_head=dict(num_queries=queries))\n"
        "train_pipeline = [dict(type='Resize', scale=(640, 480))]\n"
    )
    limits = limits_of(model)
    assert (limits.queries, limits.stride, limits.scale) == (150, 4, (640, 480))
    model.write_text(f"_base_ = ['{base}']\nmodel = dict(panoptic_head=dict(num_queries=f()))\n")
    assert limits_of(model).queries is None


def test_photographs_of_small_objects_and_the_small_template(crowded):
    """640 px to 320 px with a stride of 4: cells of 8 px, and 20 px are two and a half of them."""
    many, small = misfits(coco.load(*crowded()), "mask2former_lite0")
    assert "up to 130 instances in an image, the model finds at most 30 (num_queries)" in many.what
    assert "1 of 2 images" in many.what
    assert "num_queries=130" in many.advice
    assert "133 of 133 instances are smaller than 3 x 3 cells" in small.what
    assert "8 px" in small.what
    assert "320 x 320" in small.what
    assert len(many.message.splitlines()) == 2


def test_a_training_is_warned_of_small_objects_only_where_most_are_small(crowded, s4m):
    path, folder = crowded(counts=(2,))
    content = json.loads(path.read_text())
    large = {"segmentation": [[100, 100, 400, 100, 400, 400, 100, 400]], "area": 90000}
    for n in range(2):
        content["annotations"].append({**content["annotations"][0], **large, "id": 10 + n})
    path.write_text(json.dumps(content))
    assert misfits(coco.load(path, folder), "mask2former_lite0") == []
    given = ["data", "check", "--annotations", path, "--images", folder]
    assert "2 of 4 instances" in s4m(*given, "--model", "mask2former_lite0")[1]
    content["annotations"].pop()
    path.write_text(json.dumps(content))
    (small,) = misfits(coco.load(path, folder), "mask2former_lite0")
    assert "2 of 3 instances are smaller" in small.what


def test_crowds_are_not_counted_and_what_fits_is_not_told(crowded):
    path, folder = crowded(counts=(31,), side=30)
    assert [m.kind for m in misfits(coco.load(path, folder), "mask2former_lite0")] == [
        "more-than-queries"
    ]
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    assert misfits(coco.load(path, folder), "mask2former_lite0") == []
    assert misfits(coco.load(*crowded()), "mask_rcnn_lite0") == []


def test_the_advice_is_a_config_that_finds_them(crowded, tmp_path):
    images = coco.load(*crowded())
    (many,) = [m for m in misfits(images, "mask2former_lite0") if m.kind == "more-than-queries"]
    text = many.advice.partition("config with ")[2].partition(", or cut")[0]
    own = tmp_path / "own.py"
    own.write_text(text.replace(", start", "\nstart").replace(" and model =", "\nmodel ="))
    assert [m.kind for m in misfits(images, own)] == ["small-instances"]
    from s4m_pipeline.models.model_config import read_model_config

    config = read_model_config(own, 5)
    assert config.model.panoptic_head.num_queries == config.model.test_cfg.max_per_image == 130


def test_data_check_names_both(crowded, s4m):
    path, folder = crowded()
    given = ["data", "check", "--annotations", path, "--images", folder]
    code, out, _ = s4m(*given, "--model", "mask2former_lite0", "--strict")
    assert code == 0  # notes, no faults
    assert "the model finds at most 30 (num_queries)" in out
    assert "3 x 3 cells" in out
    assert "\n  and " not in out  # the lines are figures and advice, no examples
    assert "num_queries" not in s4m(*given)[1]
    code, _, err = s4m(*given, "--model", "mask2former_lite")
    assert code == 2
    assert "mask2former_lite0" in err


def test_data_check_of_a_set_with_faults_still_ends(crowded, s4m):
    path, folder = crowded()
    content = json.loads(path.read_text())
    content["annotations"][0]["category_id"] = 99
    path.write_text(json.dumps(content))
    given = ["data", "check", "--annotations", path, "--images", folder]
    code, out, err = s4m(*given, "--model", "mask2former_lite0")
    assert code == 0
    assert "category that is not in the file" in out
    assert "waits until the faults are mended" in err


@pytest.mark.parametrize("command", [["train-teacher", "--dry-run"], ["run", "--dry-run"]])
def test_a_plan_warns(crowded, tmp_path, s4m, command):
    path, folder = crowded(counts=(40, 1), side=20)
    run = tmp_path / "run.yaml"
    run.write_text(
        f"work_dir: work\ndata: {{labelled: {{images: {folder}, annotations: {path}}}, "
        f"unlabelled: {{images: {folder}, include_labelled: true}}}}\n"
        "segmenter: {name: demo, image_size: 64}\n"
        "teacher: {model: mask2former_demo}\nstudent: {model: mask2former_demo}\n"
    )
    code, _, err = s4m(*command, "-c", run)
    assert code == 0, err
    assert err.count("up to 40 instances in an image, the model finds at most 20") == 1


def test_an_unknown_model_is_refused():
    with pytest.raises(UsageError, match="neither a file nor"):
        limits_of("no-such-model")
