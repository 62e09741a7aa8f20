"""Run a block of others once, where a row inserts it: does it return what its role promises?"""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from yolograft import registry
from yolograft.errors import refuse
from yolograft.registry import Block

#: Rows and columns of the maps: one that windows and pyramids divide, then an odd one.
_SIZES = (32, 32), (15, 19)


def check_maps(
    module: nn.Module, block: Block, channels: tuple, where: str, inside: bool = False
) -> None:
    """Refuse a block of others that returns another shape than its role promises.

    A copy runs, in evaluation mode, on small maps; the random state and the block stay as they are.
    A size at which it fails says nothing: it may need another one. A lazy block runs itself, since
    it is built by that.

    Args:
        module: The block, as built for the row.
        block: Its row of the table.
        channels: The widths that it was built with.
        where: File and row, for the message.
        inside: Whether it stands inside a stage, where it has to keep the size of the map.

    Raises:
        ConfigError: If a map comes out with another shape, or anything but a map.
    """
    if block in registry._BUILT_IN or block.role in ("backbone", "classifier"):
        return
    c1 = channels[0] if channels else 8
    for size in _SIZES:
        shape = (1, c1, *size)
        for result in _run(module, shape):
            _check_map(result, block, channels, where, shape, inside)


def _run(module: nn.Module, shape: tuple[int, ...]) -> list[Any]:
    """Return what a block returns, in a list that is empty if it fails."""
    lazy = any(is_lazy(p) for p in (*module.parameters(), *module.buffers()))
    modes = {m: m.training for m in module.modules()}
    try:
        copy = module if lazy else deepcopy(module)
        like = next(module.parameters(), torch.zeros(()))
        with nullcontext() if lazy else registry.undisturbed(), torch.no_grad():
            return [copy.eval()(torch.zeros(shape, dtype=like.dtype, device=like.device))]
    except Exception:
        return []
    finally:
        for m, training in modes.items():
            m.training = training


def _check_map(
    result: Any, block: Block, channels: tuple, where: str, shape: tuple, inside: bool
) -> None:
    check_tensor(result, block, where)
    _, c1, rows, columns = shape
    width = {"gate": c1, "widen": 4 * c1}.get(block.role, channels[-1] if channels else c1)
    promise, size = f"returns {width} channels", result.shape[2:]
    if block.role == "gate" or inside:
        promise, size = "keeps the shape", (rows, columns)
    elif block.role in ("down", "widen") and rows % 2 == columns % 2 == 0:
        promise, size = f"{promise} at half the size", (rows // 2, columns // 2)
    if result.dim() != 4 or tuple(result.shape) != (1, width, *size):
        refuse(
            f"{where}: {block.name} returns {_text(result.shape)} for a map of {_text(shape)}, but "
            f"a {block.role} block {promise}",
            "correct the block, or register it with the role that fits: gate keeps the shape, conv "
            "returns c2 channels, down also halves the map",
        )


def check_tensor(result: Any, block: Block, where: str) -> None:
    """Refuse a block that returns anything but one feature map.

    Args:
        result: What it returned.
        block: Its row of the table.
        where: File and row, for the message.

    Raises:
        ConfigError: If the result is no tensor.
    """
    if not isinstance(result, Tensor):
        kind = "None" if result is None else f"a {type(result).__name__}"
        refuse(
            f"{where}: {block.name} returns {kind}, not a feature map",
            "return one tensor (batch, channels, height, width)",
        )


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[1:]))
