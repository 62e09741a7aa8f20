"""A row of the bench, and how its sides get the weights of ours."""

from collections.abc import Callable
from copy import deepcopy
from pkgutil import resolve_name

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]


class Public:
    """A library's form of a block.

    Args:
        name: Import path of the library's class.
        build: Takes this class and a block of ours; returns the library's module with equal
            hyper-parameters and the weights of the block.
        note: How the module differs from the class.
    """

    def __init__(self, name: str, build: Callable[[type, nn.Module], nn.Module], note: str = ""):
        self.name, self._build, self.note = name, build, note

    def build(self, block: nn.Module) -> nn.Module:
        """Return the library's module for a block of ours."""
        return self._build(resolve_name(self.name), block)


class Row:
    """What a block is compared with.

    Args:
        naive: Computes with the block's weights, from the block and its inputs, what the block
            does, as one would write it first.
        *public: The forms that libraries have.
        ours: Builds the block for a width; left out, its role in the table of blocks says how.
        parts: Computes what the block cannot do without; it is timed too.
        floor: Whether it must read its map twice and write it once; the time of that is given too.
        inputs: Shapes of the inputs, from the shape of the row.
        on_list: Whether the block takes its inputs as a list.
    """

    def __init__(
        self,
        naive: Callable[..., Tensor | list[Tensor]],
        *public: Public,
        ours: Callable[[int], nn.Module] | None = None,
        parts: Callable[..., list[Tensor]] | None = None,
        floor: bool = False,
        inputs: Callable[[Shape], list[Shape]] = lambda shape: [shape],
        on_list: bool = False,
    ):
        self.naive, self.ours, self.parts = naive, ours, parts
        self.public = {form.name.partition(".")[0]: form for form in public}
        self.floor, self.inputs, self.on_list = floor, inputs, on_list


class Function(nn.Module):
    """A function of a block and its inputs as a module, with a copy of the block.

    Args:
        function: Takes the block and the inputs.
        block: A block of ours.
    """

    def __init__(self, function: Callable[..., Tensor | list[Tensor]], block: nn.Module):
        super().__init__()
        self.function, self.block = function, deepcopy(block)

    def forward(self, *inputs: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
        """Return the function's result."""
        return self.function(self.block, *inputs)


def unit(layer: nn.Module, x: Tensor) -> Tensor:
    """Return convolution, BatchNorm and activation, one after the other."""
    return layer.act(layer.bn(layer.conv(x)))


def load(module: nn.Module, *parts: nn.Module | Tensor) -> nn.Module:
    """Give a module the weights and statistics of ours, in the order of its own.

    Args:
        module: What to fill.
        *parts: Modules and tensors of ours. Shapes may differ in dimensions of size 1.

    Raises:
        ValueError: If the numbers or the shapes of the tensors differ.
    """
    found = [p.state_dict().values() if isinstance(p, nn.Module) else [p] for p in parts]
    sources = [tensor for tensors in found for tensor in tensors]
    targets = module.state_dict()
    shapes = [[[n for n in t.shape if n > 1] for t in ts] for ts in (sources, targets.values())]
    if shapes[0] != shapes[1]:
        msg = f"{type(module).__name__}: its weights do not fit: {shapes[0]}, not {shapes[1]}"
        raise ValueError(msg)
    with torch.no_grad():
        for target, source in zip(targets.values(), sources, strict=True):
            target.copy_(source.reshape(target.shape))
    return module
