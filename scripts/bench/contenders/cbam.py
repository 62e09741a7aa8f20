"""CBAM."""

import torch
from torch import Tensor, nn

from ._row import Public, Row, load, unit


class _Naive(nn.Module):
    """Both gates, with pooling modules and gates expanded to the shape of the map."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.max_pool = nn.AdaptiveMaxPool2d(1)
        self.mlp = nn.Sequential(_pointwise(block.mlp[0]), nn.ReLU(), _pointwise(block.mlp[2]))
        self.spatial = unit(block.spatial)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        gate = self.sigmoid(self.mlp(self.avg_pool(x)) + self.mlp(self.max_pool(x)))
        x = x * gate.expand_as(x)
        maximum, _ = torch.max(x, dim=1, keepdim=True)
        mean = torch.mean(x, dim=1, keepdim=True)
        gate = self.spatial(torch.cat([maximum, mean], dim=1))
        return x * gate.expand_as(x)


def _pointwise(linear: nn.Linear) -> nn.Conv2d:
    """Return a linear layer as a 1x1 convolution."""
    return load(nn.Conv2d(linear.in_features, linear.out_features, 1), linear)


def _timm(cls: type, block: nn.Module) -> nn.Module:
    hidden, c = block.mlp[0].weight.shape
    module = cls(c, rd_channels=hidden, mlp_bias=True)
    # its gate per position reads [mean, max], not [max, mean]
    return load(module, block.mlp, block.spatial.conv.weight.flip(1), block.spatial.bn)


ROWS = {"CBAM": Row(_Naive, Public("timm.layers.cbam.CbamModule", _timm), floor=True)}
