"""Squeeze-and-Excitation."""

import torch.nn.functional as F
from torch import Tensor, nn

from ._row import Public, Row, load


def _naive(block: nn.Module, x: Tensor) -> Tensor:
    """Linear layers, and the gate expanded to the shape of the map."""
    b, c, _, _ = x.size()
    y = F.adaptive_avg_pool2d(x, 1).view(b, c)
    y = F.relu(F.linear(y, block.squeeze.weight.flatten(1), block.squeeze.bias), inplace=True)
    gate = F.linear(y, block.excite.weight.flatten(1), block.excite.bias).sigmoid()
    return x * gate.view(b, c, 1, 1).expand_as(x)


def _timm(cls: type, block: nn.Module) -> nn.Module:
    hidden, c = block.squeeze.weight.shape[:2]
    return load(cls(c, rd_channels=hidden), block)


def _torchvision(cls: type, block: nn.Module) -> nn.Module:
    hidden, c = block.squeeze.weight.shape[:2]
    return load(cls(c, hidden), block)


ROWS = {
    "SE": Row(
        _naive,
        Public("timm.layers.SEModule", _timm),
        Public("torchvision.ops.SqueezeExcitation", _torchvision),
        floor=True,
    )
}
