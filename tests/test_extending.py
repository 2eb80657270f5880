"""The recipes of docs/extending.md work: their code is laid into a copy of the package and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from s4m_pipeline.artifacts.training_files import CHECKPOINT
from s4m_pipeline.data.formats import coco
from s4m_pipeline.engine.registry import stage_named
from tests.made_once import MadeOnce
from tests.workshop import Workshop

ROOT = Path(__file__).resolve().parents[1]
GOALS = {
    "A prompt policy": 1,
    "A segmenter": 2,
    "A stage": 4,  # three, and the definitions of tables for one of its own
    "A format": 2,
    "An engine": 2,
    "A loss": 3,
    "A column of refined": 2,
}
"""Files of the package that each recipe may touch."""

COLOUR = ("segmenter.name=colour", "segmenter.image_size=256")
SHORT = ("teacher.iterations=1", "teacher.weights=trained.pth")
FARTHER = {
    "A segmenter": [
        [stage, "-c", "run.yaml", *COLOUR, *SHORT]
        for stage in ("train-teacher", "pseudo-label", "refine")
    ]
}
"""Commands beside a recipe's own; the teacher starts from weights that are trained already."""

DRIVER = ROOT / "tests" / "recipe_driver.py"


@dataclass(frozen=True)
class Extended:
    """A small run, after all recipes' commands by a package that has their code.

    Attributes:
        run: The run's folder.
        told: Exit code, standard output and standard error of each command, by recipe.
    """

    run: Path
    told: dict[str, list[tuple[int, str, str]]]

    def outputs(self, recipe: str) -> list[str]:
        """What a recipe's commands print, all of which succeed."""
        for code, _, err in self.told[recipe]:
            assert code == 0, err
        return [out for _, out, _ in self.told[recipe]]

    def folder(self, recipe: str, command: int = 0) -> Path:
        """The artifact that a recipe's command prints."""
        return Path(self.outputs(recipe)[command].split()[-1])


@pytest.fixture(scope="session")
def house_recipes() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools")
        import house_recipes

        return house_recipes


@pytest.fixture(scope="session")
def recipes(house_recipes: Any) -> dict[str, Any]:
    return house_recipes.read_recipes()


@pytest.fixture
def with_code(tmp_path: Path) -> Callable[[Any], list[Path]]:
    """Lay a recipe into a copy of the package; gives the files that are new or changed."""

    def lay(recipe: Any) -> list[Path]:
        copy_package(tmp_path)
        for edit in recipe.edits:
            edit.apply(tmp_path)
        files = sorted(path for path in tmp_path.rglob("*.py"))
        return [path for path in files if differs(path, ROOT / path.relative_to(tmp_path))]

    return lay


def copy_package(root: Path) -> None:
    left_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "s4m_pipeline", root / "s4m_pipeline", ignore=left_out)
    shutil.copy(ROOT / "pyproject.toml", root)


def differs(path: Path, other: Path) -> bool:
    return not other.is_file() or path.read_bytes() != other.read_bytes()


def write_samples(root: Path) -> None:
    """Two samples with a picture a mask: one nucleus of 3 x 4 pixels, and two of 2 x 2."""
    corners = {"a": [(2, 3, 4, 3)], "b": [(0, 0, 2, 2), (8, 8, 2, 2)]}
    for number, (name, boxes) in enumerate(corners.items()):
        for part in ("images", "masks"):
            (root / name / part).mkdir(parents=True)
        generator = np.random.default_rng(number)
        pixels = generator.integers(0, 255, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(root / name / "images" / f"{name}.png")
        for place, (x, y, w, h) in enumerate(boxes):
            mask = np.zeros((12, 16), np.uint8)
            mask[y : y + h, x : x + w] = 255
            Image.fromarray(mask).save(root / name / "masks" / f"{place}.png")


@pytest.fixture(scope="session")
def extended(made_once: MadeOnce, finished: Workshop, recipes: dict[str, Any]) -> Extended:
    """The small run, and a package with all recipes' code that has done all their commands."""

    def make(folder: Path) -> None:
        copy_package(folder)
        for recipe in recipes.values():
            for edit in recipe.edits:
                edit.apply(folder)
        run = finished.copy(folder / "run")
        # labels that are not there yet, so that what is new in their table is in them
        text = run.config.read_text().replace("min_agreement: 0.05", "min_agreement: 0.06")
        run.config.write_text(text)
        write_samples(run.folder / "stage1_train")
        teacher = finished.run().folder(stage_named("train-teacher"))
        shutil.copy(teacher / CHECKPOINT, run.folder / "trained.pth")
        commands: dict[str, list[list[str]]] = {"before": [["refine", "-c", "run.yaml"]]}
        for name, recipe in recipes.items():
            commands[name] = [*map(list, recipe.commands), *FARTHER.get(name, [])]
        (folder / "commands.json").write_text(json.dumps(commands))
        shutil.copy(DRIVER, folder)  # where it does not see the tests
        done = subprocess.run(
            [sys.executable, folder / DRIVER.name, folder],
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    folder = made_once("extended", make)
    told = json.loads((folder / "told.json").read_text())
    # made in a folder that was then renamed
    unfinished = str(Path(told.pop("package")).parents[1])
    assert Path(unfinished).name.startswith("unfinished-")
    text = json.dumps(told).replace(unfinished, str(folder))
    return Extended(folder / "run", json.loads(text))


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    """All rows of an artifact's table; by Arrow, as the tests' package lacks the new columns."""
    paths = sorted((folder / table).glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def inputs_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())["inputs"]


@pytest.mark.parametrize("name", GOALS)
def test_a_recipe_touches_no_more_files_than_it_says(
    name: str, recipes: dict[str, Any], with_code: Callable[[Any], list[Path]]
) -> None:
    recipe = recipes[name]
    touched = with_code(recipe)
    assert len(touched) == len(recipe.files) <= GOALS[name]
    assert all(str(path).endswith(tuple(recipe.files)) for path in touched)
    for checks in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        told = subprocess.run(
            [sys.executable, "-m", "ruff", *checks, *touched],
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 0, told.stdout + told.stderr


def test_the_pages_table_has_the_recipes_counts(recipes: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| \[(.+)\]\(#.+\) \| (\d)", text, re.MULTILINE)
    counts = {name.replace("`", ""): int(count) for name, count in told}
    goals = {name[0].lower() + name[1:]: count for name, count in GOALS.items()}
    assert counts == goals | {"a stage": 3}
    assert list(recipes) == list(GOALS)


def test_a_policy_prompts_and_is_calibrated(extended: Extended) -> None:
    folder = extended.folder("A prompt policy")
    settings = json.loads((folder / "manifest.json").read_text())["config"]
    assert settings["refine"]["policy"] == "mask"
    assert "refined" in {row["decision"] for row in rows(folder, "refined")}
    assert "calibrate" in extended.outputs("A prompt policy")[1]


def test_a_segmenter_makes_structure_and_masks(extended: Extended) -> None:
    structure, refine = (extended.folder("A segmenter", n) for n in (0, -1))
    assert len(rows(structure, "structure")) == 5
    similar = [np.frombuffer(row["similarity"], np.uint8) for row in rows(structure, "structure")]
    assert all(values.min() < values.max() for values in similar)
    assert "refined" in {row["decision"] for row in rows(refine, "refined")}
    digests = {inputs_of(folder)["segmenter"] for folder in (structure, refine)}
    assert len(digests) == 1
    assert digests != {inputs_of(extended.folder("An engine"))["segmenter"]}


def test_a_stage_writes_its_table_and_stands_in_status_and_help(extended: Extended) -> None:
    _, status, told = extended.outputs("A stage")
    sharpness = rows(extended.folder("A stage"), "sharpness")
    assert [row["image_id"] for row in sharpness] == list(range(1, 19))
    assert all(row["sharpness"] > 0 for row in sharpness)
    (line,) = [line for line in status.splitlines() if "sharpness" in line.split()]
    assert "fresh" in line.split()
    assert "Measure how sharp the unlabelled images are." in told


def test_a_format_is_read_and_written_as_coco(extended: Extended) -> None:
    written, checked = extended.outputs("A format")
    assert written.splitlines() == ["2 images, 3 instances", "nuclei.json"]
    assert "no fault found" in checked
    nuclei = coco.load(extended.run / "nuclei.json", extended.run / "stage1_train")
    boxes = [label.bbox for labels in nuclei.instances.values() for label in labels]
    assert boxes == [(2, 3, 4, 3), (0, 0, 2, 2), (8, 8, 2, 2)]
    assert [image.file_name for image in nuclei.images] == ["a/images/a.png", "b/images/b.png"]


def test_an_engine_leaves_the_bytes_of_the_other(extended: Extended, finished: Workshop) -> None:
    folder = extended.folder("An engine")
    (made,) = sorted((folder / "structure").glob("*.parquet"))
    (other,) = (finished.folder / "work" / "structure" / folder.name / "structure").iterdir()
    assert made.read_bytes() == other.read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"]["images"] == 5


def test_a_loss_is_logged_and_in_the_fingerprint(extended: Extended) -> None:
    folder = extended.folder("A loss")
    steps = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [step["loss_sparsity"] for step in steps if "loss_sparsity" in step]
    assert losses
    assert min(losses) > 0
    settings = json.loads((folder / "manifest.json").read_text())["config"]
    assert settings["student"]["sparsity_weight"] == 1e-6


def test_a_column_is_filled_in_refined_and_segmented(extended: Extended) -> None:
    folder = extended.folder("A column of refined")
    for table in ("refined", "segmented"):
        made = rows(folder, table)
        assert made
        for row in made:
            _, _, width, height = row["bbox"]
            share = row["area"] / (width * height) if width * height else 0
            assert row["box_fill"] == pytest.approx(share)


def test_a_recipe_that_no_longer_fits_is_told(house_recipes: Any, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one = 1\nsame\nsame\n")
    edit = house_recipes.Edit
    edit("a.py", "two = 2\n", house_recipes.BELOW, "one = 1").apply(tmp_path)
    edit("a.py", "zero = 0\n", house_recipes.ABOVE, "one = 1").apply(tmp_path)
    edit("a.py", "three = 3\n", house_recipes.INSTEAD, "two = 2").apply(tmp_path)
    assert (tmp_path / "a.py").read_text().split("\n")[:3] == ["zero = 0", "one = 1", "three = 3"]
    for wrong in (
        edit("a.py", "", house_recipes.BELOW, "four = 4"),
        edit("a.py", "", house_recipes.BELOW, "same"),
        edit("a.py", ""),
    ):
        with pytest.raises(ValueError, match=r"a\.py"):
            wrong.apply(tmp_path)
