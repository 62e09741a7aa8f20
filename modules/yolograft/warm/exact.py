"""The mathematics of a warm start: a trained layer's tensors in the layer that takes its place.

Where the new layer can do what the old one did, its tensors are set so that it does, to the last
bits:

- :class:`SPDConv` for a convolution at stride 2. Tap t of its kernel reads pixel 2p + t - pad,
  which after space-to-depth is phase (t - pad) mod 2 of position p + floor((t - pad) / 2).
- :class:`DeformConv` for a convolution: offsets are 0 and masks sigmoid(0) = 1/2, so the weights
  are doubled.
- :class:`Blend` for any layer: its gate is closed.
- A block that starts as the identity, such as :class:`NonLocal`, whose last BatchNorm starts at 0.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from yolograft.blocks.blend import Blend
from yolograft.blocks.deform import DeformConv
from yolograft.blocks.sk import SKConv
from yolograft.blocks.spd import SPDConv

#: What may differ between two layers that are the same: states, and what the host sets.
_STATES = {"training", "inplace", "eps", "momentum", "i", "f", "np", "type", "legacy"}


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


def carry(new: nn.Module, old: nn.Module) -> Carried | None:
    """Return an old layer's tensors, as the new layer has to hold them.

    Args:
        new: The layer to fill.
        old: The trained layer.

    Returns:
        The tensors, or ``None`` if the new layer neither is the old one nor takes its place.
    """
    if isinstance(new, Blend) and not isinstance(old, Blend):
        return _blend(new, old)
    for cls, rule in ((SPDConv, _spd), (DeformConv, _deform), (SKConv, _sk)):
        if isinstance(new, cls) and _is_conv(old):
            return rule(new, old)
    if _is_gated(new) and not isinstance(old, nn.Sequential):
        return _gated(new, old)
    if type(new) is not type(old):
        return Carried(fresh=[""]) if _is_foreign(new) else None
    return _same(new, old)


def _same(new: nn.Module, old: nn.Module) -> Carried | None:
    """Return the tensors of a layer that is the old one, but perhaps for blocks inside it."""
    mine, theirs = _own(new), _own(old)
    if {k: v.shape for k, v in mine.items()} != {k: v.shape for k, v in theirs.items()}:
        return None
    if _differ(vars(new), vars(old)):
        return None
    inner, outer = dict(new.named_children()), dict(old.named_children())
    if inner.keys() != outer.keys():
        return None
    carried = Carried(dict(theirs), {k: k for k in theirs})
    for name, child in inner.items():
        part = carry(child, outer[name])
        if part is None and (child.state_dict() or outer[name].state_dict()):
            return None
        if part is None:  # another activation, say
            continue
        carried.add(name, name, part)
    return carried


def _own(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's tensors, without those of its children."""
    own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers("", False))}
    return {k: v.detach() for k, v in own.items() if k not in module._non_persistent_buffers_set}


def _differ(new: dict, old: dict) -> bool:
    """Tell whether two modules' attributes say that they do different things.

    An attribute that one of them lacks is one that the other's release added or dropped.
    """
    plain = (bool, int, float, str, tuple)
    return any(
        isinstance(value, plain) and value != old.get(name, value)
        for name, value in new.items()
        if not name.startswith("_") and name not in _STATES
    )


def _is_foreign(module: nn.Module) -> bool:
    """Tell whether a module is a block: the pack's, or somebody else's."""
    if isinstance(module, nn.Sequential) and len(module):
        module = module[0]
    return type(module).__module__.partition(".")[0] not in ("ultralytics", "torch")


def _is_conv(module: nn.Module) -> bool:
    """Tell whether a module is a convolution with BatchNorm and activation, and nothing else."""
    children = dict(module.named_children())
    return (
        children.keys() == {"conv", "bn", "act"}
        and type(children["conv"]) is nn.Conv2d
        and isinstance(children["bn"], nn.BatchNorm2d)
    )


def _is_gated(module: nn.Module) -> bool:
    """Tell whether a module is a bottleneck's convolution and the block behind it."""
    return (
        isinstance(module, nn.Sequential)
        and len(module) == 2
        and _is_conv(module[0])
        and _is_foreign(module[1:])
    )


def is_identity(module: nn.Module, c: int) -> bool:
    """Tell whether a module returns what it gets, by trying it on random numbers.

    Args:
        module: Any layer.
        c: Channels that it takes.
    """
    like = next(module.parameters(), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, c, 12, 8, generator=generator).to(like)
    try:
        with torch.no_grad():
            y = deepcopy(module).eval()(x)
    except (RuntimeError, ValueError):  # it wants other sizes
        return False
    return y.shape == x.shape and bool((y - x).abs().max() < 1e-5)


# --------------------------------------------------------------------------------------- the rules


def _blend(new: Blend, old: nn.Module) -> Carried | None:
    before = carry(new.old, old)
    if before is None or before.fresh:
        block = carry(new.new, old)  # the block itself, trained without a gate
        if block is None or block.fresh:
            return before
        carried = Carried({"gamma": torch.ones_like(new.gamma)}, exact=1)
        carried.add("new", "", block)
        return carried
    carried = Carried({"gamma": torch.zeros_like(new.gamma)}, exact=1)
    carried.add("old", "", before)
    block = carry(new.new, old)
    if block:  # the block starts from what it can use of the old layer, too
        carried.tensors |= {f"new.{k}": v for k, v in block.tensors.items()}
    return carried


def _gated(new: nn.Sequential, old: nn.Module) -> Carried | None:
    conv, gate = new
    before = carry(conv, old)
    if before is None:
        return None
    carried = Carried()
    carried.add("0", "", before)
    carried.add("1", "", added(gate, conv.conv.out_channels))
    return carried


def added(block: nn.Module, c: int) -> Carried:
    """Return the tensors of a block that was added: a closed gate, if it has one.

    Args:
        block: The block.
        c: Its channels.
    """
    if isinstance(block, Blend):
        return Carried({"gamma": torch.zeros_like(block.gamma)}, exact=1)
    return Carried(exact=1) if is_identity(block, c) else Carried(fresh=[""])


def _filled(new: nn.Module, old: nn.Module, weight: Tensor, prefix: str) -> Carried | None:
    """Return a convolution's tensors with another weight, if the new layer has room for them."""
    conv, bn = f"{prefix}conv.weight", f"{prefix}bn."
    state = new.state_dict()
    if conv not in state or state[conv].shape != weight.shape or f"{bn}weight" not in state:
        return Carried(fresh=[""])
    carried = Carried({conv: weight}, {conv: "conv.weight"})
    carried.add(bn[:-1], "bn", Carried(_own(old.bn), {k: k for k in _own(old.bn)}))
    return carried


def _acts_alike(new: nn.Module, old: nn.Module) -> bool:
    return type(new.act) is type(old.act) and not _differ(vars(new.act), vars(old.act))


def _spd(new: SPDConv, old: nn.Module) -> Carried:
    conv, size = old.conv, new.conv.conv.kernel_size[0]
    (k, _), (pad, _) = conv.kernel_size, conv.padding
    square = len({*conv.kernel_size}) == len({*conv.padding}) == 1 and conv.bias is None
    plain = conv.stride == (2, 2) and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    reach = [((t - pad) // 2 + size // 2, (t - pad) % 2) for t in range(k)]  # where, phase
    halves = k - 2 * pad in (1, 2)
    if not (square and plain and halves and all(0 <= at < size for at, _ in reach)):
        return Carried(fresh=[""])
    dense = _dense(conv)
    c2, c1 = dense.shape[:2]
    weight = dense.new_zeros(c2, 4 * c1, size, size)
    for row, (y, dy) in enumerate(reach):
        for col, (x, dx) in enumerate(reach):
            phase = c1 * (dy + 2 * dx)
            weight[:, phase : phase + c1, y, x] = dense[:, :, row, col]
    return _done(_filled(new, old, weight, "conv."), new.conv, old)


def _dense(conv: nn.Conv2d) -> Tensor:
    """Return a convolution's weight without groups."""
    weight = conv.weight.detach()
    if conv.groups == 1:
        return weight
    rows, cols = weight.shape[0] // conv.groups, weight.shape[1]
    dense = weight.new_zeros(weight.shape[0], cols * conv.groups, *weight.shape[2:])
    for g in range(conv.groups):
        dense[g * rows : (g + 1) * rows, g * cols : (g + 1) * cols] = weight[
            g * rows : (g + 1) * rows
        ]
    return dense


def _deform(new: DeformConv, old: nn.Module) -> Carried:
    mine, conv = new.conv, old.conv
    names = ("stride", "padding", "dilation", "groups", "kernel_size")
    if any(getattr(mine, name) != getattr(conv, name) for name in names) or conv.bias is not None:
        return Carried(fresh=[""])
    masked = len(mine.split) == 2
    carried = _filled(new, old, conv.weight.detach() * (2 if masked else 1), "")
    if not carried.fresh:
        zeros = {f"conv.offset.{k}": torch.zeros_like(v) for k, v in _own(mine.offset).items()}
        carried.tensors |= zeros
        if mine.bias is not None:
            carried.tensors["conv.bias"] = torch.zeros_like(mine.bias)
    return _done(carried, new, old)


def _sk(new: SKConv, old: nn.Module) -> Carried:
    """Give the old convolution to the first branch; the block is another all the same."""
    first = new.branches[0]
    names = ("stride", "padding", "dilation", "groups")
    if any(getattr(first.conv, name) != getattr(old.conv, name) for name in names):
        return Carried(fresh=[""])
    carried = _filled(new, old, old.conv.weight.detach(), "branches.0.")
    carried.fresh = [""]
    return carried


def _done(carried: Carried, new: nn.Module, old: nn.Module) -> Carried:
    """Count a block as exact, unless its activation is another, or its BatchNorm's eps."""
    if not carried.fresh:
        if _acts_alike(new, old) and new.bn.eps == old.bn.eps:
            carried.exact = 1
        else:
            carried.fresh = [""]
    return carried


STATES, own, is_foreign, is_gated = _STATES, _own, _is_foreign, _is_gated
