"""Coordinate Attention."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from ._row import Public, Row, load, unit


class _Naive(nn.Module):
    """Pooling modules for rows and columns."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.pool_h = nn.AdaptiveAvgPool2d((None, 1))
        self.pool_w = nn.AdaptiveAvgPool2d((1, None))
        self.mix = unit(block.mix)
        self.conv_h = deepcopy(block.rows)
        self.conv_w = deepcopy(block.cols)

    def forward(self, x: Tensor) -> Tensor:
        _, _, h, w = x.size()
        x_h = self.pool_h(x)
        x_w = self.pool_w(x).permute(0, 1, 3, 2)
        x_h, x_w = torch.split(self.mix(torch.cat([x_h, x_w], dim=2)), [h, w], dim=2)
        a_h = self.conv_h(x_h).sigmoid()
        a_w = self.conv_w(x_w.permute(0, 1, 3, 2)).sigmoid()
        return x * a_w * a_h


def _timm(cls: type, block: nn.Module) -> nn.Module:
    hidden, c = block.mix.conv.weight.shape[:2]
    return load(cls(c, rd_channels=hidden, bias=True), block)


ROWS = {
    "CoordAtt": Row(_Naive, Public("timm.layers.coord_attn.CoordAttn", _timm), floor=True),
}
