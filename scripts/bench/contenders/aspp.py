"""Atrous Spatial Pyramid Pooling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._row import Public, Row, load, unit


def _naive(block: nn.Module, x: Tensor) -> Tensor:
    """A list of branches, the pooled one resized to the map, all concatenated."""
    maps = [unit(branch, x) for branch in block.branches]
    pooled = unit(block.pool, F.adaptive_avg_pool2d(x, 1))
    maps.append(F.interpolate(pooled, x.shape[2:], mode="bilinear", align_corners=True))
    return unit(block.project, torch.cat(maps, dim=1))


def _torchvision(cls: type, block: nn.Module) -> nn.Module:
    conv = block.branches[0].conv
    rates = [branch.conv.dilation[0] for branch in block.branches[1:]]
    module = cls(conv.in_channels, rates, conv.out_channels)
    module.project[3] = nn.Identity()
    return load(module, block)


ROWS = {
    "ASPP": Row(
        _naive,
        Public(
            "torchvision.models.segmentation.deeplabv3.ASPP", _torchvision, "without its dropout"
        ),
    )
}
