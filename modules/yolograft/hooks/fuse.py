"""Wrap ``BaseModel.fuse``: it folds BatchNorm into Ultralytics' convolutions, this into ours.

The gate of a warm start goes too, where it is still closed or fully open. A block of others is
fused by its own ``fuse()``, and BatchNorm behind a convolution in it is folded where a small run
shows that the outputs stay the same.

``BaseModel.is_fused`` goes with it: it looks for Ultralytics' convolutions, of which a model whose
rows are all ours has none.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.parametrize import is_parametrized

from yolograft import registry, trial
from yolograft.blocks._layers import ConvNormAct
from yolograft.blocks.blend import Blend
from yolograft.errors import refuse

#: Set on a block of others that has been fused: its own ``fuse()`` is called once.
_DONE = "_yolograft_fused"

#: Whose layers are no blocks of others; with these alone in a model, entry points are not read.
_KNOWN = ("torch.", "ultralytics.", "yolograft.")

#: Image sizes of the small run: some blocks take the usual one only.
_SIZES = 128, 640


def make(tasks: ModuleType, original: Callable) -> Callable:
    """Return a ``fuse`` that folds the layers inside our blocks first.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: ``BaseModel.fuse``.
    """

    def fuse(self, *args, **kwargs):
        for parent in list(self.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Blend):
                    setattr(parent, name, child.folded())
        for module in list(self.modules()):
            if type(module).__module__.startswith("yolograft.") and _has_own(module):
                module.fuse()
        _fuse_others(self)
        return original(self, *args, **kwargs)

    return fuse


def make_is_fused(tasks: ModuleType, original: Callable) -> Callable:
    """Return an ``is_fused`` that also looks at the layers inside our blocks.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: ``BaseModel.is_fused``.
    """

    def is_fused(self, *args, **kwargs):
        left = any(isinstance(m, ConvNormAct) and m.bn is not None for m in self.modules())
        left = left or any(_has_own(m) or _has_norm(m) for m in _others(self))
        return not left and original(self, *args, **kwargs)

    return is_fused


# --------------------------------------------------------------------------------- blocks of others


def _others(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of others in a model that are not fused yet."""
    foreign = [m for m in model.modules() if not type(m).__module__.startswith(_KNOWN)]
    known = registry.registered() if foreign else {}
    return [m for m in foreign if type(m) in known and _DONE not in vars(m)]


def _fuse_others(model: nn.Module) -> None:
    left = _others(model)
    if not left:
        return
    done = set()  # what stands in a block with a fuse() is that block's affair
    with trial.undisturbed():
        for block in left:
            if block not in done and _has_own(block):
                done.update(block.modules())
                _replace(model, block, _call(block))
        left = [block for block in _others(model) if _has_norm(block)]
        if left:
            with torch.no_grad():
                _fold(model, left)
    for block in _others(model):
        setattr(block, _DONE, True)


def _has_own(module: nn.Module) -> bool:
    """Tell whether a block has a ``fuse()`` that Ultralytics does not call itself."""
    if not callable(getattr(module, "fuse", None)):
        return False
    if any("fuse" in vars(c) for c in _host_classes(module)):
        return False
    arguments = inspect.signature(module.fuse).parameters.values()
    return all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in arguments)


def _call(block: nn.Module) -> Any:
    try:
        return block.fuse()
    except Exception as error:
        refuse(
            f"{type(block).__name__}: its fuse() failed: {type(error).__name__}: {error}",
            "correct it; a method of that name without arguments prepares a block for inference",
        )


def _replace(model: nn.Module, old: nn.Module, new: Any) -> None:
    """Put the module that a block's ``fuse()`` returned in its place; most return none."""
    if not isinstance(new, nn.Module) or new is old:
        return
    for name in trial.RESERVED:  # the host's, where it is a layer of a model
        if name in vars(old):
            setattr(new, name, getattr(old, name))
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)


# ------------------------------------------------------------------- BatchNorm behind a convolution


def _has_norm(block: nn.Module) -> bool:
    return any(isinstance(m, _BatchNorm) for m in block.modules())


def _fold(model: nn.Module, blocks: list[nn.Module]) -> None:
    """Fold BatchNorm into the convolutions of blocks, where a copy of the model shows that it fits.

    A pair is a convolution and a BatchNorm that reads its very output, each called once. A block's
    pairs are folded if it then returns the same for what it reads, all of them or else one by one.
    A model that runs on no small image stays as it is.
    """
    for size in _SIZES:
        try:
            copy = deepcopy(model).eval()
            own = dict(zip(copy.modules(), model.modules(), strict=True))
            calls, pairs = _observe(copy, [c for c, m in own.items() if m in blocks], size)
        except Exception:
            continue
        for block, args in calls.items():
            inside = {*block.modules()}
            mine = [(conv, bn) for conv, bn in pairs if conv in inside and bn in inside]
            kept = mine
            if mine and not _holds(block, kept, args):
                kept = [pair for pair in mine if _holds(block, [pair], args)]
                kept = kept if _holds(block, kept, args) else []
            for pair in kept:
                _fold_pair(block, *pair)
                _fold_pair(own[block], *map(own.get, pair))
                pairs.remove(pair)  # blocks may be nested
        return


def _observe(model: nn.Module, blocks: list[nn.Module], size: int) -> tuple[dict, list]:
    """Run a model on a random image.

    Returns:
        What each block read, and the pairs of convolution and BatchNorm.
    """
    calls, made, pairs, count, hooks = {}, {}, [], Counter(), []

    def before_block(block, args):
        calls[block] = deepcopy(args)  # some blocks write into what they read

    def after_conv(conv, args, result):
        count[conv] += 1
        made[id(result)] = conv, result  # held, so that no other tensor gets the id

    def before_norm(bn, args):
        count[bn] += 1
        if id(args[0]) in made:
            pairs.append((made[id(args[0])][0], bn))

    skipped = {m for m in model.modules() if _is_special(m)}
    skipped |= {c for m in model.modules() if _host_classes(m) for c in m.children()}
    for block in blocks:
        hooks.append(block.register_forward_pre_hook(before_block))
    for module in model.modules():
        if isinstance(module, _ConvNd):
            hooks.append(module.register_forward_hook(after_conv))
        elif isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(before_norm))
    like = next(model.parameters())
    channels = model.yaml.get("channels", 3)
    model(torch.rand(1, channels, size, size).to(like.device, like.dtype))
    for hook in hooks:
        hook.remove()
    pairs = [p for p in pairs if all(count[m] == 1 and m not in skipped for m in p)]
    return calls, pairs


def _host_classes(module: nn.Module) -> list[type]:
    return [c for c in type(module).__mro__ if c.__module__.startswith("ultralytics.")]


def _is_special(module: nn.Module) -> bool:
    """Tell whether more happens around a layer than its own work, or it cannot be folded."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or is_parametrized(module)
        or (isinstance(module, _BatchNorm) and module.running_mean is None)
        or (isinstance(module, _ConvTransposeNd) and module.groups != 1)
    )


def _holds(block: nn.Module, pairs: list[tuple], args: tuple) -> bool:
    """Tell whether a block returns the same with pairs folded, in double precision.

    It reads what it has read in the run, then the same turned and stretched: what is cut off by an
    activation in one of them shows in the other.
    """
    try:
        for scale in (1, -8):
            read = [x.double() * scale if isinstance(x, Tensor) else x for x in deepcopy(args)]
            before, after = deepcopy(block).double(), deepcopy(block).double()
            to_after = dict(zip(block.modules(), after.modules(), strict=True))
            for pair in pairs:
                _fold_pair(after, *map(to_after.get, pair))
            got, want = after(*deepcopy(read)), before(*read)
            torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
    except Exception:  # also where it does not run in double precision: nothing is shown then
        return False
    return True


def _fold_pair(root: nn.Module, conv: nn.Module, bn: nn.Module) -> None:
    turned = isinstance(conv, _ConvTransposeNd)
    norm = bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *norm, turned)
    conv.requires_grad_(False)
    after = [*bn.children()]  # timm's BatchNorm holds the activation
    rest = nn.Sequential(*after) if after else nn.Identity()
    rest.training = bn.training
    for parent in root.modules():
        for name, child in parent._modules.items():
            if child is bn:
                parent._modules[name] = rest
