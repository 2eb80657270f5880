"""``evaluate`` and ``label-quality``: models and labels compared with true masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s4m_pipeline.commands.options import (
    ConfigOption,
    DryRun,
    Force,
    Json,
    Overrides,
    Refresh,
    example,
    open_run,
    tell_new_name,
)
from s4m_pipeline.commands.performing import finish
from s4m_pipeline.errors import UsageError

OfOption = Annotated[
    str,
    typer.Option(
        help="student, teacher, student-2 (a round's), student-refresh-1, all, a folder or file."
    ),
]
CompareOption = Annotated[
    bool,
    typer.Option("--compare", help="Teacher, student, its last weights, later rounds (--of all)."),
]
MetricOption = Annotated[
    str, typer.Option(help="coco, cityscapes, both, or auto: both for Cityscapes' classes.")
]
LabelsFlag = Annotated[
    bool, typer.Option("--labels", help="Now a command of its own: s4m label-quality.")
]
LabelsRound = Annotated[
    int | None, typer.Option("--round", help="Of which round, with --labels.", show_default="1")
]


def evaluate(
    config: ConfigOption,
    overrides: Overrides = None,
    of: OfOption = "student",
    split: Annotated[str, typer.Option(help="validation or labelled.")] = "validation",
    images: Annotated[Path | None, typer.Option(help="Folder of another image set.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="COCO file of that image set.")] = None,
    averaged: Annotated[bool, typer.Option(help="Take the averaged weights (EMA).")] = True,
    end: Annotated[
        bool, typer.Option("--end", help="Take the weights at the end, where the best were kept.")
    ] = False,
    compare: CompareOption = False,
    metric: MetricOption = "auto",
    labels: LabelsFlag = False,
    number: LabelsRound = None,
    as_json: Json = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """AP of a checkpoint, or of all of them, on an image set."""
    from s4m_pipeline.commands.printing import print_evaluations, print_plan
    from s4m_pipeline.stages.evaluate import Evaluate, evaluated_set
    from s4m_pipeline.workflow.compare import (
        ALL,
        evaluate_all,
        evaluations,
        kept_ends,
        trained_rounds,
    )

    if number is not None and not labels:
        raise UsageError("--round goes with --labels; a round's student is --of student-2")
    if labels:
        tell_new_name("evaluate --labels", "label-quality")
        label_quality(config, overrides, annotations, 1 if number is None else number, 0, as_json)
        return
    run = open_run(config, overrides)
    split, source = evaluated_set(split, images, annotations)
    wanted = Evaluate(ALL if compare else of, split, averaged, end, source, metric, not force)
    rounds = trained_rounds(run) if wanted.of == ALL else []
    ends = kept_ends(run, rounds) if wanted.of == ALL else []
    stages = evaluations(run.config, wanted, rounds, ends)
    if dry_run:
        print_plan(run, list(stages.values()), force, as_json)
        return
    manifests = evaluate_all(run, stages, force)
    print_evaluations(manifests, as_json)
    finish(manifests.values())


def label_quality(
    config: ConfigOption,
    overrides: Overrides = None,
    annotations: Annotated[
        Path | None, typer.Option(help="COCO file with the true masks of the unlabelled images.")
    ] = None,
    number: Annotated[int, typer.Option("--round", help="Of which round.")] = 1,
    refresh: Refresh = 0,
    as_json: Json = False,
    views: Annotated[
        bool,
        typer.Option("--views", help="All views and teachers against one, on data.validation."),
    ] = False,
) -> None:
    """Compare the pseudo-labels with true masks, before and after refinement."""
    from s4m_pipeline.commands.printing import print_quality, print_views
    from s4m_pipeline.workflow.label_quality import label_quality_of_run
    from s4m_pipeline.workflow.view_quality import views_against_one

    run = open_run(config, overrides)
    if views:
        if annotations is not None:
            raise UsageError("--views compares on data.validation: leave out --annotations")
        print_views(views_against_one(run, number), as_json)
        return
    print_quality(label_quality_of_run(run, annotations, number, refresh), as_json)


def add_to(app: typer.Typer) -> None:
    """Register the command that is no stage's."""
    epilog = example("label-quality -c run.yaml --annotations truth.json")
    app.command("label-quality", epilog=epilog)(label_quality)
