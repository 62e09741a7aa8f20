"""Non-local blocks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._row import Public, Row, load, unit


def _naive(block: nn.Module, x: Tensor) -> Tensor:
    """Softmax of the matrix of all pairs of positions."""
    b, _, h, w = x.size()
    theta = block.theta(x).view(b, -1, h * w).permute(0, 2, 1)
    phi = block.phi(x).view(b, -1, h * w)
    g = block.g(x).view(b, -1, h * w).permute(0, 2, 1)
    weights = F.softmax(torch.matmul(theta, phi), dim=-1)
    y = torch.matmul(weights, g).permute(0, 2, 1).contiguous()
    return x + unit(block.out, y.view(b, -1, h, w))


def _timm(cls: type, block: nn.Module) -> nn.Module:
    inter, c = block.theta.weight.shape[:2]
    return load(cls(c, use_scale=False, rd_channels=inter), block)


def _mmcv(cls: type, block: nn.Module) -> nn.Module:
    inter, c = block.theta.weight.shape[:2]
    module = cls(c, reduction=c // inter, use_scale=False, norm_cfg={"type": "BN"})
    out = block.out.conv
    load(module, block.g, out.weight, block.out.bn, block.theta, block.phi)
    module.conv_out.bn.running_mean -= out.bias.detach()  # it has none before BatchNorm
    return module


ROWS = {
    "NonLocal": Row(
        _naive,
        Public("timm.layers.NonLocalAttn", _timm),
        Public("mmcv.cnn.bricks.NonLocal2d", _mmcv),
    )
}
