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
    """Return a ``load`` that matches layers where blocks stand between them.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: ``BaseModel.load``.
    """

    def load(self, weights, verbose=True):
        from yolograft.warm import prompts, rebuild, transplant

        source = weights
        if isinstance(weights, dict):
            source = weights.get("ema") or weights.get("model")
        if not (isinstance(source, nn.Module) and transplant.concerns(self, source)):
            return original(self, weights, verbose)
        transplant.widen(self, source)
        source = source.float()
        if not transplant.differ(self, source) and not any(prompts.is_folded(source.model[-1])):
            prompts.take(self, source)
            alike = {i: i for i in range(len(self.model))}
            kept = rebuild.keep(self, source, alike)
            original(self, weights, verbose)
            if verbose:
                _tell(tasks.LOGGER, kept, rebuild.changed(self, source, alike))
            return None
        report = transplant.warm_start(self, source, lambda donor: original(self, donor, False))
        if report.carried == report.total and not report.left:
            _take_names(self, source)
        if verbose:
            tasks.LOGGER.info(str(report))
        return None

    return load


def _tell(logger, kept: list[str], changed: list[str]) -> None:
    """Tell what layers are beyond their tensors, as :class:`Report` does."""
    for title, lines in (("kept from", kept), ("not as in", changed)):
        for line in lines:
            logger.info(f"yolograft: {title} the checkpoint: {line}")


def _take_names(model: nn.Module, source: nn.Module) -> None:
    """Take over class names, as the host does where every tensor is carried."""
    names = getattr(source, "names", None)
    numbers = {i: str(i) for i in range(len(names or ()))}
    if names and getattr(model, "names", None) == numbers and not hasattr(model, "set_classes"):
        model.names = dict(names)
