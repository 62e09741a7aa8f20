"""Run a block once: can it be built, does it return what its role promises?"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from yolograft import signatures
from yolograft.blocks._row import Block
from yolograft.errors import refuse
from yolograft.roles import RESERVED, Role

#: Rows and columns of the maps: one that windows and pyramids divide, then an odd one.
_SIZES = (32, 32), (15, 19)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the random state of Python, NumPy and PyTorch as it was before."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(list(devices)):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def small(cls: type, role: Role) -> Any | None:
    """Return a small block of a class, or ``None`` if it needs arguments or other widths.

    Args:
        cls: A block.
        role: Its role.
    """
    try:
        with undisturbed():
            return signatures.build(cls, role, (64,) * len(role.prefix), {})
    except Exception:  # the parser checks what it builds
        return None


def check_attributes(module: object, name: str) -> None:
    """Refuse a module that owns an attribute which Ultralytics sets on every layer.

    Args:
        module: The built block, or ``None`` when it could not be built.
        name: Name of the block, for the message.

    Raises:
        ConfigError: If the module owns ``i``, ``f``, ``type`` or ``np``.
    """
    if module is None:
        return
    own = {*vars(module), *module._modules, *module._parameters, *module._buffers}
    taken = own.intersection(RESERVED)
    if taken:
        refuse(
            f"{name}: self.{min(taken)} is an attribute that Ultralytics sets on every layer",
            "rename it; i, f, type and np are reserved",
        )


def check_maps(
    module: nn.Module, block: Block, channels: tuple, where: str, inside: bool = False
) -> None:
    """Refuse a block of others that returns another shape than its role promises.

    A copy runs, in evaluation mode, on small maps; the random state and the block stay as they are.
    A size at which it fails is skipped: it may need another one. A lazy block runs itself, since
    running builds it.

    Args:
        module: The block, as built for the row.
        block: Its row of the table.
        channels: The widths that it was built with.
        where: File and row, for the message.
        inside: Whether it stands inside a stage, where it has to keep the size of the map.

    Raises:
        ConfigError: If a map comes out with another shape, or anything but a map.
    """
    ours = block.path.startswith("yolograft.")
    for size in () if ours or not block.role.one_map else _SIZES:
        shape = (1, channels[0] if channels else 8, *size)
        for result in _run(module, shape):
            _check_map(result, block, channels, where, shape, inside)


def _run(module: nn.Module, shape: tuple[int, ...]) -> list[Any]:
    """Return what a block returns, in a list that is empty if it fails."""
    lazy = any(is_lazy(p) for p in (*module.parameters(), *module.buffers()))
    modes = {m: m.training for m in module.modules()}
    try:
        copy = module if lazy else deepcopy(module)
        like = next(module.parameters(), torch.zeros(()))
        with contextlib.nullcontext() if lazy else undisturbed(), torch.no_grad():
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
    size = shape[2:]
    promise = block.role.promise(channels, size)
    text, want = promise.text, promise.size or result.shape[2:]
    if inside:
        text, want = "keeps the size inside a stage", size
    if result.dim() != 4 or tuple(result.shape) != (1, promise.channels, *want):
        refuse(
            f"{where}: {block.name} returns {_text(result.shape)} for a map of {_text(shape)}, but "
            f"a block of the role {block.role} {text}",
            "correct the block, or register it with the role that fits: attention keeps the shape, "
            "conv returns c2 channels, down also halves the map",
        )


def check_tensor(result: Any, block: Block, where: str) -> None:
    """Refuse a block that returns anything but one feature map.

    Args:
        result: What it returned.
        block: Its row of the table.
        where: File and row, for the message.

    Raises:
        ConfigError: If the result is not a tensor.
    """
    if not isinstance(result, Tensor):
        kind = "None" if result is None else f"a {type(result).__name__}"
        refuse(
            f"{where}: {block.name} returns {kind}, not a feature map",
            "return one tensor (batch, channels, height, width)",
        )


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[1:]))
