"""A trained layer's tensors in the layer that takes its place.

Where the new layer can do what the old one did, its tensors are set so that it does, to the last
bits:

- a block that takes over a convolution exactly, by the rule that its file states
  (:class:`yolograft.blocks._row.Block`, ``take_over``);
- :class:`Blend` for any layer: its residual gate is closed;
- a block that starts as the identity, such as :class:`NonLocal`, whose last BatchNorm starts at 0.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from yolograft import registry
from yolograft.blocks._carry import Carried, differ, own
from yolograft.blocks.blend import Blend


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
    if _is_conv(old) and is_foreign(new):
        block = registry.of(type(new))
        if block is not None and block.take_over is not None:
            return block.take_over(new, old)
    if is_gated(new) and not isinstance(old, nn.Sequential):
        return _gated(new, old)
    if type(new) is not type(old):
        return Carried(fresh=[""]) if is_foreign(new) else None
    return _same(new, old)


def _same(new: nn.Module, old: nn.Module) -> Carried | None:
    """Return the tensors of a layer that is the old one, but perhaps for blocks inside it."""
    mine, theirs = own(new), own(old)
    if {k: v.shape for k, v in mine.items()} != {k: v.shape for k, v in theirs.items()}:
        return None
    if differ(vars(new), vars(old)):
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


def is_foreign(module: nn.Module) -> bool:
    """Tell whether a module is a block: the pack's, or somebody else's.

    Args:
        module: Any layer.
    """
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


def is_gated(module: nn.Module) -> bool:
    """Tell whether a module is a bottleneck's convolution and an attention block behind it.

    Args:
        module: Any layer.
    """
    return (
        isinstance(module, nn.Sequential)
        and len(module) == 2
        and _is_conv(module[0])
        and is_foreign(module[1:])
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


def _blend(new: Blend, old: nn.Module) -> Carried | None:
    before = carry(new.old, old)
    if before is None or before.fresh:
        block = carry(new.new, old)  # the block itself, trained without a residual gate
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
    conv, block = new
    before = carry(conv, old)
    if before is None:
        return None
    carried = Carried()
    carried.add("0", "", before)
    carried.add("1", "", added(block, conv.conv.out_channels))
    return carried


def added(block: nn.Module, c: int) -> Carried:
    """Return the tensors of a block that was added: a closed residual gate, if it has one.

    Args:
        block: The block.
        c: Its channels.
    """
    if isinstance(block, Blend):
        return Carried({"gamma": torch.zeros_like(block.gamma)}, exact=1)
    return Carried(exact=1) if is_identity(block, c) else Carried(fresh=[""])
