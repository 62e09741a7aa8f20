"""Selective Kernels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._row import Public, Row, load, unit


def _branches(block: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the map of each branch, and do nothing else."""
    return [branch(x) for branch in block.branches]


def _naive(block: nn.Module, x: Tensor) -> Tensor:
    """One stacked tensor of all branch maps, and a linear layer per branch."""
    maps = torch.stack([unit(branch, x) for branch in block.branches])
    z = unit(block.squeeze, F.adaptive_avg_pool2d(maps.sum(0), 1)).flatten(1)
    layers = block.select.weight.flatten(1).chunk(len(maps))
    weights = torch.stack([F.linear(z, layer) for layer in layers]).softmax(0)
    return (maps * weights[..., None, None]).sum(0)


def _naive_unit(block: nn.Module, x: Tensor) -> Tensor:
    """Bottleneck around the naive selective kernels."""
    y = unit(block.leave, _naive(block.sk, unit(block.enter, x)))
    return F.relu(y + block.shortcut(x), inplace=True)


def _timm(cls: type, block: nn.Module) -> nn.Module:
    conv = block.branches[0].conv
    module = cls(
        conv.in_channels,
        conv.out_channels,
        split_input=False,
        rd_channels=block.squeeze.conv.out_channels,
        act_layer=type(block.branches[0].act),
    )
    return load(module, block)


def _timm_unit(cls: type, block: nn.Module) -> nn.Module:
    c, inter = block.leave.conv.weight.shape[:2]
    groups = block.sk.branches[0].conv.groups
    module = cls(
        block.enter.conv.in_channels,
        c // cls.expansion,
        cardinality=groups,
        base_width=64 * inter * cls.expansion // (groups * c),
        sk_kwargs={"split_input": False, "rd_channels": block.sk.squeeze.conv.out_channels},
    )
    return load(module, block)


ROWS = {
    "SKConv": Row(_naive, Public("timm.layers.SelectiveKernel", _timm), parts=_branches),
    "SKUnit": Row(_naive_unit, Public("timm.models.sknet.SelectiveKernelBottleneck", _timm_unit)),
}
