"""What a block keeps of the trained convolution whose place it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

#: What may differ between two layers that are the same: states, and what Ultralytics sets.
STATES = {"training", "inplace", "eps", "momentum", "i", "f", "np", "type", "legacy"}


@dataclass
class Carried:
    """Tensors for one layer.

    Attributes:
        tensors: By their names in the new layer.
        origins: Name in the new layer to the name in the old one; set values have none.
        exact: How many blocks do what the old layer did.
        fresh: Names of the blocks that do not; ``""`` is the layer itself.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    exact: int = 0
    fresh: list[str] = field(default_factory=list)

    def add(self, new: str, old: str, other: Carried) -> None:
        """Take over what a child holds.

        Args:
            new: The child's name in the new layer.
            old: The child's name in the old one.
            other: What the child holds.
        """

        def name(*parts: str) -> str:
            return ".".join(part for part in parts if part)

        self.tensors |= {name(new, k): v for k, v in other.tensors.items()}
        self.origins |= {name(new, k): name(old, v) for k, v in other.origins.items()}
        self.exact += other.exact
        self.fresh += [name(new, k) for k in other.fresh]

    def counted(self, new: nn.Module, old: nn.Module) -> Carried:
        """Return this with the block counted as exact.

        It is not where its activation is another one, or the eps of its BatchNorm.

        Args:
            new: The part of the block with ``bn`` and ``act``.
            old: The convolution.
        """
        if not self.fresh:
            same_act = type(new.act) is type(old.act) and not differ(vars(new.act), vars(old.act))
            if same_act and new.bn.eps == old.bn.eps:
                self.exact = 1
            else:
                self.fresh = [""]
        return self


def nothing() -> Carried:
    """Return what a block gets that can keep nothing."""
    return Carried(fresh=[""])


def weight_and_norm(new: nn.Module, old: nn.Module, weight: Tensor, prefix: str) -> Carried:
    """Return a weight and the BatchNorm of a convolution, if the block has a place for them.

    Args:
        new: The block.
        old: The convolution.
        weight: What its weight has to be in the block.
        prefix: Name of the part of the block that has ``conv`` and ``bn``, with a dot.
    """
    conv, bn = f"{prefix}conv.weight", f"{prefix}bn."
    state = new.state_dict()
    if conv not in state or state[conv].shape != weight.shape or f"{bn}weight" not in state:
        return nothing()
    carried = Carried({conv: weight}, {conv: "conv.weight"})
    carried.add(bn[:-1], "bn", Carried(own(old.bn), {k: k for k in own(old.bn)}))
    return carried


def dense(conv: nn.Conv2d) -> Tensor:
    """Return a convolution's weight without groups."""
    weight = conv.weight.detach()
    full = weight.new_zeros(conv.out_channels, conv.in_channels, *weight.shape[2:])
    rows, cols = conv.out_channels // conv.groups, weight.shape[1]
    for g in range(conv.groups):
        part = slice(g * rows, (g + 1) * rows)
        full[part, g * cols : (g + 1) * cols] = weight[part]
    return full


def alike(new: nn.Module, old: nn.Module, *names: str) -> bool:
    """Tell whether two modules have equal attributes of some names."""
    return all(getattr(new, name) == getattr(old, name) for name in names)


def own(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's tensors, without those of its children."""
    parameters, buffers = module.named_parameters("", False), module.named_buffers("", False)
    found = {**dict(parameters), **dict(buffers)}
    return {k: v.detach() for k, v in found.items() if k not in module._non_persistent_buffers_set}


def differ(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Tell whether two modules' attributes say that they do different things.

    An attribute that one of them lacks is one that the other's release added or dropped.
    """
    plain = (bool, int, float, str, tuple)
    return any(
        isinstance(value, plain) and value != old.get(name, value)
        for name, value in new.items()
        if not name.startswith("_") and name not in STATES
    )
