"""Wrap ``torch_load``: the restricted loader rebuilds the blocks, and what they consist of.

``ULTRALYTICS_SAFE_LOAD=1`` reads checkpoints by ``torch.load(weights_only=True)``, which accepts
what is on a list. Here the list is extended by what a checkpoint needs, as far as it is ours, or of
the package of a registered block. Nothing is imported because a checkpoint names it.
"""

from __future__ import annotations

import dataclasses
import enum
import io
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import nn

from yolograft import registry, trial


def make(tasks: ModuleType, original: Callable) -> Callable:
    """Return a ``torch_load`` that allows the blocks where it loads weights only.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: The function to wrap.
    """

    def torch_load(*args, **kwargs):
        if kwargs.get("weights_only") and args:
            _allow(args[0])
        return original(*args, **kwargs)

    return torch_load


def _allow(file: Any) -> None:
    """Let the restricted loader rebuild what a checkpoint holds of blocks."""
    needed = {name: _package(name) for name in _named_in(file)}
    packages = set()
    if "yolograft" in needed.values():
        packages |= {_package(block.load().__module__) for block in registry.OURS}  # imported
    if {*needed.values()} - packages:  # only then are entry points read
        packages |= {_package(cls.__module__) for cls in registry.registered()}
    found = {name: _find(name) for name in needed}
    allowed = {n for n in needed if needed[n] in packages and _is_plain(found[n], needed[n])}
    if {*needed} - allowed:
        allowed |= {*needed} & _named_by_blocks()
    if allowed:
        torch.serialization.add_safe_globals([(found[name], name) for name in sorted(allowed)])


def _named_in(file: Any) -> set[str]:
    """Return what a file names and the restricted loader would refuse."""
    try:
        return {*torch.serialization.get_unsafe_globals_in_checkpoint(file)}
    except Exception:  # no checkpoint, or an old PyTorch: the host says what it says
        return set()


def _named_by_blocks() -> set[str]:
    """Return what the blocks of others name when they are saved, as built with their defaults."""
    names = set()
    for cls, block in registry.registered().items():
        file = io.BytesIO()
        try:
            torch.save(trial.small(cls, block.role), file)
        except Exception:  # a block that cannot be saved has no checkpoint
            continue
        file.seek(0)
        names |= _named_in(file)
    return {n for n in names if _package(n) != "builtins"}


def _find(name: str) -> Any | None:
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), attribute, None)


def _is_plain(found: Any, package: str) -> bool:
    """Tell whether an object is a class of a package that holds data: a module, an enum, fields."""
    return (
        isinstance(found, type)
        and _package(found.__module__) == package
        and (
            issubclass(found, nn.Module | enum.Enum)
            or dataclasses.is_dataclass(found)
            or (issubclass(found, tuple) and hasattr(found, "_fields"))
        )
    )


def _package(name: str) -> str:
    return name.partition(".")[0]
