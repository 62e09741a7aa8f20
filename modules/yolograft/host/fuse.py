"""Wrap ``BaseModel.fuse``: it folds BatchNorm into Ultralytics' convolutions, this into ours.

The gate of a warm start goes too, where it is still closed or fully open.

``BaseModel.is_fused`` goes with it: it looks for Ultralytics' convolutions, of which a model whose
rows are all ours has none.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from yolograft.blocks._layers import ConvNormAct
from yolograft.blocks.blend import Blend


def make(tasks: ModuleType, original: Callable) -> Callable:
    """Return a ``fuse`` that folds the layers inside our blocks first.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: ``BaseModel.fuse``.
    """

    def fuse(self, *args, **kwargs):
        for parent in list(self.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Blend):
                    setattr(parent, name, child.folded())
        for module in self.modules():
            if isinstance(module, ConvNormAct):
                module.fuse()
        return original(self, *args, **kwargs)

    return fuse


def make_is_fused(tasks: ModuleType, original: Callable) -> Callable:
    """Return an ``is_fused`` that also looks at the layers inside our blocks.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: ``BaseModel.is_fused``.
    """

    def is_fused(self, *args, **kwargs):
        left = any(isinstance(m, ConvNormAct) and m.bn is not None for m in self.modules())
        return not left and original(self, *args, **kwargs)

    return is_fused
