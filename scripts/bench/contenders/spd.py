"""Space to depth, and SPD-Conv."""

import torch
from torch import Tensor, nn

from yolograft import blocks

from ._row import Public, Row, unit


def _slices(block: nn.Module, x: Tensor) -> Tensor:
    """Four strided slices, concatenated."""
    return torch.cat([x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)], dim=1)


def _naive(block: nn.Module, x: Tensor) -> Tensor:
    """Slices as above, then convolution, BatchNorm and activation."""
    return unit(block.conv, _slices(block.spd, x))


class _Timm(nn.Module):
    """The order of the phases costs nothing, so it is corrected for the comparison only."""

    def __init__(self, cls: type, block: nn.Module):
        super().__init__()
        self.layer = cls(4)
        self.layer.bs = 2  # the only size it allows is 4

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def align(self, y: Tensor) -> Tensor:
        """Return an output with its phases in our order."""
        a, b, c, d = y.chunk(4, 1)
        return torch.cat((a, c, b, d), 1)


ROWS = {
    "SpaceToDepth": Row(
        _slices,
        Public(
            "timm.layers.space_to_depth.SpaceToDepth",
            _Timm,
            "block size set to 2; its phases stand in another order",
        ),
    ),
    "SPDConv": Row(_naive, ours=lambda c: blocks.SPDConv(c, 2 * c)),
}
