"""Wrap ``BaseTrainer.save_metrics``: an epoch without validation has the COCO columns too.

Ultralytics writes the header of results.csv with the first epoch's keys and appends values by
place; with ``val=False`` the first validated epoch would have more values than columns.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType


def make(trainer: ModuleType, original: Callable) -> Callable:
    """Return a ``save_metrics`` that fills in missing COCO columns.

    Args:
        trainer: ``ultralytics.engine.trainer``.
        original: ``BaseTrainer.save_metrics``.
    """

    def save_metrics(self, metrics, *args, **kwargs):
        from yolograft.coco.config import KEY
        from yolograft.coco.metrics import training_columns

        if isinstance(self.data, dict) and KEY in self.data:
            lacking = {k: 0 for k in training_columns(self.args.task) if k not in metrics}
            keys = list(metrics)
            last = max((i for i, key in enumerate(keys) if key.startswith("metrics/")), default=-1)
            items = list(metrics.items())
            metrics = dict([*items[: last + 1], *lacking.items(), *items[last + 1 :]])
        return original(self, metrics, *args, **kwargs)

    return save_metrics


def make_save(trainer: ModuleType, original: Callable) -> Callable:
    """Return a ``save_model`` that first brings the run's data YAML into its folder.

    Args:
        trainer: ``ultralytics.engine.trainer``.
        original: ``BaseTrainer.save_model``.
    """

    def save_model(self, *args, **kwargs):
        from yolograft.run import keep_with_run

        keep_with_run(self)
        return original(self, *args, **kwargs)

    return save_model
