"""Strip pooling and mixed pooling.

Paper: Hou et al., "Strip Pooling: Rethinking Spatial Pooling for Scene Parsing", CVPR 2020,
https://arxiv.org/abs/2003.13328.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolograft.blocks import _layers
from yolograft.blocks._row import Block


class StripPooling(nn.Module):
    """Scale every position by a gate computed from the means of its row and of its column.

    Paper: Hou et al., CVPR 2020, https://arxiv.org/abs/2003.13328, Eq. 1-5::

        y  = BN(conv_3x1(mean_W x)) + BN(conv_1x3(mean_H x))   broadcast to H x W
        x' = x * sigmoid(W ReLU(y))

    Args:
        c: Input and output channels.

    Shape:
        - Input, output: ``(B, c, H, W)``

    Raises:
        TypeError: If ``c`` is not an ``int``.
        ValueError: If ``c`` is below 1.

    Differs from the paper: for one image in training, BatchNorm over a strip of a single value uses
    its running statistics.
    """

    def __init__(self, c: int):
        super().__init__()
        _layers.check_int("StripPooling", c=c)
        self.rows = _layers.ConvNormAct(c, c, (3, 1))
        self.cols = _layers.ConvNormAct(c, c, (1, 3))
        self.mix = nn.Conv2d(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map."""
        rows = self.rows(_layers.mean(x, 3, keepdim=True))
        cols = self.cols(_layers.mean(x, 2, keepdim=True))
        # In place: a convolution does not need its result for the gradient.
        return x * self.mix((rows + cols).relu_()).sigmoid_()


class MixedPooling(nn.Module):
    """Residual block of two paths: pooled windows of two sizes, and pooled rows and columns.

    Paper: Hou et al., CVPR 2020, https://arxiv.org/abs/2003.13328, Sec. 3.2, Fig. 3, with ``A`` and
    ``B`` of ``c // 4`` channels, ``pool_n`` to n x n windows, and ``up`` bilinear::

        A = ReLU(BN(W1 x))                                     short range
        S = BN(conv_3x3(A)) + up(BN(conv_3x3(pool_20 A))) + up(BN(conv_3x3(pool_12 A)))
        B = ReLU(BN(W2 x))                                     long range
        L = BN(conv_1x3(mean_H B)) + BN(conv_3x1(mean_W B))
        x' = ReLU(x + BN(W3 [CBR(ReLU(S)), CBR(ReLU(L))]))     CBR: 3x3, BN, ReLU

    Pooling and resizing are products with matrices worked out from the size of the map, so that the
    block exports at any size, and its gradient is deterministic.

    Args:
        c: Input and output channels, at least 4.
        sizes: The two window counts per side. They may exceed the map.

    Shape:
        - Input, output: ``(B, c, H, W)``

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If ``c`` is below 4, or ``sizes`` are not two numbers of at least 1.

    Differs from the paper: for one image in training, BatchNorm over a single value uses its
    running statistics.
    """

    def __init__(self, c: int, sizes: tuple[int, int] = (20, 12)):
        super().__init__()
        _layers.check_int("MixedPooling", 4, c=c)
        _layers.check_ints("MixedPooling", 2, sizes=sizes)
        inter = c // 4
        self.sizes = tuple(sizes)

        def layer(c1: int, c2: int, k: int | tuple[int, int], act: bool = False) -> nn.Module:
            return _layers.ConvNormAct(c1, c2, k, act=nn.ReLU(inplace=True) if act else None)

        self.short_in = layer(c, inter, 1, act=True)
        self.long_in = layer(c, inter, 1, act=True)
        self.short = layer(inter, inter, 3)
        self.windows = nn.ModuleList(layer(inter, inter, 3) for _ in sizes)
        self.cols = layer(inter, inter, (1, 3))
        self.rows = layer(inter, inter, (3, 1))
        self.short_out = layer(inter, inter, 3, act=True)
        self.long_out = layer(inter, inter, 3, act=True)
        self.mix = layer(2 * inter, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed map."""
        h, w = x.shape[2:]
        short, long = self.short_in(x), self.long_in(x)
        # Along the width, both sizes in one product: the maps are read and written once.
        columns = short @ torch.cat([_pool(w, n, x) for n in self.sizes]).T
        pooled = [
            _resize(n, h, x) @ window(_pool(h, n, x) @ part)
            for n, window, part in zip(
                self.sizes, self.windows, columns.split(self.sizes, 3), strict=True
            )
        ]
        spread = torch.cat([_resize(n, w, x) for n in self.sizes], dim=1).T
        # In place: neither convolution nor BatchNorm needs its result for the gradient.
        short = self.short(short).add_(torch.cat(pooled, dim=3) @ spread).relu_()
        rows = self.rows(_layers.mean(long, 3, keepdim=True))
        cols = self.cols(_layers.mean(long, 2, keepdim=True))
        long = (rows + cols).relu_()
        both = torch.cat((self.short_out(short), self.long_out(long)), dim=1)
        return (x + self.mix(both)).relu_()


def _pool(length: int, n: int, like: Tensor) -> Tensor:
    """Return the ``(n, length)`` matrix whose product is adaptive average pooling to ``n``."""
    window = torch.arange(n, device=like.device)[:, None]
    position = torch.arange(length, device=like.device)
    start, end = window * length // n, ((window + 1) * length + n - 1) // n
    inside = (position >= start) & (position < end)
    return inside.to(like.dtype) / (end - start)


def _resize(n: int, length: int, like: Tensor) -> Tensor:
    """Return the ``(length, n)`` matrix whose product is linear resizing with aligned corners."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    source = torch.arange(n, device=like.device, dtype=dtype)
    target = torch.arange(length, device=like.device, dtype=dtype)[:, None]
    steps = torch.clamp(target[-1:], min=1)
    return F.relu(1 - (target * (n - 1) / steps - source).abs()).to(like.dtype)


BLOCKS = (
    Block(
        StripPooling,
        role="attention",
        paper="2003.13328",
        aliases=("SPM",),
        config="yolov8-spm.yaml",
    ),
    Block(
        MixedPooling,
        role="attention",
        paper="2003.13328",
        aliases=("MPM",),
        config="yolov8-mpm.yaml",
    ),
)
