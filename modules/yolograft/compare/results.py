"""The results of a comparison, read from its plan and its records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yolograft.compare import records, statistics
from yolograft.compare.evaluate import NAMES
from yolograft.compare.records import (
    Failure,
    Plan,
    SpeedRecord,
    Timing,
    TrainRecord,
    Unreadable,
    Variant,
)
from yolograft.errors import refuse

#: Metrics of a run, as its record names them.
METRICS = (*NAMES, "ultralytics_AP")


@dataclass(frozen=True)
class Row:
    """What was found of one variant.

    Attributes:
        variant: From the plan.
        runs: Records of its finished runs.
        total: Mean and deviation over the seeds, for each measure.
        reach: Half of the 95 % interval of the mean AP.
        paired: Differences to the base; ``None`` for the base itself.
        timing: Latency by batch; empty where it was not measured.
    """

    variant: Variant
    runs: list[TrainRecord]
    total: dict[str, statistics.Summary]
    reach: float
    paired: statistics.Paired | None
    timing: dict[str, Timing]

    @property
    def name(self) -> str:
        """Return the name of the variant."""
        return self.variant.name


@dataclass(frozen=True)
class Comparison:
    """A comparison with its results; the first row is the base."""

    plan: Plan
    rows: list[Row]
    failures: list[Failure]
    speed: SpeedRecord | None

    @property
    def runs(self) -> list[TrainRecord]:
        """Return all finished runs."""
        return [run for row in self.rows for run in row.runs]


def read(project: Path) -> Comparison:
    """Return a comparison from its plan and its records.

    Args:
        project: Folder of the comparison.

    Raises:
        ConfigError: If there is no plan, or a file is of a newer version.
    """
    try:
        plan = records.load(Plan, project / "plan.json")
    except Unreadable as error:
        refuse(f"{project}: the plan cannot be read ({error})", "start the comparison again")
    found = records.read(project)
    speed = found.get("speed")
    speed = speed if isinstance(speed, SpeedRecord) else None
    wanted = [found[name] for name in plan.keys if found.get(name)]
    wanted = [record for record in wanted if record.key == plan.keys[record.id]]
    failures = [record for record in wanted if isinstance(record, Failure)]
    finished = [record for record in wanted if isinstance(record, TrainRecord)]
    runs = {v.name: [run for run in finished if run.variant == v.name] for v in plan.variants}
    values = {
        name: {run.seed: run.metrics["AP"] for run in some if run.metrics["AP"] is not None}
        for name, some in runs.items()
    }
    paired = statistics.compare(values.pop(plan.base.name), values)
    timings = speed.models if speed else {}
    rows = [
        _row(v, runs[v.name], paired.get(v.name), timings.get(v.name, {})) for v in plan.variants
    ]
    return Comparison(plan, rows, failures, speed)


def _row(
    variant: Variant,
    runs: list[TrainRecord],
    paired: statistics.Paired | None,
    timing: dict[str, Timing],
) -> Row:
    measured = {
        name: [r.metrics[name] for r in runs if r.metrics[name] is not None] for name in METRICS
    }
    measured |= {
        "seconds": [r.seconds for r in runs],
        "memory": [r.peak_memory.bytes for r in runs],
        "best_epoch": [r.best_epoch for r in runs],
    }
    total = {name: statistics.summarize(values) for name, values in measured.items()}
    low, high, _ = statistics.test(measured["AP"])
    return Row(variant, runs, total, (high - low) / 2, paired, timing)
