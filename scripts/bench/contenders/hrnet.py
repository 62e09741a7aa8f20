"""The multi-resolution module of HRNet."""

import torch.nn.functional as F
from torch import Tensor, nn

from yolograft import blocks

from ._row import Public, Row, Shape, load, unit


def _naive(block: nn.Module, x: list[Tensor]) -> list[Tensor]:
    """Loops over branches and over pairs of them; each map is half as large as the one before."""
    x = [_residuals(branch, m) for branch, m in zip(block.branches, x, strict=True)]
    fused = []
    for i, paths in enumerate(block.paths):
        y = 0
        for j, (path, m) in enumerate(zip(paths, x, strict=True)):
            if j > i:
                m = F.interpolate(unit(path, m), scale_factor=2 ** (j - i))
            elif j < i:
                for layer in path:
                    m = unit(layer, m)
            y = y + m
        fused.append(F.relu(y))
    return fused


def _residuals(branch: nn.Module, x: Tensor) -> Tensor:
    """Two convolutions and the shortcut, as often as the branch has them."""
    for residual in branch:
        y = x
        for layer in residual.convs:
            y = unit(layer, y)
        x = F.relu(y + x, inplace=True)
    return x


def _timm(cls: type, block: nn.Module) -> nn.Module:
    from timm.models.resnet import BasicBlock

    n, units = len(block.channels), len(block.branches[0])
    channels = block.channels
    return load(cls(n, BasicBlock, [units] * n, list(channels), channels, "SUM"), block)


def _pyramid(shape: Shape) -> list[Shape]:
    b, c, h, w = shape
    return [(b, c // 4 * 2**n, h >> n, w >> n) for n in range(3)]


ROWS = {
    "HRModule": Row(
        _naive,
        Public("timm.models.hrnet.HighResolutionModule", _timm),
        ours=lambda c: blocks.HRModule((c // 4, c // 2, c)),
        inputs=_pyramid,
        on_list=True,
    )
}
