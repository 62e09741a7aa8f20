"""Coordinate Attention.

Paper: Hou et al., "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021,
https://arxiv.org/abs/2103.02907.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from yolograft.blocks import _layers
from yolograft.blocks._row import Block, NoGradient


class CoordAtt(nn.Module):
    """Scale by a gate per row and a gate per column, both computed from all rows and columns.

    Paper: Hou et al., CVPR 2021, https://arxiv.org/abs/2103.02907, Eq. 4-9::

        f_h, f_w = hardswish(BN(W1 [mean_W x, mean_H x]))      H, then W positions
        x'       = x * sigmoid(W_h f_h) * sigmoid(W_w f_w)

    Args:
        c: Input and output channels.
        reduction: Hidden width is ``max(c // reduction, 8)``.

    Shape:
        - Input, output: ``(B, c, H, W)``

    Raises:
        TypeError: If an argument is not an ``int``.
        ValueError: If an argument is below 1.

    Differs from the paper's text, as the authors' code does: the maps have a bias, the hidden width
    is at least 8, and its activation is hard-swish.
    """

    def __init__(self, c: int, reduction: int = 32):
        super().__init__()
        _layers.check_int("CoordAtt", c=c, reduction=reduction)
        hidden = max(c // reduction, 8)
        self.mix = _layers.ConvNormAct(c, hidden, 1, act=nn.Hardswish(inplace=True), bias=True)
        self.rows = nn.Conv2d(hidden, c, 1)
        self.cols = nn.Conv2d(hidden, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map."""
        h = x.shape[2]
        pooled = torch.cat((_layers.mean(x, 3), _layers.mean(x, 2)), dim=2)
        mixed = self.mix(pooled.unsqueeze(3))
        rows = self.rows(mixed[:, :, :h]).sigmoid().type_as(x)
        cols = self.cols(mixed[:, :, h:].transpose(2, 3)).sigmoid().type_as(x)
        if _layers.captured():
            return x * rows * cols
        return _Scale.apply(x, rows, cols)


class _Scale(torch.autograd.Function):
    """The product of a map and its gates, with a gradient that stores one map less."""

    @staticmethod
    def forward(x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        return _product(x, rows, cols)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, rows, cols = ctx.saved_tensors
        both = grad * x
        return (
            _product(grad, rows, cols),
            both @ cols.transpose(2, 3),
            rows.transpose(2, 3) @ both,
        )


def _product(x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    out = x * rows
    # In place unless someone differentiates the gradient, who needs the factor.
    return out * cols if torch.is_grad_enabled() else out.mul_(cols)


BLOCKS = (
    Block(
        CoordAtt,
        role="attention",
        paper="2103.02907",
        aliases=("CA",),
        config="yolov8-ca.yaml",
        no_gradient=(NoGradient("mix.conv.bias", "BatchNorm removes it again in training"),),
    ),
)
