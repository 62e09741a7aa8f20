"""Wrap ``BaseTrainer.save_metrics``, ``save_model`` and ``final_eval``.

Each epoch has the COCO columns in results.csv, a run can be resumed without the user's cache, and
the last line of a training names a picture of predictions.
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


def make_final(trainer: ModuleType, original: Callable) -> Callable:
    """Return a ``final_eval`` that names the picture of predictions of a model with blocks.

    Args:
        trainer: ``ultralytics.engine.trainer``.
        original: ``BaseTrainer.final_eval``.
    """

    def final_eval(self, *args, **kwargs):
        from yolograft.config import rows
        from yolograft.config.labels import split

        done = original(self, *args, **kwargs)
        picture = self.save_dir / "val_batch0_pred.jpg"
        config = getattr(getattr(self.model, "module", self.model), "yaml", None) or {}
        ours = any(split(str(row[2]))[1] for row in rows.raw(config))
        if ours and trainer.RANK in {-1, 0} and picture.is_file():
            trainer.LOGGER.info(f"yolograft: predictions on validation images: {picture}")
        return done

    return final_eval
