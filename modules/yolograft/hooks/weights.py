"""Wrap ``BaseModel.load``: a grafted model takes over what its base has learned.

``pretrained=yolov8n.pt``, ``YOLO("yolov8n-sk.yaml").load("yolov8n.pt")`` and fine-tuning all end in
it. The stock function then gets the checkpoint's tensors by the names that they have in the grafted
model, and does the rest as ever: other numbers of classes, class names, other image channels.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from torch import nn


def make(tasks: ModuleType, original: Callable) -> Callable:
    """Return a ``load`` that matches layers where there are blocks between them.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: ``BaseModel.load``.
    """

    def load(self, weights, verbose=True):
        from yolograft.warm import transplant

        source = weights
        if isinstance(weights, dict):
            source = weights.get("ema") or weights.get("model")
        if not (isinstance(source, nn.Module) and transplant.concerns(self, source)):
            return original(self, weights, verbose)

        def stock(donor: nn.Module) -> None:
            original(self, donor, verbose and donor is source)

        text = transplant.load(self, source, stock)
        if verbose and text:
            tasks.LOGGER.info(text)
        return None

    return load
