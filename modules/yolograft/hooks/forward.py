"""Wrap ``BaseModel.forward``: a block that raises, or returns no map, is reported with its row.

The host runs a model for the first time while it builds it, to find its strides.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import nn

from yolograft import parser, registry, trial
from yolograft.errors import ConfigError, refuse
from yolograft.registry import Block


def make(tasks: ModuleType, original: Callable) -> Callable:
    """Return a ``forward`` that reports which row of the pack's an exception comes from.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: ``BaseModel.forward``.
    """

    def forward(self, x, *args, **kwargs):
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return original(self, x, *args, **kwargs)
        try:
            return original(self, x, *args, **kwargs)
        except Exception as error:
            if isinstance(error, ConfigError) or parser.is_memory(error):
                raise
            fact = _blame(self, lambda: original(self, x, *args, **kwargs))
            if not fact:
                raise
        raise ConfigError(fact)

    return forward


def _blame(model: nn.Module, run: Callable) -> str:
    """Run a model that has failed once more, with an eye on the pack's rows.

    Args:
        model: The host's model.
        run: Runs it.

    Returns:
        What is wrong with which row; empty where none of the pack's is at fault.
    """
    from yolograft.graft.graph import split

    config = getattr(model, "yaml", None) or {"backbone": [], "head": []}
    rows = [*config["backbone"], *config["head"]]
    running, handles = [], []
    for i, (layer, row) in enumerate(zip(model.model, rows, strict=False)):
        block = split(row[2])[1]
        if block is None:
            continue
        where = parser._where(config, i)
        enter, leave, check = _watch(where, block, running)
        handles += [layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)]
        cls = registry.load(block)
        handles += [m.register_forward_hook(check) for m in layer.modules() if type(m) is cls]
    try:
        if handles:
            run()
    except ConfigError as error:
        return str(error)
    except Exception as error:
        if parser.is_memory(error):
            raise
        return f"{running[-1][0]}: {parser.blamed(running[-1][1], error)}" if running else ""
    finally:
        for handle in handles:
            handle.remove()
    return ""


def _watch(where: str, block: Block, running: list) -> tuple[Callable, Callable, Callable]:
    """Return the hooks of one row: before its layer, behind it, and behind the block itself."""

    def enter(layer, inputs):
        running.append((where, block.name))

    def leave(layer, inputs, output):
        running.pop()

    def check(module, inputs, output):
        if block.role not in ("backbone", "classifier"):
            trial.check_tensor(output, block, where)
        if block.role == "gate" and output.shape != inputs[0].shape:
            before, after = (tuple(t.shape) for t in (inputs[0], output))
            refuse(
                f"{where}: {block.name} returned the shape {after} for {before}, but it has to "
                "keep the shape",
                "register it with another role",
            )

    return enter, leave, check
