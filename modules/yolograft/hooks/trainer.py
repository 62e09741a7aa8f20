"""Wrap ``BaseTrainer.save_metrics`` and ``save_model``.

Each epoch has the COCO columns in results.csv, and a run can be resumed without the user's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType


def make(trainer: ModuleType, original: Callable) -> Callable:
    """Return a ``save_metrics`` that gives the COCO columns their place.

    Args:
        trainer: ``ultralytics.engine.trainer``.
        original: ``BaseTrainer.save_metrics``.
    """

    def save_metrics(self, metrics, *args, **kwargs):
        from yolograft.coco import results

        ours = results.epoch_columns(self, metrics)
        original(self, results.placed(metrics, ours), *args, **kwargs)
        results.blank(self.csv, ours)

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
