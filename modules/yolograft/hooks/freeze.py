"""Hooks of ``BaseTrainer.setup_model`` and ``_setup_train``: ``freeze=10`` counts rows of the base.

Ultralytics reads ``args.freeze`` while it sets up a training, and keeps it in checkpoints, so what
the user gave is put back afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from torch import nn

from yolograft.warm import freeze


def make_model(trainer: ModuleType, original: Callable) -> Callable:
    """Return a ``setup_model`` that translates ``args.freeze`` once the model is there.

    Args:
        trainer: ``ultralytics.engine.trainer``.
        original: ``BaseTrainer.setup_model``.
    """

    def setup_model(self):
        checkpoint = original(self)
        given = self.args.freeze
        rows = list(range(given)) if isinstance(given, int) else given
        if isinstance(rows, list) and rows and isinstance(self.model, nn.Module):
            model = getattr(self.model, "student_model", self.model)
            names, text = freeze.translate(model, rows)
            if text:
                self.args.freeze = names
                trainer.LOGGER.info(f"yolograft: freeze={given} counts the rows of {text}")
        return checkpoint

    return setup_model


def make_train(trainer: ModuleType, original: Callable) -> Callable:
    """Return a ``_setup_train`` that leaves ``args.freeze`` as it was given.

    Args:
        trainer: ``ultralytics.engine.trainer``.
        original: ``BaseTrainer._setup_train``.
    """

    def _setup_train(self, *args, **kwargs):
        with freeze.as_given(self):
            return original(self, *args, **kwargs)

    return _setup_train
