"""Convolutional Block Attention Module.

Paper: Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018,
https://arxiv.org/abs/1807.06521.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yolograft.blocks import _layers
from yolograft.blocks._row import Block


class CBAM(nn.Module):
    """Scale by a gate per channel, then by a gate per position.

    Paper: Woo et al., ECCV 2018, https://arxiv.org/abs/1807.06521, Eq. 1-3::

        x' = x  * sigmoid(MLP(mean_HW x) + MLP(max_HW x))
        x" = x' * sigmoid(BN(conv_k([max_C x', mean_C x'])))

    Args:
        c: Input and output channels.
        reduction: Hidden width of the MLP is ``max(c // reduction, 1)``.
        k: Kernel of the gate per position, odd.
        spatial: Whether to apply the gate per position.

    Shape:
        - Input, output: ``(B, c, H, W)``

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If ``c`` or ``reduction`` is below 1, or ``k`` is not odd.

    Differs from the paper's text, as the authors' code does: BatchNorm in the gate per position.
    """

    def __init__(self, c: int, reduction: int = 16, k: int = 7, spatial: bool = True):
        super().__init__()
        _layers.check_int("CBAM", c=c, reduction=reduction)
        _layers.check_kernel("CBAM", k)
        _layers.check_bool("CBAM", spatial=spatial)
        hidden = max(c // reduction, 1)
        self.mlp = nn.Sequential(nn.Linear(c, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, c))
        self.spatial = (
            _layers.ConvNormAct(2, 1, k, act=nn.Sigmoid(), momentum=0.01) if spatial else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map."""
        gate = self.mlp(_layers.mean(x, 2, 3)) + self.mlp(_layers.maximum(x, 2, 3))
        x = x * gate.sigmoid()[:, :, None, None]
        if self.spatial is not None:
            x = x * self.spatial(torch.stack((_layers.maximum(x, 1), _layers.mean(x, 1)), dim=1))
        return x


BLOCKS = (Block(CBAM, role="attention", paper="1807.06521", config="yolov8-cbam.yaml"),)
