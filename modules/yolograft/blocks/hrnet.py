"""High-resolution networks.

Paper: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition",
TPAMI 2020, https://arxiv.org/abs/1908.07919.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from yolograft.blocks import _layers
from yolograft.blocks._row import Block

#: A bottleneck is this many times as wide outside as inside.
_EXPANSION = 4


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class _Residual(nn.Module):
    """Two 3x3 convolutions, or a bottleneck, beside a shortcut: ``ReLU(convs(x) + shortcut(x))``.

    Args:
        c1: Input channels.
        c2: Output channels.
        bottleneck: Squeeze to ``c2 // 4`` channels by 1x1, 3x3 there, and widen by 1x1.
    """

    def __init__(self, c1: int, c2: int, bottleneck: bool = False):
        super().__init__()
        mid = c2 // _EXPANSION if bottleneck else c2
        shapes = [(c1, mid, 1), (mid, mid, 3), (mid, c2, 1)] if bottleneck else None
        shapes = shapes or [(c1, c2, 3), (c2, c2, 3)]
        self.convs = nn.Sequential(
            *(_layers.ConvNormAct(*shape, act=_relu()) for shape in shapes[:-1]),
            _layers.ConvNormAct(*shapes[-1]),
        )
        self.shortcut = _layers.ConvNormAct(c1, c2, 1) if c1 != c2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated sum."""
        out = self.convs(x)
        out += self.shortcut(x)  # in place: nothing needs the summand for its gradient
        return out.relu_()


def _check_maps(block: str, channels: list[int], maps: list[Tensor]) -> None:
    """Refuse maps of other widths, or of sizes that do not halve; not where a graph is made.

    Args:
        block: Name for the message.
        channels: Width of every map.
        maps: Maps from high to low resolution.

    Raises:
        TypeError: If ``maps`` is not a list.
        ValueError: If the number, the widths or the sizes do not fit.
    """
    if _layers.captured():
        return
    if not isinstance(maps, list | tuple):
        msg = (
            f"{block}: a {type(maps).__name__} is not a list of maps\n\n"
            f"Hint: give a list of {len(channels)}, from high to low resolution"
        )
        raise TypeError(msg)
    shapes = ", ".join(str(tuple(m.shape)) for m in maps)
    if [m.shape[1] for m in maps] != channels:
        msg = (
            f"{block}: maps of shapes {shapes} where {len(channels)} with {channels} channels "
            "belong\n\nHint: give one map per width, from high to low resolution"
        )
        raise ValueError(msg)
    sizes = [tuple(m.shape[2:]) for m in maps]
    for high, low in pairwise(sizes):
        half = tuple((n + 1) // 2 for n in high)
        if low != half:
            msg = (
                f"{block}: maps of shapes {shapes}, but {low} is not half of {high}\n\n"
                f"Hint: each map has half the size of the one before, rounded up, here {half}"
            )
            raise ValueError(msg)


def _fuse(target: int, maps: list[Tensor], paths: nn.ModuleList) -> Tensor:
    """Return ReLU of the sum of all maps, each brought to the shape of one of them."""
    out = maps[target]
    size = out.shape[2:]
    first = True
    for j, (x, path) in enumerate(zip(maps, paths, strict=True)):
        if j == target:
            continue
        x = path(x)
        if j > target:
            x = F.interpolate(x, size=size, mode="nearest")
        out = out + x if first else out.add_(x)  # the map itself stays as it is
        first = False
    return out.relu_() if not first else out.relu()


class HRModule(nn.Module):
    """Parallel branches of residual units, one per resolution, then every one added to every other.

    Paper: Wang et al., TPAMI 2020, https://arxiv.org/abs/1908.07919, Sec. 3.1-3.3::

        y_r = branch_r(x_r)
        z_r = ReLU(sum_j f_jr(y_j))

    ``f_jr`` is the identity for ``j = r``; to a higher resolution a 1x1 convolution, BatchNorm and
    nearest upsampling to the size of ``y_r``; to a lower one a chain of stride-2 3x3 convolutions
    with BatchNorm, the first ones keeping the width, with ReLU after all but the last.

    It takes a list of maps and returns one, so that no row of a model YAML can name it;
    :class:`HRNet` is made of it.

    Args:
        channels: Width of every branch, from high to low resolution; going in and coming out.
        blocks: Residual units per branch.
        bottleneck: Use bottlenecks, a quarter as wide inside, in place of two 3x3 convolutions.
        multi_scale: Return all maps; otherwise a list of the first, at the highest resolution.

    Shape:
        - Input: list of ``(B, channels[r], H_r, W_r)`` with ``H_r = ceil(H_{r-1} / 2)``
        - Output: the same shapes; only the first without ``multi_scale``

    Raises:
        TypeError: If an argument has the wrong type, or the input is not a list.
        ValueError: If an argument is out of range, a bottleneck's width is not a multiple of
            4, or the maps do not fit.

    Differs from the paper in that maps of odd size are taken: they upsample to the target's size.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        blocks: int = 1,
        bottleneck: bool = False,
        multi_scale: bool = True,
    ):
        super().__init__()
        _layers.check_ints("HRModule", channels=channels)
        _layers.check_int("HRModule", blocks=blocks)
        _layers.check_bool("HRModule", bottleneck=bottleneck, multi_scale=multi_scale)
        if bottleneck and any(c % _EXPANSION for c in channels):
            near = [max(round(c / _EXPANSION), 1) * _EXPANSION for c in channels]
            msg = (
                f"HRModule: channels={channels!r} do not divide by {_EXPANSION}, as bottlenecks "
                f"need\n\nHint: use {near}"
            )
            raise ValueError(msg)
        self.channels = list(channels)
        self.branches = nn.ModuleList(
            nn.Sequential(*(_Residual(c, c, bottleneck) for _ in range(blocks))) for c in channels
        )
        count = len(self.channels)
        targets = range(count if multi_scale else 1)
        self.paths = nn.ModuleList(
            nn.ModuleList(self._path(j, r) for j in range(count)) for r in targets
        )

    def _path(self, source: int, target: int) -> nn.Module:
        """Return what brings a map to the width of another and, going down, to its size."""
        c1, c2 = self.channels[source], self.channels[target]
        if source == target:
            return nn.Identity()
        if source > target:
            return _layers.ConvNormAct(c1, c2, 1)
        steps = [_layers.ConvNormAct(c1, c1, 3, 2, act=_relu()) for _ in range(target - source - 1)]
        return nn.Sequential(*steps, _layers.ConvNormAct(c1, c2, 3, 2))

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """Return the fused maps."""
        _check_maps("HRModule", self.channels, x)
        maps = [branch(m) for branch, m in zip(self.branches, x, strict=True)]
        if len(maps) == 1:
            return maps
        return [_fuse(r, maps, paths) for r, paths in enumerate(self.paths)]


class _Stage(nn.Module):
    """One more branch, half the size of the last, then modules.

    Args:
        before: Widths of the maps that come in.
        channels: Widths of the maps that go out.
        modules: Number of modules.
        blocks: Residual units per branch and module.
    """

    def __init__(self, before: list[int], channels: list[int], modules: int, blocks: int):
        super().__init__()
        self.transition = nn.ModuleList()
        for r, c in enumerate(channels):
            new = r == len(before)
            c1 = before[-1] if new else before[r]
            self.transition.append(
                _layers.ConvNormAct(c1, c, 3, 2 if new else 1, act=_relu())
                if new or c1 != c
                else nn.Identity()
            )
        self.units = nn.Sequential(*(HRModule(channels, blocks) for _ in range(modules)))

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """Return the maps of the last module."""
        sources = [*x, x[-1]]
        maps = [layer(source) for layer, source in zip(self.transition, sources, strict=True)]
        return self.units(maps)


class HRNet(nn.Module):
    """High-resolution network: four stages that keep a high resolution beside ever lower ones.

    Paper: Wang et al., TPAMI 2020, https://arxiv.org/abs/1908.07919, Sec. 3.4 and Table 1. Two
    stride-2 3x3 convolutions (64 wide), a stage of bottlenecks (256 wide), then three stages of
    :class:`HRModule`, each with one more branch than the one before.

    A row of a model YAML is read through ``Index`` rows: ``[-1, 1, HRNet, [64]]``, then
    ``[0, 1, Index, [128, 1]]`` for the map at stride 8.

    Args:
        c1: Input channels.
        width: Channels of the map at stride 4. The paper uses 18, 32 and 48.
        modules: Modules per stage; those of stage 1 have a single branch of bottlenecks.
        blocks: Residual units per branch and module.

    Shape:
        - Input: ``(B, c1, H, W)``
        - Output: list of ``(B, width * 2**r, ceil(H / 2**(r + 2)), ceil(W / 2**(r + 2)))``, r = 0-3

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        c1: int,
        width: int = 18,
        modules: tuple[int, ...] = (1, 1, 4, 3),
        blocks: int = 4,
    ):
        super().__init__()
        _layers.check_int("HRNet", c1=c1, width=width, blocks=blocks)
        _layers.check_ints("HRNet", 4, modules=modules)
        #: Widths of the returned maps.
        self.out_channels = [width * 2**r for r in range(4)]
        self.stem = nn.Sequential(
            _layers.ConvNormAct(c1, 64, 3, 2, act=_relu()),
            _layers.ConvNormAct(64, 64, 3, 2, act=_relu()),
        )
        self.stages = nn.ModuleList()
        units = range(modules[0] * blocks)
        self.stages.append(nn.Sequential(*(_Residual(256 if n else 64, 256, True) for n in units)))
        before = [256]
        for n in range(2, 5):
            self.stages.append(_Stage(before, self.out_channels[:n], modules[n - 1], blocks))
            before = self.out_channels[:n]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps at strides 4, 8, 16 and 32."""
        maps = [self.stages[0](self.stem(x))]
        for stage in self.stages[1:]:
            maps = stage(maps)
        return maps


class HRHead(nn.Module):
    """The authors' classification head: four maps gathered into one, from high to low resolution.

    Paper: Wang et al., TPAMI 2020, https://arxiv.org/abs/1908.07919, Sec. 6 (image classification):
    a bottleneck per map widens it to 128, 256, 512 and 1024; a stride-2 3x3 convolution brings each
    to the next, where it is added; a 1x1 convolution gives the last. Their mean goes to a linear
    layer, which is not part of this module.

    Args:
        channels: Widths of the four maps, from high to low resolution.
        c2: Output channels.

    Shape:
        - Input: list of ``(B, channels[r], H_r, W_r)`` with ``H_r = ceil(H_{r-1} / 2)``
        - Output: ``(B, c2, H_3, W_3)``

    Raises:
        TypeError: If an argument has the wrong type, or the input is not a list.
        ValueError: If an argument is out of range, or the maps do not fit.
    """

    def __init__(self, channels: tuple[int, ...], c2: int = 2048):
        super().__init__()
        _layers.check_ints("HRHead", 4, channels=channels)
        _layers.check_int("HRHead", c2=c2)
        self.channels = list(channels)
        wide = [128 * 2**r for r in range(4)]
        self.widen = nn.ModuleList(
            _Residual(c, w, True) for c, w in zip(channels, wide, strict=True)
        )
        self.down = nn.ModuleList(
            _layers.ConvNormAct(a, b, 3, 2, act=_relu(), bias=True) for a, b in pairwise(wide)
        )
        self.last = _layers.ConvNormAct(wide[-1], c2, 1, act=_relu(), bias=True)

    def forward(self, x: list[Tensor]) -> Tensor:
        """Return the gathered map."""
        _check_maps("HRHead", self.channels, x)
        out = self.widen[0](x[0])
        for m, widen, down in zip(x[1:], self.widen[1:], self.down, strict=True):
            out = widen(m) + down(out)
        return self.last(out)


BLOCKS = (Block(HRNet, role="backbone", paper="1908.07919", config="yolov8-hrnet.yaml"),)
