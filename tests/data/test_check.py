"""The check finds each planted fault, and nothing in a sound file."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from s4m_pipeline.data.check import FAULTS, Fault, check_coco
from s4m_pipeline.errors import UsageError
from tests.data.conftest import boxes_of, coco_content, write_json


def _sound_content() -> dict:
    content = coco_content()
    content["images"].pop(3)  # the image without annotations
    areas = [w * h for number in range(6) for _, (_, _, w, h) in boxes_of(number)]
    for entry, area in zip(content["annotations"], areas, strict=True):
        entry["area"] = area
    return content


def test_a_sound_file(small_set: tuple[Path, Path]) -> None:
    write_json(small_set[0], _sound_content())
    assert check_coco(*small_set) == []


def test_every_planted_fault_is_counted(small_set: tuple[Path, Path]) -> None:
    content = _sound_content()
    annotations, images = content["annotations"], content["images"]
    images.append({"id": 70, "file_name": "gone.png", "height": 5, "width": 5})
    images.append({"id": 0, "file_name": "picture 0.png", "height": 40, "width": 60})
    images.append({"id": 80})
    images.append({"id": 90, "file_name": "text.png", "height": 5, "width": 5})
    (small_set[1] / "text.png").write_text("no image")
    Image.new("RGB", (9, 9)).save(small_set[1] / "picture 1.png")
    annotations[0]["area"] = 1
    annotations[2]["segmentation"] = [[1, 2, 3, 4]]
    annotations.append({**annotations[5], "id": 5})
    annotations.append({**annotations[5], "id": 100, "category_id": 42})
    annotations.append({**annotations[5], "id": 101, "image_id": 42})
    annotations.append(
        {**annotations[5], "id": 102, "segmentation": [[5.0, 5.0, 5.1, 5.0, 5.1, 5.1]]}
    )
    annotations.append("text")
    content["categories"] = [*content["categories"], {"id": 9, "name": "unused"}]
    write_json(small_set[0], content)
    found = {fault.kind: fault for fault in check_coco(*small_set)}
    assert {kind: fault.count for kind, fault in found.items()} == {
        **dict.fromkeys(FAULTS, 1),
        "image-without-annotations": 2,
    }
    assert found["size-mismatch"].examples == ("image 10 (picture 1.png): 48 x 48, the file 9 x 9",)
    assert "annotation 2 of image 0" in found["bad-segmentation"].examples[0]
    assert found["missing-image"].text == "images whose file is missing: 1\n  image 70 (gone.png)"


def test_text_tells_how_many_more_there_are() -> None:
    examples = tuple(f"image {n}" for n in range(5))
    lines = Fault("duplicate-image-id", 1205, examples).text.splitlines()
    assert lines[0] == "image ids there more than once: 1,205"
    assert lines[1:-1] == [f"  {example}" for example in examples]
    assert lines[-1] == "  and 1,200 more"
    assert Fault("empty-mask", 5, examples).text.endswith("image 4")


def test_real_faults(shared_dir: Path) -> None:
    folder = shared_dir / "data/animals7/train"
    found = {f.kind: f.count for f in check_coco(folder / "_annotations.coco.json", folder)}
    assert set(found) == {"wrong-area"}
    assert found["wrong-area"] > 1000


def test_not_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UsageError, match="not a JSON"):
        check_coco(tmp_path / "a.json", tmp_path)
