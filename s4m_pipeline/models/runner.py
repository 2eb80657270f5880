"""Builds MMEngine's Runner for a training."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from s4m_pipeline.errors import ArtifactError, S4MError, UsageError, is_out_of_memory
from s4m_pipeline.execution.processes import end_with_parent, leave_ctrl_c_to_parent
from s4m_pipeline.models import own_measure as own_measure  # registers its metric
from s4m_pipeline.models import pipelines
from s4m_pipeline.models.hooks import JsonLinesHook
from s4m_pipeline.models.loops import LazyDataLoader
from s4m_pipeline.models.precision import optimizer_wrapper, resolved_precision
from s4m_pipeline.models.safe_load import RESUME
from s4m_pipeline.models.schedules import schedulers
from s4m_pipeline.models.training_spec import TrainingSpec, newest_checkpoint
from s4m_pipeline.training_data.mixed_dataset import MixedDataset
from s4m_pipeline.training_data.packed_masks import collate
from s4m_pipeline.training_data.repeats import repeat_factors
from s4m_pipeline.training_data.samplers import MixedSampler, PositionSampler
from s4m_pipeline.training_data.worker_tensors import send_small_tensors_by_value

Settings = dict[str, Any]
LABELS = "labels.arrow"
"""The cache of pseudo-labels in the runner's work folder."""


class ResumingRunner(Runner):
    """MMEngine's runner; a checkpoint that does not fit the training is told as such."""

    def resume(self, filename: str, *arguments: Any, **options: Any) -> None:
        """Go on from a checkpoint.

        Raises:
            ArtifactError: It is not one of this training.
        """
        try:
            super().resume(filename, *arguments, **options)
        except S4MError:
            raise
        except Exception as error:  # whatever torch and MMEngine say of what does not fit
            if is_out_of_memory(error):
                raise
            said = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise ArtifactError(
                f"{filename.removeprefix(RESUME)} is no checkpoint of this training: {said}.\n"
                "Remove it to go on from the one before, or begin anew with --force."
            ) from error


def build_runner(
    spec: TrainingSpec, config: Config, folder: Path, hooks: Sequence[Any] = ()
) -> Runner:
    """Build the runner of a training, which resumes from the newest whole checkpoint in ``folder``.

    Args:
        spec: The training.
        config: Its model config, fitted to the categories.
        folder: The runner's work folder.
        hooks: Further hooks.

    Raises:
        UsageError: The data cannot be used.
    """
    init_default_scope("mmdet")
    newest = newest_checkpoint(folder, spec.end)
    runner = ResumingRunner(
        model=_model(spec, config),
        work_dir=str(folder),
        train_dataloader=_train_loader(spec, config, folder),
        optim_wrapper=_optimizer(spec, config),
        param_scheduler=schedulers(config, spec.iterations),
        train_cfg=dict(
            type="PositionedTrainLoop",
            max_iters=spec.iterations,
            until=spec.until,
            val_interval=spec.validation_interval,
            seed=spec.seed,
        ),
        **_validation(spec, config),
        default_hooks=_default_hooks(spec),
        custom_hooks=[*_custom_hooks(spec), *hooks],
        load_from=None if newest is None else f"{RESUME}{newest}",
        resume=newest is not None,
        log_level="ERROR",
        log_processor=dict(type="LogProcessor", by_epoch=False),
        randomness=dict(seed=spec.seed),
        experiment_name=f"s4m-{uuid.uuid4().hex[:8]}",
        default_scope="mmdet",
    )
    _log_to_stderr(runner.logger)
    return runner


def _optimizer(spec: TrainingSpec, config: Config) -> Settings:
    """The config's optimizer wrapper, in the training's precision and with its learning rate."""
    precision = resolved_precision(spec.precision, spec.device)
    settings = optimizer_wrapper(config.optim_wrapper.to_dict(), precision)
    if spec.learning_rate is not None:
        settings["optimizer"]["lr"] = spec.learning_rate
    return settings


def _model(spec: TrainingSpec, config: Config) -> Settings:
    """The config of the training wrapper around the network."""
    start = spec.init_checkpoint or config.get("start")
    return dict(
        type="TrainingWrapper",
        network=config.model,
        losses=spec.losses,
        feature_module=config.get("feature_module", "panoptic_head.pixel_decoder"),
        start=None if start is None else str(start),
    )


def _train_loader(spec: TrainingSpec, config: Config, folder: Path) -> DataLoader:
    """Batches of labelled images, or of labelled and pseudo-labelled ones."""
    labelled = _dataset(spec, spec.labelled, pipelines.train_pipeline(config, strong=False))
    if spec.unlabelled is None:
        sampler: Any = PositionSampler(labelled, seed=spec.seed, batch_size=spec.batch_size)
        dataset: Any = labelled
    else:
        if min(spec.labelled_batch, spec.unlabelled_batch) < 1:
            raise UsageError("labelled_batch and unlabelled_batch must be at least 1")
        dataset = MixedDataset(labelled, _unlabelled(spec, config, folder))
        sampler = MixedSampler(
            dataset,
            batch_size=spec.batch_size,
            unlabelled=spec.unlabelled_batch,
            seed=spec.seed,
            factors=_factors(labelled, spec.repeat_threshold),
        )
    return LazyDataLoader(
        dataset,
        batch_size=spec.batch_size,
        sampler=sampler,
        num_workers=spec.workers,
        collate_fn=collate,
        worker_init_fn=_begin_worker,
        persistent_workers=spec.workers > 0,
        pin_memory=_pins(spec),
    )


def _factors(labelled: Any, threshold: float) -> np.ndarray | None:
    """How often each labelled image comes in a pass; None where all come once."""
    if not threshold:
        return None
    return repeat_factors([labelled.get_cat_ids(i) for i in range(len(labelled))], threshold)


def _pins(spec: TrainingSpec) -> bool:
    """Whether the loader pins the workers' batches, in a thread, for their copy to a GPU.

    Without workers there would be no such thread, only one more copy.
    """
    kind = spec.device.partition(":")[0]
    on_gpu = kind == "cuda" or (kind == "auto" and torch.cuda.is_available())
    return on_gpu and spec.workers > 0


def _unlabelled(spec: TrainingSpec, config: Config, folder: Path) -> Any:
    """Build the dataset of pseudo-labelled images."""
    paste = None
    if spec.paste != "off":
        if spec.unlabelled_batch < 2:
            raise UsageError(
                "paste needs two unlabelled images in each batch that trade instances; raise "
                "unlabelled_batch, or set paste to off"
            )
        paste = [
            dict(
                type="PasteInstances",
                mode=spec.paste,
                min_area=spec.paste_min_area,
                canvas=pipelines.crop_pixels(config),
            )
        ]
    settings = dict(spec.unlabelled or {})
    if settings.get("type") == "RefinedInstances":
        settings |= {"losses": spec.losses, "cache": str(folder / LABELS)}
    return _dataset(spec, settings, pipelines.train_pipeline(config, strong=True, paste=paste))


def _dataset(spec: TrainingSpec, settings: Settings, pipeline: pipelines.Pipeline) -> Any:
    """Build a dataset over the training's categories."""
    filled = {"categories": spec.categories, "seed": spec.seed, **settings, "pipeline": pipeline}
    return DATASETS.build(filled)


def _validation(spec: TrainingSpec, config: Config) -> Settings:
    """The runner's settings for validation; none without validation images."""
    if spec.validation is None:
        return {}
    settings = {**spec.validation, "test_mode": True}
    settings.pop("structure", None)
    loader = DataLoader(
        _dataset(spec, settings, pipelines.test_pipeline(config)),
        batch_size=1,
        num_workers=spec.workers,
        collate_fn=pseudo_collate,
        worker_init_fn=_begin_worker,
    )
    return dict(
        val_dataloader=loader,
        val_cfg=dict(type="ValLoop"),
        val_evaluator=_measures(spec, settings),
    )


def _measures(spec: TrainingSpec, validation: Settings) -> list[Settings]:
    """What a validation measures: COCO's figures, and the one that weights are chosen by."""
    measures: list[Settings] = [dict(type="QuietCocoMetric", metric=["bbox", "segm"])]
    if spec.keep == "best":
        own = {"categories": spec.categories, **validation}
        measures.append(dict(type="OwnMeasure", validation=own))
    return measures


def _default_hooks(spec: TrainingSpec) -> Settings:
    """MMEngine's hooks: time, schedule and checkpoints; the log is ours."""
    return dict(
        logger=None,
        checkpoint=dict(
            type="DigestedCheckpointHook",
            by_epoch=False,
            interval=spec.checkpoint_interval,
            max_keep_ckpts=2,  # MMEngine removes the oldest before it has written the newest
        ),
    )


def _custom_hooks(spec: TrainingSpec) -> list[Any]:
    hooks: list[Any] = [JsonLinesHook(spec.log_file, spec.on_step)]
    if spec.ema:
        hooks.append(dict(type="EMAHook", ema_type="WarmUpAverage", decay=spec.ema))
    return hooks


def _begin_worker(worker: int) -> None:
    """Keep a data worker to one thread; its random numbers come with each item.

    PyTorch's own worker may wait for ever to hand a batch to a parent that was killed, and keeps
    its memory and the lock of the artifact.
    """
    leave_ctrl_c_to_parent()
    end_with_parent()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    send_small_tensors_by_value()


def _log_to_stderr(logger: logging.Logger) -> None:
    """Send MMEngine's messages to standard error."""
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(
            handler, logging.FileHandler
        ):
            handler.setStream(sys.stderr)
