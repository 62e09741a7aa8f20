"""The blocks as one would write them first: the yardstick of ``bench.py``.

Each takes one of the pack's blocks and copies its weights, so that both compute the same function.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn


def _unit(layer: nn.Module) -> nn.Sequential:
    """Return convolution, BatchNorm and activation as three modules in a row."""
    return nn.Sequential(deepcopy(layer.conv), deepcopy(layer.bn), deepcopy(layer.act))


def _pointwise(linear: nn.Linear) -> nn.Conv2d:
    """Return a linear layer as a 1x1 convolution."""
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1)
    conv.weight = nn.Parameter(linear.weight.detach()[:, :, None, None].clone())
    conv.bias = nn.Parameter(linear.bias.detach().clone())
    return conv


class Branches(nn.Module):
    """The branch convolutions of a selective kernel block and nothing else."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.branches = deepcopy(block.branches)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the map of each branch."""
        return [branch(x) for branch in self.branches]


class SKConv(nn.Module):
    """Selective kernels over one stacked tensor of all branch maps, with a layer per branch."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(_unit(branch) for branch in block.branches)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = _unit(block.squeeze)
        weights = block.select.weight.detach().flatten(1).chunk(len(self.branches))
        self.fcs = nn.ModuleList()
        for weight in weights:
            fc = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            fc.weight = nn.Parameter(weight.clone())
            self.fcs.append(fc)
        self.softmax = nn.Softmax(dim=0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed map."""
        maps = torch.stack([branch(x) for branch in self.branches])
        z = self.squeeze(self.pool(maps.sum(0))).flatten(1)
        weights = self.softmax(torch.stack([fc(z) for fc in self.fcs]))
        return (maps * weights[..., None, None]).sum(0)


class CBAM(nn.Module):
    """Both gates, with pooling modules and gates expanded to the shape of the map."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.max_pool = nn.AdaptiveMaxPool2d(1)
        self.mlp = nn.Sequential(_pointwise(block.mlp[0]), nn.ReLU(), _pointwise(block.mlp[2]))
        self.spatial = _unit(block.spatial)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map."""
        gate = self.sigmoid(self.mlp(self.avg_pool(x)) + self.mlp(self.max_pool(x)))
        x = x * gate.expand_as(x)
        maximum, _ = torch.max(x, dim=1, keepdim=True)
        mean = torch.mean(x, dim=1, keepdim=True)
        gate = self.spatial(torch.cat([maximum, mean], dim=1))
        return x * gate.expand_as(x)


class SpaceToDepth(nn.Module):
    """Four strided slices, concatenated."""

    def __init__(self, block: nn.Module):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return the stacked phases of a map of even size."""
        return torch.cat([x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)], dim=1)


class SPDConv(nn.Module):
    """Slices as above, then convolution, BatchNorm and activation."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.slices = SpaceToDepth(block.spd)
        self.conv = _unit(block.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Return the down-sampled map."""
        return self.conv(self.slices(x))
