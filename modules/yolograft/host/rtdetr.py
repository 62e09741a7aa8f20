"""Wrap ``build_dataset`` of RT-DETR's trainer and validator, which make a dataset of their own."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, ModuleType


def make(module: ModuleType, original: Callable) -> Callable:
    """Return a ``build_dataset`` that knows COCO JSON.

    Args:
        module: ``ultralytics.models.rtdetr.val`` or ``train``.
        original: ``build_dataset`` of its class.
    """

    def build_dataset(self, *args, **kwargs):
        from yolograft.coco.config import KEY

        if KEY not in self.data:
            return original(self, *args, **kwargs)
        from yolograft.coco.rtdetr import CocoRTDETRDataset

        # The host's own call, with all its arguments, on the other class.
        names = {**original.__globals__, "RTDETRDataset": CocoRTDETRDataset}
        call = FunctionType(original.__code__, names, argdefs=original.__defaults__)
        return call(self, *args, **kwargs)

    return build_dataset
