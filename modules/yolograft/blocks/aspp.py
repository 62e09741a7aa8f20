"""Atrous Spatial Pyramid Pooling.

Paper: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017,
https://arxiv.org/abs/1706.05587.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yolograft.blocks import _layers
from yolograft.blocks._row import Block


class ASPP(nn.Module):
    """Convolutions at several dilations and the mean of the map, side by side, then projected.

    Paper: Chen et al., https://arxiv.org/abs/1706.05587, Sec. 3.3, ``f`` short for convolution,
    BatchNorm and ReLU, each with weights of its own::

        y = f_1x1([f_1x1(x), f_3x3 at each rate(x), f_1x1(mean_HW x)])

    Args:
        c1: Input channels.
        c2: Channels of the output, and of each branch.
        rates: Dilations of the 3x3 convolutions. The paper's are for stride 16; at stride 32
            ``(3, 6, 9)`` reach as far. On a map no larger than its rate, a convolution sees only
            its centre.

    Shape:
        - Input: ``(B, c1, H, W)``
        - Output: ``(B, c2, H, W)``

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a width or rate is below 1, or there is no rate.

    Differs from the paper: for one image in training, the BatchNorm behind the mean, which then
    sees a single value per channel, uses its running statistics.
    """

    def __init__(self, c1: int, c2: int, rates: tuple[int, ...] = (6, 12, 18)):
        super().__init__()
        _layers.check_int("ASPP", c1=c1, c2=c2)
        _layers.check_ints("ASPP", rates=rates)
        self.branches = nn.ModuleList(
            _layers.ConvNormAct(c1, c2, k, d=d, act=nn.ReLU(inplace=True))
            for k, d in [(1, 1), *((3, rate) for rate in rates)]
        )
        self.pool = _layers.ConvNormAct(c1, c2, 1, act=nn.ReLU(inplace=True))
        self.project = _layers.ConvNormAct((len(rates) + 2) * c2, c2, 1, act=nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return the projected map."""
        maps = [branch(x) for branch in self.branches]
        pooled = self.pool(_layers.mean(x, 2, 3, keepdim=True))
        return self.project(torch.cat((*maps, pooled.expand_as(maps[0])), 1))


BLOCKS = (Block(ASPP, role="conv", paper="1706.05587", config="yolov8-aspp.yaml"),)
