"""The multi-resolution module of HRNet."""

from torch import Tensor, nn

from yolograft import blocks

from ._row import Public, Row, Shape, load, unit


class _Residual(nn.Module):
    """Two convolutions and the shortcut."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.convs = nn.Sequential(*(unit(layer) for layer in block.convs))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.convs(x) + x)


class _Naive(nn.Module):
    """Loops over branches and over pairs of them, with ``Upsample`` modules.

    Each map must be exactly half as large as the one before.
    """

    def __init__(self, block: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(_Residual(one) for one in branch)) for branch in block.branches
        )
        self.paths = nn.ModuleList(
            nn.ModuleList(self._path(path, j, i) for j, path in enumerate(paths))
            for i, paths in enumerate(block.paths)
        )
        self.relu = nn.ReLU()

    @staticmethod
    def _path(path: nn.Module, j: int, i: int) -> nn.Module:
        if j > i:
            return nn.Sequential(unit(path), nn.Upsample(scale_factor=2 ** (j - i)))
        return nn.Sequential(*(unit(layer) for layer in path)) if j < i else nn.Identity()

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        x = [branch(m) for branch, m in zip(self.branches, x, strict=True)]
        fused = []
        for paths in self.paths:
            y = 0
            for path, m in zip(paths, x, strict=True):
                y = y + path(m)
            fused.append(self.relu(y))
        return fused


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
        _Naive,
        Public("timm.models.hrnet.HighResolutionModule", _timm),
        ours=lambda c: blocks.HRModule((c // 4, c // 2, c)),
        inputs=_pyramid,
        on_list=True,
    )
}
