"""Atrous Spatial Pyramid Pooling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._row import Public, Row, load, unit


class _Naive(nn.Module):
    """A list of branches, the pooled one resized to the map, all concatenated."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(unit(branch) for branch in block.branches)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), unit(block.pool))
        self.project = unit(block.project)

    def forward(self, x: Tensor) -> Tensor:
        maps = [branch(x) for branch in self.branches]
        size = x.shape[2:]
        maps.append(F.interpolate(self.pool(x), size, mode="bilinear", align_corners=True))
        return self.project(torch.cat(maps, dim=1))


def _torchvision(cls: type, block: nn.Module) -> nn.Module:
    conv = block.branches[0].conv
    rates = [branch.conv.dilation[0] for branch in block.branches[1:]]
    module = cls(conv.in_channels, rates, conv.out_channels)
    module.project[3] = nn.Identity()
    return load(module, block)


ROWS = {
    "ASPP": Row(
        _Naive,
        Public(
            "torchvision.models.segmentation.deeplabv3.ASPP", _torchvision, "without its dropout"
        ),
    )
}
