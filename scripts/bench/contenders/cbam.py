"""CBAM."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._row import Public, Row, load, unit


def _naive(block: nn.Module, x: Tensor) -> Tensor:
    """Gates by 1x1 convolutions, expanded to the shape of the map."""

    def mlp(y: Tensor) -> Tensor:
        first, _, last = block.mlp
        y = F.relu(F.conv2d(y, first.weight[..., None, None], first.bias))
        return F.conv2d(y, last.weight[..., None, None], last.bias)

    gate = (mlp(F.adaptive_avg_pool2d(x, 1)) + mlp(F.adaptive_max_pool2d(x, 1))).sigmoid()
    x = x * gate.expand_as(x)
    maximum, _ = torch.max(x, dim=1, keepdim=True)
    mean = torch.mean(x, dim=1, keepdim=True)
    gate = unit(block.spatial, torch.cat([maximum, mean], dim=1))
    return x * gate.expand_as(x)


def _timm(cls: type, block: nn.Module) -> nn.Module:
    hidden, c = block.mlp[0].weight.shape
    module = cls(c, rd_channels=hidden, mlp_bias=True)
    # its gate per position reads [mean, max], not [max, mean]
    return load(module, block.mlp, block.spatial.conv.weight.flip(1), block.spatial.bn)


ROWS = {"CBAM": Row(_naive, Public("timm.layers.cbam.CbamModule", _timm), floor=True)}
