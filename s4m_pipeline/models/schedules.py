"""Learning-rate schedules in shares of the training's length, not in iterations."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config

from s4m_pipeline.errors import UsageError

WARMUP_SHARE = 0.1
"""A warm-up takes at most this share of the training."""


def schedulers(config: Config, iterations: int) -> list[dict[str, Any]]:
    """MMEngine's schedulers for a training of some length.

    Args:
        config: A model config. Its ``schedule`` has ``kind`` ("poly" with ``power``, "cosine",
            "step" with ``milestones`` as shares and ``gamma``, or "constant") and ``warmup`` in
            iterations. A config without it keeps its ``param_scheduler`` as it is.
        iterations: The training's length.

    Raises:
        UsageError: The schedule is of another kind.
    """
    schedule = config.get("schedule")
    if schedule is None:
        own = config.get("param_scheduler", [])
        return [dict(one) for one in (own if isinstance(own, list) else [own])]
    warmup = min(schedule.get("warmup", 0), int(iterations * WARMUP_SHARE))
    steps: list[dict[str, Any]] = []
    if warmup:
        steps.append(dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warmup))
    main = _main(dict(schedule), iterations, warmup)
    return [*steps, main] if main else steps


def _main(schedule: dict[str, Any], iterations: int, warmup: int) -> dict[str, Any] | None:
    """The schedule after the warm-up."""
    span = dict(by_epoch=False, begin=warmup, end=iterations)
    kind = schedule.get("kind")
    if kind == "poly":
        return dict(type="PolyLR", power=schedule.get("power", 0.9), eta_min=0.0, **span)
    if kind == "cosine":
        return dict(type="CosineAnnealingLR", T_max=iterations - warmup, eta_min=0.0, **span)
    if kind == "step":
        milestones = [round(share * iterations) for share in schedule["milestones"]]
        return dict(
            type="MultiStepLR",
            by_epoch=False,
            milestones=milestones,
            gamma=schedule.get("gamma", 0.1),
        )
    if kind == "constant":
        return None
    raise UsageError(f"unknown schedule '{kind}' in the model config: poly, cosine, step, constant")
