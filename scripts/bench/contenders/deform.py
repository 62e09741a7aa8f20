"""Deformable convolution."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from ._row import Public, Row, load


def _naive(block: nn.Module, x: Tensor) -> Tensor:
    """One convolution for offsets and masks, split and concatenated again."""
    conv = block.conv
    o1, o2, mask = torch.chunk(conv.offset(x), 3, dim=1)
    offset = torch.cat((o1, o2), dim=1)
    x = deform_conv2d(
        x, offset, conv.weight, None, conv.stride, conv.padding, conv.dilation, mask.sigmoid()
    )
    return block.act(block.bn(x))


class _Torchvision(nn.Module):
    """Two convolutions for offsets and masks, the library's layer, BatchNorm, activation."""

    def __init__(self, cls: type, block: nn.Module):
        super().__init__()
        conv, offset = block.conv, block.conv.offset
        shape = {k: getattr(conv, k) for k in ("kernel_size", "stride", "padding", "dilation")}
        weights, biases = (t.split(conv.split) for t in (offset.weight, offset.bias))

        def part(which: int) -> nn.Module:
            module = nn.Conv2d(conv.in_channels, len(biases[which]), **shape)
            return load(module, weights[which], biases[which])

        self.offset = part(0)
        self.mask = part(1)
        self.conv = cls(conv.in_channels, conv.out_channels, **shape, bias=False)
        load(self.conv, conv.weight)
        self.bn = deepcopy(block.bn)
        self.act = deepcopy(block.act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x, self.offset(x), self.mask(x).sigmoid())))


ROWS = {
    "DeformConv": Row(
        _naive,
        Public(
            "torchvision.ops.DeformConv2d",
            _Torchvision,
            "with convolutions for offsets and masks before it, BatchNorm and activation behind",
        ),
    )
}
