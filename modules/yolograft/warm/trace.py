"""What a small random image becomes in a model: the maps between layers, and the output."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from yolograft.config.rows import channels
from yolograft.warm.layers import with_layers


@dataclass
class Trace:
    """What a small random image becomes in a model.

    Attributes:
        maps: For each layer the maps that it reads and those that it returns, each as its channels
            and its strides; ``None`` where it did not run. The head returns none.
        read: The maps that the head reads.
        output: What the head returns before it is decoded, flattened.
    """

    maps: list[tuple[list, list] | None]
    read: list[Tensor] = field(default_factory=list)
    output: list[Tensor] = field(default_factory=list)

    def strides(self, layer: int) -> tuple | None:
        """Return the strides of the maps that a layer reads and returns; ``None`` if unknown."""
        if self.maps[layer] is None:
            return None
        return tuple([one[1:] for one in maps] for maps in self.maps[layer])

    def meets(self, layer: int, other: Trace, match: int) -> bool:
        """Return whether a layer reads the strides, and returns the shapes, that another does."""
        mine, theirs = self.maps[layer], other.maps[match]
        if mine is None or theirs is None:
            return False
        return self.strides(layer) == other.strides(match) and mine[1] == theirs[1]

    def width(self, layer: int) -> int:
        """Return the channels that a layer returns; 0 if it returns no map."""
        return self.maps[layer][1][0][0] if self.maps[layer][1] else 0

    def kept(self, layer: int) -> int:
        """Return the channels of a layer that reads one map and keeps its shape; 0 for others."""
        read, returned = self.maps[layer] or ([], [])
        return self.width(layer) if len(read) == 1 and read == returned else 0


def trace(model: nn.Module) -> Trace:
    """Run a small random image through a model, which is left as it was.

    Args:
        model: A model of Ultralytics.

    Returns:
        What came out; nothing where the model cannot be run on an image alone.
    """
    stride = getattr(model, "stride", None)
    small = max(128, 2 * int(stride.max())) if isinstance(stride, Tensor) else 128
    for size in (small, 256, 640):  # some layers take no small maps
        found = _trace(model, size)
        if found.maps[-1] is not None:
            break
    return found


def _trace(model: nn.Module, size: int) -> Trace:
    layers = copy.deepcopy(model.model).eval()
    head, found = layers[-1], Trace([None] * len(layers))

    def maps(value: object) -> list[tuple]:
        sizes = [x.shape[1:] for x in flat(value) if x.ndim == 4]
        return [(c, size / h, size / w) for c, h, w in sizes]

    def ran(layer: nn.Module, args: tuple, y: object) -> None:
        found.maps[layer.i] = (maps(args[0]), maps(y))

    def read(layer: nn.Module, args: tuple) -> None:
        found.maps[layer.i] = (maps(args[0]), [])
        found.read = [x.cpu() for x in flat(args[0])]

    for layer in layers[:-1]:
        layer.register_forward_hook(ran)
    head.register_forward_pre_hook(read)
    head.training = True  # the head alone: it returns what it would decode
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, channels(model.yaml), size, size, generator=generator)
    with torch.no_grad(), suppress(Exception):  # a head that needs texts, say, has no output
        view = with_layers(model, layers)
        found.output = [y.cpu() for y in flat(view(x.to(next(model.parameters()))))]
    return found


def flat(value: object) -> list[Tensor]:
    """Return the tensors in nested lists and mappings.

    Args:
        value: What a layer reads or returns.
    """
    return [x for x in tree_leaves(value) if isinstance(x, Tensor)]
