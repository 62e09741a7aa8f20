"""Wrap ``BaseModel.fuse``: it folds BatchNorm into Ultralytics' convolutions, this into ours.

The residual gate of a warm start goes too, where it is still closed or fully open. A block of
others is fused by its own ``fuse()``, and BatchNorm behind a convolution in it is folded where
:mod:`yolograft.fold` shows that the outputs stay the same.

``BaseModel.is_fused`` goes with it: it looks for Ultralytics' convolutions, of which a model whose
rows are all ours has none.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import nn

from yolograft import fold, registry, trial
from yolograft.blocks._layers import ConvNormAct
from yolograft.blocks.blend import Blend
from yolograft.config.rows import channels
from yolograft.errors import refuse
from yolograft.roles import take_place

#: Set on a block of others that has been fused: its own ``fuse()`` is called once.
_DONE = "_yolograft_fused"

#: Packages that hold no blocks of others; for these alone, entry points are not read.
_KNOWN = ("torch.", "ultralytics.", "yolograft.")


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
        for module in list(self.modules()):
            if type(module).__module__.startswith("yolograft.") and _has_own(module):
                module.fuse()
        _fuse_others(self)
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
        left = left or any(_has_own(m) or fold.has_norm(m) for m in _others(self))
        return not left and original(self, *args, **kwargs)

    return is_fused


# --------------------------------------------------------------------------------- blocks of others


def _others(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of others in a model that are not fused yet."""
    foreign = [m for m in model.modules() if not type(m).__module__.startswith(_KNOWN)]
    known = registry.registered() if foreign else {}
    return [m for m in foreign if type(m) in known and _DONE not in vars(m)]


def _fuse_others(model: nn.Module) -> None:
    left = _others(model)
    if not left:
        return
    done = set()  # a block with a fuse() fuses what it holds itself
    with trial.undisturbed():
        for block in left:
            if block not in done and _has_own(block):
                done.update(block.modules())
                _replace(model, block, _call(block))
        left = [block for block in _others(model) if fold.has_norm(block)]
        if left:
            # Ultralytics folds the layers of its own modules itself.
            stock = {c for m in model.modules() if _stock_classes(m) for c in m.children()}
            fold.fold(model, left, stock, channels(model.yaml))
    for block in _others(model):
        setattr(block, _DONE, True)


def _has_own(module: nn.Module) -> bool:
    """Tell whether a block has a ``fuse()`` that Ultralytics does not call itself."""
    if not callable(getattr(module, "fuse", None)):
        return False
    if any("fuse" in vars(c) for c in _stock_classes(module)):
        return False
    arguments = inspect.signature(module.fuse).parameters.values()
    return all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in arguments)


def _call(block: nn.Module) -> Any:
    try:
        return block.fuse()
    except Exception as error:
        refuse(
            f"{type(block).__name__}: its fuse() failed: {type(error).__name__}: {error}",
            "correct it; a method of that name without arguments prepares a block for inference",
        )


def _replace(model: nn.Module, old: nn.Module, new: Any) -> None:
    """Put the module that a block's ``fuse()`` returned in its place; most return none."""
    if not isinstance(new, nn.Module) or new is old:
        return
    take_place(new, old)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)


def _stock_classes(module: nn.Module) -> list[type]:
    return [c for c in type(module).__mro__ if c.__module__.startswith("ultralytics.")]
