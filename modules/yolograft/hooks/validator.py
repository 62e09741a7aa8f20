"""Wrap steps of the validators: on COCO JSON they also give the official numbers."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType


def make_call(module: ModuleType, original: Callable) -> Callable:
    """Return a ``__call__`` that removes old numbers first, and reports the new ones at the end.

    Args:
        module: ``ultralytics.engine.validator``.
        original: ``BaseValidator.__call__``.
    """

    def __call__(self, trainer=None, model=None, *args, **kwargs):
        from yolograft.coco import validation

        validation.reset(self)
        return validation.finish(self, original(self, trainer, model, *args, **kwargs))

    return __call__


def make_init(module: ModuleType, original: Callable) -> Callable:
    """Return an ``init_metrics`` that starts to record.

    Args:
        module: ``ultralytics.models.yolo.detect.val``.
        original: ``DetectionValidator.init_metrics``.
    """

    def init_metrics(self, model, *args, **kwargs):
        from yolograft.coco import validation

        with validation.starting(self, model):
            original(self, model, *args, **kwargs)

    return init_metrics


def make_init_masks(module: ModuleType, original: Callable) -> Callable:
    """Return an ``init_metrics`` that takes masks in full size in a final validation.

    Ultralytics does so for its own COCO.

    Args:
        module: ``ultralytics.models.yolo.segment.val``.
        original: ``SegmentationValidator.init_metrics``.
    """

    def init_metrics(self, *args, **kwargs):
        from yolograft.coco import validation

        original(self, *args, **kwargs)
        if validation.recorder(self) is not None and not self.training:
            self.process = module.ops.process_mask_native

    return init_metrics


def make_update(module: ModuleType, original: Callable) -> Callable:
    """Return an ``update_metrics`` that also records the predictions that it counts.

    Args:
        module: ``ultralytics.models.yolo.detect.val``.
        original: ``DetectionValidator.update_metrics``.
    """

    def update_metrics(self, preds, batch, *args, **kwargs):
        from yolograft.coco import validation

        with validation.recording(self, batch):
            original(self, preds, batch, *args, **kwargs)

    return update_metrics


def make_gather(module: ModuleType, original: Callable) -> Callable:
    """Return a ``gather_stats`` that brings the predictions of all ranks to the first.

    Args:
        module: ``ultralytics.models.yolo.detect.val``.
        original: ``DetectionValidator.gather_stats``.
    """

    def gather_stats(self, *args, **kwargs):
        from yolograft.coco import validation

        original(self, *args, **kwargs)
        validation.gather(self)

    return gather_stats


def make_stats(module: ModuleType, original: Callable) -> Callable:
    """Return a ``get_stats`` that adds the official numbers.

    Args:
        module: ``ultralytics.models.yolo.detect.val``.
        original: ``DetectionValidator.get_stats``.
    """

    def get_stats(self, *args, **kwargs):
        from yolograft.coco import validation

        return {**original(self, *args, **kwargs), **validation.numbers(self)}

    return get_stats


def make_results(module: ModuleType, original: Callable) -> Callable:
    """Return a getter of ``results_dict`` that holds the official numbers too.

    Args:
        module: ``ultralytics.utils.metrics``.
        original: The getter of ``DetMetrics.results_dict``.
    """

    def results_dict(self):
        return {**original(self), **vars(self).get("_yolograft", {})}

    return results_dict
