"""Stage ``refine``: the segmenter redraws the teacher's masks, one encoder pass an image.

Predictions below their class's score or too small are dropped, the rest is prompted by the run's
policy, then duplicates and overlaps among an image's masks are settled; the teacher's mask, the
final one, the candidates' scores, the decision and its reason stand in one row. The masks as they
were before are kept too (table ``segmented``), also those of predictions from ``refine.min_score``
up that become no label. Structural targets of the same images come from the same pass when the
student asks for them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from s4m_pipeline.artifacts.shards import Shard, ShardResult
from s4m_pipeline.artifacts.tables import read_rows
from s4m_pipeline.config import RunConfig, result_settings
from s4m_pipeline.data.image_set import ImageRecord
from s4m_pipeline.devices.placement import Place, settle
from s4m_pipeline.engine.registry import OfRound
from s4m_pipeline.engine.run import Run
from s4m_pipeline.engine.sharded import ShardedStage
from s4m_pipeline.engine.stage import Outcome, Stage, label_categories
from s4m_pipeline.engine.streaming import Batch, OpenShard, StreamingWorker
from s4m_pipeline.execution.ahead import one_ahead
from s4m_pipeline.execution.base import Advance, WorkerFactory
from s4m_pipeline.labels.choose import (
    choose_thresholds,
    threshold_settings,
    threshold_sources,
    threshold_upstream,
    thresholds_as_json,
    warn_unreached,
)
from s4m_pipeline.refinement.policies import PolicyChoice, policy_of
from s4m_pipeline.stages.calibration.calibrate import Calibrate
from s4m_pipeline.stages.calibration.policies import policies_by_class
from s4m_pipeline.stages.pseudo_label import PseudoLabel
from s4m_pipeline.stages.refine.rows import Row
from s4m_pipeline.stages.refine.settings import conflict_rules, refine_policy
from s4m_pipeline.stages.refine.task import (
    ImagePredictions,
    RefineTask,
    decided_counts,
    decided_rows,
    read_images,
)
from s4m_pipeline.stages.segmenter_settings import (
    SegmenterSettings,
    check_segmenter_section,
    segmenter_digest,
    segmenter_settings,
)
from s4m_pipeline.stages.structure_rows import TargetSettings, map_bytes

if TYPE_CHECKING:
    import numpy as np

    from s4m_pipeline.labels.thresholds import Thresholds
    from s4m_pipeline.stages.refine.batch import BegunBatch, DecidedBatch


def wants_structure(config: RunConfig) -> bool:
    """Whether the student learns from structural targets of the unlabelled images."""
    return config.student.structure_weight > 0


def wants_segmenter(config: RunConfig) -> bool:
    """Whether refinement prompts the segmenter at all."""
    return config.refine.policy != "none" or wants_structure(config)


class Refine(OfRound, ShardedStage):
    """Refined labels of the unlabelled images."""

    name: ClassVar[str] = "refine"

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """Thresholds, policy, segmenter, and the structural targets' settings when made."""
        settings: dict[str, Any] = {
            "refine": result_settings(config.refine),
            **threshold_settings(config),
            "min_area": config.pseudo_label.min_area,
        }
        if wants_segmenter(config):
            settings["segmenter"] = segmenter_settings(config)
        if wants_structure(config):
            settings["structure"] = result_settings(config.structure)
            settings["seed"] = config.seed
        return settings

    def sources(self, run: Run) -> dict[str, str]:
        """The unlabelled images, the segmenter's weights, and what thresholds are chosen by."""
        sources = {"unlabelled": run.images.unlabelled_digest(), **threshold_sources(run)}
        if wants_segmenter(run.config):
            sources["segmenter"] = segmenter_digest(run)
        return sources

    def upstream(self, config: RunConfig) -> dict[str, Stage]:
        """The teacher's predictions, and what policy and thresholds are chosen by."""
        above: dict[str, Stage] = {"predictions": PseudoLabel(self.round)}
        if config.refine.policy == "auto":
            above["calibration"] = Calibrate()
        return above | threshold_upstream(config)

    def check(self, run: Run) -> None:
        """Refuse no unlabelled images, a policy or a segmenter that cannot be built."""
        run.images.load_unlabelled_set()
        if run.config.refine.policy != "none":
            refine_policy(run.config.refine)
        if wants_segmenter(run.config):
            check_segmenter_section(run.config)

    def records(self, run: Run) -> list[ImageRecord]:
        """The unlabelled images."""
        return run.images.unlabelled.images

    def categories(self, run: Run) -> Sequence[Mapping[str, Any]]:
        """The labelled set's categories."""
        return label_categories(run.images.labelled.categories)

    def bytes_per_image(self, run: Run) -> int:
        """Labels about 20 KB, and 0.7 byte a cell of each structural map."""
        return 20_000 + (int(0.7 * map_bytes(run.config)) if wants_structure(run.config) else 0)

    def row_bytes(self, run: Run) -> int:
        """A byte a cell of each structural map, when those are made."""
        return map_bytes(run.config) if wants_structure(run.config) else 1

    def factory(self) -> WorkerFactory:
        """Makes a ``_Worker``."""
        return _make_worker

    def device(self, run: Run) -> str:
        """The run's device where the segmenter is prompted, else none but the processor."""
        return run.device if wants_segmenter(run.config) else "cpu"

    def make(self, run: Run, folder: Path) -> Outcome:
        """Refine, and write down the thresholds and policy that were chosen."""
        made = super().make(run, folder)
        chosen = self.thresholds(run)
        warn_unreached(run, chosen)
        made.metrics["thresholds"] = thresholds_as_json(run, chosen)
        if run.config.refine.policy == "auto":
            choice = run.store.manifest(Calibrate.name, run.fingerprint(Calibrate())).metrics
            made.metrics["policy"] = {name: choice[name] for name in ("best", "policy", "off")}
        return made

    def thresholds(self, run: Run) -> Thresholds:
        """The score that a label of each class must be above."""
        stage = PseudoLabel(self.round)
        images = run.store.manifest(stage.name, run.fingerprint(stage)).counts["images"]
        return choose_thresholds(run, run.require(stage), images)

    def policy(self, run: Run) -> PolicyChoice | None:
        """How instances are refined; None keeps every teacher's mask."""
        section = run.config.refine
        if section.policy == "none":
            return None
        if section.policy != "auto":
            return refine_policy(section)
        run.require(Calibrate())
        choice = run.store.manifest(Calibrate.name, run.fingerprint(Calibrate())).metrics
        return policies_by_class(choice, [int(c["id"]) for c in self.categories(run)])

    def argument(self, run: Run) -> RefineTask:
        """Predictions, images and settings."""
        if wants_segmenter(run.config):
            return self.task(run, SegmenterSettings.of(run.config, run.device))
        return self.task(run, None)

    def task(self, run: Run, segmenter: SegmenterSettings | None) -> RefineTask:
        """The same with a segmenter given; None where nothing is prompted."""
        config = run.config
        return RefineTask(
            predictions=run.require(PseudoLabel(self.round)),
            records={record.id: record for record in self.records(run)},
            segmenter=segmenter,
            policy=self.policy(run),
            rules=conflict_rules(config.refine),
            scores=self.thresholds(run).scores,
            min_score=config.refine.min_score,
            min_area=config.pseudo_label.min_area,
            targets=TargetSettings.of(config) if wants_structure(config) else None,
        )


@dataclass(slots=True)
class _Opened(OpenShard):
    images: Mapping[int, ImagePredictions]


class _Worker(StreamingWorker[_Opened, "np.ndarray"]):
    stage = Refine.name

    def __init__(self, task: RefineTask, place: Place) -> None:
        self._task = task
        self._segmenter = None
        self.batch_size, self.streams = 1, False
        if task.segmenter is not None:
            device = settle(task.segmenter.device, place)
            self._segmenter = task.segmenter.build(device, task.records)
            self.batch_size = task.segmenter.batch_size
            self.streams = self._segmenter.device.type != "cpu"

    def open(self, shard: Shard, advance: Advance) -> _Opened:
        """Read a shard's predictions; only some images need an encoder pass."""
        # What the teacher could not read has no labels; it stays aside in what follows.
        aside = read_rows(self._task.predictions, "quarantine", shard.image_ids)
        left = shard.without(row["image_id"] for row in aside)
        tables: dict[str, list[Row]] = {"refined": [], "quarantine": aside}
        if self._task.policy is not None:
            tables["segmented"] = []
        if self._task.targets is not None:
            tables["structure"] = []
        images = read_images(self._task, left)
        seen = [image.record for image in images.values() if self._needs_pass(image)]
        opened = _Opened(shard, seen, tables, images)
        for image in images.values():
            if not self._needs_pass(image):
                opened.add(decided_rows(self._task, image))
        advance(len(shard.image_ids) - len(seen))
        return opened

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Images go to the segmenter as they are."""
        return image

    def through(
        self, batches: Iterator[Batch[_Opened, np.ndarray]]
    ) -> Generator[tuple[_Opened, int], None, None]:
        """A GPU has the next batch while the masks of the last are made, and then its maps."""
        begun = one_ahead(self._begin, batches)
        for opened, decided in one_ahead(_decided, begun):
            if decided is None:
                yield opened, 0
                continue
            for made in decided.tables():
                opened.add(made)
            yield opened, len(decided.made)

    def close(self, done: _Opened) -> ShardResult:
        """Put the rows in order and count them."""
        for name in ("refined", "segmented"):
            done.tables.get(name, []).sort(key=lambda row: (row["image_id"], row["instance_id"]))
        counts = decided_counts(done.tables)
        counts["images"] = len(done.shard.image_ids) - counts["quarantined"]
        warnings = list(self._segmenter.warnings) if self._segmenter else []
        done.images = {}
        return ShardResult(done.tables, counts, warnings=warnings)

    def _needs_pass(self, image: ImagePredictions) -> bool:
        """Whether structural targets are wanted or one of its instances is to be prompted."""
        if self._task.targets is not None:
            return True
        if self._task.policy is None:
            return False
        choice = policy_of(self._task.policy)
        return any(choice(instance) is not None for instance in image.instances)

    def _begin(self, given: Batch[_Opened, np.ndarray]) -> tuple[_Opened, BegunBatch | None]:
        from s4m_pipeline.stages.refine.batch import begin_batch

        opened, batch = given
        if not batch:
            return opened, None
        if self._segmenter is None:
            raise ValueError("a policy other than none needs a segmenter")
        seen = [(opened.images[record.id], image) for record, image in batch]
        return opened, begin_batch(self._task, self._segmenter, seen)


def _decided(
    given: tuple[_Opened, BegunBatch | None],
) -> tuple[_Opened, DecidedBatch | None]:
    """Make a batch's masks; an empty one has none."""
    opened, begun = given
    return opened, None if begun is None else begun.decided()


def _make_worker(task: RefineTask, place: Place) -> _Worker:
    return _Worker(task, place)
