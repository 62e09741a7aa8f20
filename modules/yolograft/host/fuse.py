"""Wrap ``BaseModel.fuse``: it folds BatchNorm into Ultralytics' convolutions, this into ours."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from yolograft.blocks._layers import ConvNormAct


def make(tasks: ModuleType, original: Callable) -> Callable:
    """Return a ``fuse`` that folds the layers inside our blocks first.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: ``BaseModel.fuse``.
    """

    def fuse(self, *args, **kwargs):
        for module in self.modules():
            if isinstance(module, ConvNormAct):
                module.fuse()
        return original(self, *args, **kwargs)

    return fuse
