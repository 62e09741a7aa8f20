"""Squeeze-and-Excitation.

Paper: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, https://arxiv.org/abs/1709.01507.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from yolograft.blocks import _layers
from yolograft.blocks._row import Block


class SE(nn.Module):
    """Scale each channel by a gate computed from the means of all channels.

    Paper: Hu et al., CVPR 2018, https://arxiv.org/abs/1709.01507, Eq. 2-4::

        x' = x * sigmoid(W2 ReLU(W1 mean_HW x))

    Args:
        c: Input and output channels.
        reduction: Hidden width is ``max(c // reduction, 1)``.
        bias: Whether the two maps have a bias, as in the authors' code. The paper's text has none.

    Shape:
        - Input, output: ``(B, c, H, W)``

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If ``c`` or ``reduction`` is below 1.
    """

    def __init__(self, c: int, reduction: int = 16, bias: bool = True):
        super().__init__()
        _layers.check_int("SE", c=c, reduction=reduction)
        _layers.check_bool("SE", bias=bias)
        hidden = max(c // reduction, 1)
        self.squeeze = nn.Conv2d(c, hidden, 1, bias=bias)
        self.excite = nn.Conv2d(hidden, c, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map."""
        hidden = F.relu(_layers.pointwise(self.squeeze, _layers.mean(x, 2, 3)))
        return x * _layers.pointwise(self.excite, hidden).sigmoid()[:, :, None, None]


BLOCKS = (Block(SE, role="attention", paper="1709.01507", config="yolov8-se.yaml"),)
