"""Wrap ``BaseTrainer.save_metrics``: each epoch has the COCO columns, whatever it has to put there.

Ultralytics writes the header of results.csv with the first epoch's keys and appends values by
place. Epochs before the first validation hold zeros, as in Ultralytics' own columns; where the
evaluation failed, the columns stay blank.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def make(trainer: ModuleType, original: Callable) -> Callable:
    """Return a ``save_metrics`` that gives the COCO columns one place and leaves blanks in them.

    Args:
        trainer: ``ultralytics.engine.trainer``.
        original: ``BaseTrainer.save_metrics``.
    """

    def save_metrics(self, metrics, *args, **kwargs):
        from yolograft.coco.config import KEY
        from yolograft.coco.metrics import training_columns

        if not isinstance(self.data, dict) or KEY not in self.data:
            return original(self, metrics, *args, **kwargs)
        lacking = math.nan if hasattr(self.validator, "_yolograft") else 0
        ours = {key: metrics.get(key, lacking) for key in training_columns(self.args.task)}
        items = [item for item in metrics.items() if item[0] not in ours]
        last = max((i for i, (key, _) in enumerate(items) if key[:8] == "metrics/"), default=-1)
        metrics = dict([*items[: last + 1], *ours.items(), *items[last + 1 :]])
        original(self, metrics, *args, **kwargs)
        blank = [key for key, value in ours.items() if math.isnan(value)]
        if blank:
            _blank(self.csv, blank)

    return save_metrics


def make_save(trainer: ModuleType, original: Callable) -> Callable:
    """Return a ``save_model`` that first brings the run's data YAML into its folder.

    Args:
        trainer: ``ultralytics.engine.trainer``.
        original: ``BaseTrainer.save_model``.
    """

    def save_model(self, *args, **kwargs):
        from yolograft.coco.options import keep_with_run

        keep_with_run(self)
        return original(self, *args, **kwargs)

    return save_model


def _blank(file: Path, columns: list[str]) -> None:
    """Empty some columns in the last row of results.csv: Ultralytics can only write numbers."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    for name in {*columns}.intersection(rows[0]):
        rows[-1][rows[0].index(name)] = ""
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
