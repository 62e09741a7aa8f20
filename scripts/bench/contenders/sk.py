"""Selective Kernels."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from ._row import Public, Row, load, unit


class _Branches(nn.Module):
    """The branch convolutions of a selective kernel block and nothing else."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.branches = deepcopy(block.branches)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [branch(x) for branch in self.branches]


class _Naive(nn.Module):
    """Selective kernels over one stacked tensor of all branch maps, with a layer per branch."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(unit(branch) for branch in block.branches)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = unit(block.squeeze)
        weights = block.select.weight.detach().flatten(1).chunk(len(self.branches))
        self.fcs = nn.ModuleList(
            load(nn.Linear(*weight.shape[::-1], bias=False), weight) for weight in weights
        )
        self.softmax = nn.Softmax(dim=0)

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.stack([branch(x) for branch in self.branches])
        z = self.squeeze(self.pool(maps.sum(0))).flatten(1)
        weights = self.softmax(torch.stack([fc(z) for fc in self.fcs]))
        return (maps * weights[..., None, None]).sum(0)


class _NaiveUnit(nn.Module):
    """Bottleneck around the naive selective kernels."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.conv1 = unit(block.enter)
        self.conv2 = _Naive(block.sk)
        self.conv3 = unit(block.leave)
        self.shortcut = deepcopy(block.shortcut)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x))


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
    "SKConv": Row(_Naive, Public("timm.layers.SelectiveKernel", _timm), parts=_Branches),
    "SKUnit": Row(_NaiveUnit, Public("timm.models.sknet.SelectiveKernelBottleneck", _timm_unit)),
}
