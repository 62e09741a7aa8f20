"""Strip Pooling, and the Mixed Pooling Module of the same paper."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._row import Row, unit


class _NaiveStrip(nn.Module):
    """Pooled strips, resized to the whole map before they are added."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.pool_h = nn.AdaptiveAvgPool2d((None, 1))
        self.pool_w = nn.AdaptiveAvgPool2d((1, None))
        self.rows = unit(block.rows)
        self.cols = unit(block.cols)
        self.mix = deepcopy(block.mix)
        self.relu = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        rows = F.interpolate(self.rows(self.pool_h(x)), size)
        cols = F.interpolate(self.cols(self.pool_w(x)), size)
        return x * self.mix(self.relu(rows + cols)).sigmoid()


class _NaiveMixed(nn.Module):
    """Pooling modules and ``interpolate``, path by path."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(size) for size in block.sizes)
        self.pool_h = nn.AdaptiveAvgPool2d((None, 1))
        self.pool_w = nn.AdaptiveAvgPool2d((1, None))
        self.short_in = unit(block.short_in)
        self.long_in = unit(block.long_in)
        self.short = unit(block.short)
        self.windows = nn.ModuleList(unit(window) for window in block.windows)
        self.cols = unit(block.cols)
        self.rows = unit(block.rows)
        self.short_out = unit(block.short_out)
        self.long_out = unit(block.long_out)
        self.mix = unit(block.mix)

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = self.short_in(x), self.long_in(x)

        def resize(y: Tensor) -> Tensor:
            return F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=True)

        short = [self.short(x1)]
        for pool, window in zip(self.pools, self.windows, strict=True):
            short.append(resize(window(pool(x1))))
        cols = resize(self.cols(self.pool_w(x2)))
        rows = resize(self.rows(self.pool_h(x2)))
        x1 = self.short_out(F.relu(sum(short)))
        x2 = self.long_out(F.relu(rows + cols))
        return F.relu(x + self.mix(torch.cat([x1, x2], dim=1)))


ROWS = {"StripPooling": Row(_NaiveStrip, floor=True), "MixedPooling": Row(_NaiveMixed)}
