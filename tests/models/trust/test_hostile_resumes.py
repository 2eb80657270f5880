"""A stopped training in a work folder of somebody else: going on does what a training does."""

from __future__ import annotations

import builtins
import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s4m_pipeline.artifacts.digest_beside import write_digest
from s4m_pipeline.errors import ArtifactError
from s4m_pipeline.models.training import WORK_FOLDER, TrainingSpec, resume_iteration, train
from tests.models.stopping import Stopped, stop_after, weights

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def stopped(spec: TrainingSpec) -> TrainingSpec:
    """A training of six iterations, stopped after the fifth, with checkpoints of 3 and 4."""
    spec = replace(spec, iterations=6, checkpoint_interval=1, ema=0.9)
    with pytest.raises(Stopped):
        train(replace(spec, on_step=stop_after(5)))
    return spec


def edited(spec: TrainingSpec, edit: Edit, name: str = "iter_4.pth") -> None:
    """Change the newest checkpoint as one who can write there, digest and all."""
    newest = spec.folder / WORK_FOLDER / "iter_4.pth"
    content = torch.load(newest, weights_only=False)
    edit(content)
    torch.save(content, newest.with_name(name))
    write_digest(newest.with_name(name))


def test_no_file_is_deleted_by_a_name_in_a_checkpoint(
    stopped: TrainingSpec, tmp_path: Path
) -> None:
    """MMEngine removes ``iter_{}.pth`` of each id that is too many, and a folder with all in it."""
    work = stopped.folder / WORK_FOLDER
    victim, folder = tmp_path / "victim.pth", tmp_path / "folder.pth"
    victim.write_text("mine")
    (folder / "inner").mkdir(parents=True)
    (work / "iter_").mkdir()
    away = f"/{'../' * 3}"
    names = [f"{away}victim", f"{away}folder", 3, 4]
    assert (work / f"iter_{names[0]}.pth").exists()
    edited(stopped, lambda content: content["message_hub"]["runtime_info"].update(
        keep_ckpt_ids=names
    ))  # fmt: skip
    with pytest.raises(ArtifactError, match=r"iter_4\.pth is damaged[\s\S]*keep_ckpt_ids"):
        train(stopped)
    assert victim.read_text() == "mine"
    assert (folder / "inner").is_dir()


def far_ahead(content: dict[str, Any]) -> None:
    content["meta"]["iter"] = 10**12  # MMEngine would pass over as many batches


def over_a_method(content: dict[str, Any]) -> None:
    content["param_schedulers"][0]["step"] = 7


def over_the_optimizer(content: dict[str, Any]) -> None:
    content["param_schedulers"][0]["optimizer"] = 7


def no_messages(content: dict[str, Any]) -> None:
    del content["message_hub"]


def another_optimizer(content: dict[str, Any]) -> None:
    content["optimizer"]["param_groups"] = content["optimizer"]["param_groups"][:1]


def no_tensors(content: dict[str, Any]) -> None:
    content["ema_state_dict"] = {"a": "b"}


def other_averages(content: dict[str, Any]) -> None:
    content["ema_state_dict"] = 7


def an_epoch_of_words(content: dict[str, Any]) -> None:
    content["meta"]["epoch"] = "first"


@pytest.mark.parametrize(
    "edit",
    [
        far_ahead,
        over_a_method,
        over_the_optimizer,
        no_messages,
        another_optimizer,
        no_tensors,
        other_averages,
        an_epoch_of_words,
    ],
)
def test_what_a_training_does_not_write_is_refused_by_name(
    edit: Edit, stopped: TrainingSpec
) -> None:
    edited(stopped, edit)
    with pytest.raises(ArtifactError, match=r"iter_4\.pth is (damaged|no checkpoint)") as caught:
        train(stopped)
    assert len(str(caught.value).splitlines()) <= 3


def test_what_a_checkpoint_says_beside_changes_nothing(
    stopped: TrainingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shutil import copytree

    other = replace(stopped, folder=tmp_path / "other", log_file=tmp_path / "other.jsonl")
    copytree(stopped.folder, other.folder)
    straight = weights(train(stopped).checkpoint)
    opened: list[str] = []
    whole = builtins.open

    def noting(file: Any, *arguments: Any, **options: Any) -> Any:
        opened.append(str(file))
        return whole(file, *arguments, **options)

    def edit(content: dict[str, Any]) -> None:
        bait = str(tmp_path / "bait.py")
        content["meta"] |= {"seed": 99, "config": "import antigravity", "hook_msgs": {"a": 1}}
        content["message_hub"]["runtime_info"] |= {"last_ckpt": bait, "best_ckpt": bait}
        content["message_hub"]["log_scalars"]["x"] = copy.deepcopy([1])
        content |= {"custom_hooks": [{"type": "a.b"}], "env_cfg": {}, "visualizer": {"type": bait}}
        content |= {"_scope_": "antigravity", "load_from": "http://127.0.0.1:9/a.pth"}

    edited(other, edit)
    monkeypatch.setattr(builtins, "open", noting)
    assert all(
        torch.equal(value, straight[name])
        for name, value in weights(train(other).checkpoint).items()
    )
    assert not any("bait" in name for name in opened)


@pytest.mark.parametrize("name", ["iter_x.pth", f"iter_{'9' * 5000}.pth"[:200], "iter_99.pth"])
def test_what_is_not_of_this_training_is_passed_over(name: str, stopped: TrainingSpec) -> None:
    edited(stopped, lambda content: None, name)
    steps: list[int] = []
    train(replace(stopped, on_step=lambda iteration, _: steps.append(iteration)))
    assert steps == [5, 6]


def test_the_plan_counts_only_iterations_that_a_name_can_have(stopped: TrainingSpec) -> None:
    (stopped.folder / WORK_FOLDER / "iter_x.pth").write_bytes(b"PK")
    assert resume_iteration(stopped.folder) == 4
