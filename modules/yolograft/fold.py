"""Fold BatchNorm into the convolution in front of it, in blocks whose code is not known.

Plain PyTorch. The order of layers is seen in a run, and a second run in double precision shows
whether the block still returns the same: what cannot be shown stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.parametrize import is_parametrized

#: Image sizes of the run: some blocks accept the usual one only.
_SIZES = 128, 640


def has_norm(block: nn.Module) -> bool:
    """Tell whether a block holds BatchNorm."""
    return any(isinstance(m, _BatchNorm) for m in block.modules())


@torch.no_grad()
def fold(
    model: nn.Module, blocks: Collection[nn.Module], skipped: Collection[nn.Module], channels: int
) -> None:
    """Fold BatchNorm in blocks of a model, where a copy of the model shows that it fits.

    A pair is a convolution and a BatchNorm that reads exactly its output, each called once. A
    block's pairs are folded if the block then returns the same for what it reads: all of them, or
    else those that pass one by one. A model that runs on no small image stays as it is.

    Args:
        model: The model, which takes an image.
        blocks: Modules in it.
        skipped: Layers in it that others fold.
        channels: Channels of the image.
    """
    for size in _SIZES:
        try:
            copy = deepcopy(model).eval()
            own = dict(zip(copy.modules(), model.modules(), strict=True))
            like = next(copy.parameters())
            image = torch.rand(1, channels, size, size).to(like.device, like.dtype)
            calls, pairs = _observe(copy, [c for c, m in own.items() if m in blocks], image)
        except Exception:
            continue
        pairs = [pair for pair in pairs if not {*map(own.get, pair)} & {*skipped}]
        for block, args in calls.items():
            inside = {*block.modules()}
            kept = mine = [pair for pair in pairs if {*pair} <= inside]
            if mine and not _holds(block, mine, args):
                kept = [pair for pair in mine if _holds(block, [pair], args)]
                kept = kept if _holds(block, kept, args) else []
            for pair in kept:
                _fold_pair(block, *pair)
                _fold_pair(own[block], *map(own.get, pair))
                pairs.remove(pair)  # blocks may be nested
        return


def _observe(
    model: nn.Module, blocks: list[nn.Module], image: Tensor
) -> tuple[dict[nn.Module, tuple], list[tuple[nn.Module, nn.Module]]]:
    """Run a model; return what each block read, and the pairs of convolution and BatchNorm."""
    calls, made, pairs, count = {}, {}, [], Counter()

    def before_block(block, args):
        calls[block] = deepcopy(args)  # some blocks write into what they read

    def after_conv(conv, args, result):
        count[conv] += 1
        made[id(result)] = conv, result  # held, so that no other tensor gets the id

    def before_norm(bn, args):
        count[bn] += 1
        if id(args[0]) in made:
            pairs.append((made[id(args[0])][0], bn))

    special = {m for m in model.modules() if _is_special(m)}
    handles = [block.register_forward_pre_hook(before_block) for block in blocks]
    for module in model.modules():
        if isinstance(module, _ConvNd):
            handles.append(module.register_forward_hook(after_conv))
        elif isinstance(module, _BatchNorm):
            handles.append(module.register_forward_pre_hook(before_norm))
    model(image)
    for handle in handles:
        handle.remove()
    return calls, [p for p in pairs if all(count[m] == 1 and m not in special for m in p)]


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

    It reads what it has read in the run, then the same with the sign changed and stretched: what an
    activation cuts off in one of them shows in the other.
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
    norm = bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    transposed = isinstance(conv, _ConvTransposeNd)
    conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *norm, transposed)
    conv.requires_grad_(False)
    after = [*bn.children()]  # timm's BatchNorm holds the activation
    rest = nn.Sequential(*after) if after else nn.Identity()
    rest.training = bn.training
    for parent in root.modules():
        for name, child in parent._modules.items():
            if child is bn:
                parent._modules[name] = rest
