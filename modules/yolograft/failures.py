"""Whose fault is an exception? A failing block is reported with its file, row and name."""

from __future__ import annotations

from collections.abc import Callable
from traceback import walk_tb
from typing import Any

import torch
from torch import nn

from yolograft import trial
from yolograft.blocks._row import Block
from yolograft.config import rows
from yolograft.config.labels import split
from yolograft.errors import ConfigError, refuse


def is_memory(error: Exception) -> bool:
    """Tell whether memory ran out, which is not the fault of a config or a block."""
    return (
        isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
        or "out of memory" in str(error).lower()
    )


def blamed(name: str, error: Exception) -> str:
    """Return what to report of a block that raised, its name first.

    Args:
        name: Of the block.
        error: What it raised. A message that begins with the name, or has a hint, stays as it is.
    """
    text = str(error)
    written = text.startswith(f"{name}: ") or "\n\nHint: " in text
    if not isinstance(error, TypeError | ValueError) or not written:
        text = text if isinstance(error, ConfigError) else described(error)
    return text if text.startswith(f"{name}: ") else f"{name}: {text}"


def described(error: Exception) -> str:
    """Return type and message of an exception, and the line of someone's code that it came from."""
    hosts = ("torch", "torchvision", "ultralytics", "yolograft")
    places = [
        f" ({frame.f_code.co_filename}, line {line})"
        for frame, line in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in hosts
    ]
    text = f": {error}" if str(error) else ""
    return f"{type(error).__name__}{text}{places[-1] if places else ''}"


def find(model: nn.Module, run: Callable[[], Any]) -> str:
    """Run a model that has failed once more, and watch its blocks.

    Args:
        model: Ultralytics' model.
        run: Runs it.

    Returns:
        What is wrong with which row; empty where no block is at fault.
    """
    config = getattr(model, "yaml", None) or {}
    running, handles = [], []
    for i, (layer, row) in enumerate(zip(model.model, rows.raw(config), strict=False)):
        block = split(row[2])[1]
        if block is None:
            continue
        enter, leave, check = _watch(rows.where(config, i), block, running)
        handles += [layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)]
        cls = block.load()
        handles += [m.register_forward_hook(check) for m in layer.modules() if type(m) is cls]
    try:
        if handles:
            run()
    except ConfigError as error:
        return str(error)
    except Exception as error:
        if is_memory(error):
            raise
        return f"{running[-1][0]}: {blamed(running[-1][1], error)}" if running else ""
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
        if block.role.one_map:
            trial.check_tensor(output, block, where)
        if block.role.keeps_shape and output.shape != inputs[0].shape:
            before, after = (tuple(t.shape) for t in (inputs[0], output))
            refuse(
                f"{where}: {block.name} returned the shape {after} for {before}, but it has to "
                "keep the shape",
                "register it with another role",
            )

    return enter, leave, check
