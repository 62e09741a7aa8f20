"""Coordinate Attention."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._row import Public, Row, load, unit


def _naive(block: nn.Module, x: Tensor) -> Tensor:
    """Adaptive pooling of rows and columns, concatenated and split again."""
    _, _, h, w = x.size()
    x_h = F.adaptive_avg_pool2d(x, (None, 1))
    x_w = F.adaptive_avg_pool2d(x, (1, None)).permute(0, 1, 3, 2)
    x_h, x_w = torch.split(unit(block.mix, torch.cat([x_h, x_w], dim=2)), [h, w], dim=2)
    a_h = block.rows(x_h).sigmoid()
    a_w = block.cols(x_w.permute(0, 1, 3, 2)).sigmoid()
    return x * a_w * a_h


def _timm(cls: type, block: nn.Module) -> nn.Module:
    hidden, c = block.mix.conv.weight.shape[:2]
    return load(cls(c, rd_channels=hidden, bias=True), block)


ROWS = {
    "CoordAtt": Row(_naive, Public("timm.layers.coord_attn.CoordAttn", _timm), floor=True),
}
