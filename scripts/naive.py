"""The blocks as one would write them first: the yardstick of ``bench.py``.

Each takes one of the pack's blocks and copies its weights, so that both compute the same function.
"""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from public import load
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


def _unit(layer: nn.Module) -> nn.Sequential:
    """Return convolution, BatchNorm and activation as three modules in a row."""
    return nn.Sequential(deepcopy(layer.conv), deepcopy(layer.bn), deepcopy(layer.act))


def _pointwise(linear: nn.Linear) -> nn.Conv2d:
    """Return a linear layer as a 1x1 convolution."""
    return load(nn.Conv2d(linear.in_features, linear.out_features, 1), linear)


def _linear(conv: nn.Conv2d) -> nn.Linear:
    """Return a 1x1 convolution as a linear layer."""
    return load(nn.Linear(conv.in_channels, conv.out_channels), conv)


class Branches(nn.Module):
    """The branch convolutions of a selective kernel block and nothing else."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.branches = deepcopy(block.branches)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the map of each branch."""
        return [branch(x) for branch in self.branches]


class SKConv(nn.Module):
    """Selective kernels over one stacked tensor of all branch maps, with a layer per branch."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(_unit(branch) for branch in block.branches)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = _unit(block.squeeze)
        weights = block.select.weight.detach().flatten(1).chunk(len(self.branches))
        self.fcs = nn.ModuleList(
            load(nn.Linear(*weight.shape[::-1], bias=False), weight) for weight in weights
        )
        self.softmax = nn.Softmax(dim=0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed map."""
        maps = torch.stack([branch(x) for branch in self.branches])
        z = self.squeeze(self.pool(maps.sum(0))).flatten(1)
        weights = self.softmax(torch.stack([fc(z) for fc in self.fcs]))
        return (maps * weights[..., None, None]).sum(0)


class CBAM(nn.Module):
    """Both gates, with pooling modules and gates expanded to the shape of the map."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.max_pool = nn.AdaptiveMaxPool2d(1)
        self.mlp = nn.Sequential(_pointwise(block.mlp[0]), nn.ReLU(), _pointwise(block.mlp[2]))
        self.spatial = _unit(block.spatial)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map."""
        gate = self.sigmoid(self.mlp(self.avg_pool(x)) + self.mlp(self.max_pool(x)))
        x = x * gate.expand_as(x)
        maximum, _ = torch.max(x, dim=1, keepdim=True)
        mean = torch.mean(x, dim=1, keepdim=True)
        gate = self.spatial(torch.cat([maximum, mean], dim=1))
        return x * gate.expand_as(x)


class SpaceToDepth(nn.Module):
    """Four strided slices, concatenated."""

    def __init__(self, block: nn.Module):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return the stacked phases of a map of even size."""
        return torch.cat([x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)], dim=1)


class SPDConv(nn.Module):
    """Slices as above, then convolution, BatchNorm and activation."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.slices = SpaceToDepth(block.spd)
        self.conv = _unit(block.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Return the down-sampled map."""
        return self.conv(self.slices(x))


class SE(nn.Module):
    """Pooling module and linear layers, the gate expanded to the shape of the map."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            _linear(block.squeeze), nn.ReLU(inplace=True), _linear(block.excite), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map."""
        b, c, _, _ = x.size()
        gate = self.fc(self.pool(x).view(b, c)).view(b, c, 1, 1)
        return x * gate.expand_as(x)


class CoordAtt(nn.Module):
    """Pooling modules for rows and columns."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.pool_h = nn.AdaptiveAvgPool2d((None, 1))
        self.pool_w = nn.AdaptiveAvgPool2d((1, None))
        self.mix = _unit(block.mix)
        self.conv_h = deepcopy(block.rows)
        self.conv_w = deepcopy(block.cols)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map."""
        _, _, h, w = x.size()
        x_h = self.pool_h(x)
        x_w = self.pool_w(x).permute(0, 1, 3, 2)
        x_h, x_w = torch.split(self.mix(torch.cat([x_h, x_w], dim=2)), [h, w], dim=2)
        a_h = self.conv_h(x_h).sigmoid()
        a_w = self.conv_w(x_w.permute(0, 1, 3, 2)).sigmoid()
        return x * a_w * a_h


class GlobalContext(nn.Module):
    """Context by a batched product of two reshaped maps."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.mask = deepcopy(block.mask)
        self.softmax = nn.Softmax(dim=2)
        self.add = deepcopy(block.add)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map in its context."""
        b, c, h, w = x.size()
        mask = self.softmax(self.mask(x).view(b, 1, h * w)).unsqueeze(-1)
        context = torch.matmul(x.view(b, c, h * w).unsqueeze(1), mask)
        return x + self.add(context.view(b, c, 1, 1))


class StripPooling(nn.Module):
    """Pooled strips, resized to the whole map before they are added."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.pool_h = nn.AdaptiveAvgPool2d((None, 1))
        self.pool_w = nn.AdaptiveAvgPool2d((1, None))
        self.rows = _unit(block.rows)
        self.cols = _unit(block.cols)
        self.mix = deepcopy(block.mix)
        self.relu = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map."""
        size = x.shape[2:]
        rows = F.interpolate(self.rows(self.pool_h(x)), size)
        cols = F.interpolate(self.cols(self.pool_w(x)), size)
        return x * self.mix(self.relu(rows + cols)).sigmoid()


class MixedPooling(nn.Module):
    """Pooling modules and ``interpolate``, path by path."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(size) for size in block.sizes)
        self.pool_h = nn.AdaptiveAvgPool2d((None, 1))
        self.pool_w = nn.AdaptiveAvgPool2d((1, None))
        self.short_in = _unit(block.short_in)
        self.long_in = _unit(block.long_in)
        self.short = _unit(block.short)
        self.windows = nn.ModuleList(_unit(window) for window in block.windows)
        self.cols = _unit(block.cols)
        self.rows = _unit(block.rows)
        self.short_out = _unit(block.short_out)
        self.long_out = _unit(block.long_out)
        self.mix = _unit(block.mix)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed map."""
        x1, x2 = self.short_in(x), self.long_in(x)

        def resize(y: Tensor) -> Tensor:
            return F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=True)

        short = [self.short(x1)]
        for pool, window in zip(self.pools, self.windows, strict=True):
            short.append(resize(window(pool(x1))))
        cols = resize(self.cols(self.pool_w(x2)))
        rows = resize(self.rows(self.pool_h(x2)))
        x1 = self.short_out(F.relu(sum(short)))
        x2 = self.long_out(F.relu(rows + cols))
        return F.relu(x + self.mix(torch.cat([x1, x2], dim=1)))


class DeformConv(nn.Module):
    """One convolution for offsets and masks, taken apart and put together again."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.conv = deepcopy(block.conv)
        self.bn = deepcopy(block.bn)
        self.act = deepcopy(block.act)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated map."""
        conv = self.conv
        o1, o2, mask = torch.chunk(conv.offset(x), 3, dim=1)
        offset = torch.cat((o1, o2), dim=1)
        x = deform_conv2d(
            x, offset, conv.weight, None, conv.stride, conv.padding, conv.dilation, mask.sigmoid()
        )
        return self.act(self.bn(x))


class STN(nn.Module):
    """Localisation by modules, then ``affine_grid`` and ``grid_sample``."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.localisation = nn.Sequential(
            *(_unit(layer) for layer in block.localisation), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.fc = nn.Sequential(deepcopy(block.hidden), nn.ReLU(True), deepcopy(block.affine))

    def forward(self, x: Tensor) -> Tensor:
        """Return the resampled map."""
        theta = self.fc(self.localisation(x)).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


class ASPP(nn.Module):
    """A list of branches, the pooled one resized to the map, all concatenated."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(_unit(branch) for branch in block.branches)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), _unit(block.pool))
        self.project = _unit(block.project)

    def forward(self, x: Tensor) -> Tensor:
        """Return the projected map."""
        maps = [branch(x) for branch in self.branches]
        size = x.shape[2:]
        maps.append(F.interpolate(self.pool(x), size, mode="bilinear", align_corners=True))
        return self.project(torch.cat(maps, dim=1))


class _Residual(nn.Module):
    """Two convolutions and the shortcut."""

    def __init__(self, unit: nn.Module):
        super().__init__()
        self.convs = nn.Sequential(*(_unit(layer) for layer in unit.convs))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated sum."""
        return self.relu(self.convs(x) + x)


class HRModule(nn.Module):
    """Loops over branches and over pairs of them, with ``Upsample`` modules."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(_Residual(unit) for unit in branch)) for branch in block.branches
        )
        self.paths = nn.ModuleList(
            nn.ModuleList(self._path(path, j, i) for j, path in enumerate(paths))
            for i, paths in enumerate(block.paths)
        )
        self.relu = nn.ReLU()

    @staticmethod
    def _path(path: nn.Module, j: int, i: int) -> nn.Module:
        if j > i:
            return nn.Sequential(_unit(path), nn.Upsample(scale_factor=2 ** (j - i)))
        return nn.Sequential(*(_unit(layer) for layer in path)) if j < i else nn.Identity()

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """Return the fused maps, where each map is exactly half as large as the one before."""
        x = [branch(m) for branch, m in zip(self.branches, x, strict=True)]
        fused = []
        for paths in self.paths:
            y = 0
            for path, m in zip(paths, x, strict=True):
                y = y + path(m)
            fused.append(self.relu(y))
        return fused


class SKUnit(nn.Module):
    """Bottleneck around the naive selective kernels."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.conv1 = _unit(block.enter)
        self.conv2 = SKConv(block.sk)
        self.conv3 = _unit(block.leave)
        self.shortcut = deepcopy(block.shortcut)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated sum."""
        return self.relu(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x))


class NonLocal(nn.Module):
    """Softmax of the matrix of all pairs of positions."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.theta = deepcopy(block.theta)
        self.phi = deepcopy(block.phi)
        self.g = deepcopy(block.g)
        self.out = _unit(block.out)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with what each position gathered."""
        b, _, h, w = x.size()
        theta = self.theta(x).view(b, -1, h * w).permute(0, 2, 1)
        phi = self.phi(x).view(b, -1, h * w)
        g = self.g(x).view(b, -1, h * w).permute(0, 2, 1)
        weights = F.softmax(torch.matmul(theta, phi), dim=-1)
        y = torch.matmul(weights, g).permute(0, 2, 1).contiguous()
        return x + self.out(y.view(b, -1, h, w))


class WindowAttention(nn.Module):
    """Windows of keys, values and encodings, unfolded from padded maps."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.k = attention.k
        self.position = deepcopy(attention.position)
        self.pad = nn.ReflectionPad2d(self.k // 2)
        self.unfold = nn.Unfold(self.k)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return what each position gathered from its window."""
        b, heads, d, h, w = q.shape
        x = torch.linspace(-1, 1, w, device=q.device, dtype=q.dtype).repeat(h, 1)
        y = torch.linspace(-1, 1, h, device=q.device, dtype=q.dtype)[:, None].repeat(1, w)
        pe = self.position(torch.stack((x, y)).unsqueeze(0))
        q = q.reshape(b * heads, d, h, w) * d**-0.5
        k = k.reshape(b * heads, d, h, w)
        v = v.reshape(b * heads, d, h, w)
        k = self.unfold(self.pad(k)).view(b * heads, d, self.k**2, h, w)
        pe_k = self.unfold(self.pad(pe)).view(1, d, self.k**2, h, w)
        weights = (q.unsqueeze(2) * (k + pe.unsqueeze(2) - pe_k)).sum(1)
        weights = self.softmax(weights)
        v = self.unfold(self.pad(v)).view(b * heads, d, self.k**2, h, w)
        return (weights.unsqueeze(1) * v).sum(2).view(b, heads * d, h, w)


class ACmix(nn.Module):
    """Unfolding attention, and a convolution of nine mixed maps per channel."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.rate1 = deepcopy(block.rate1)
        self.rate2 = deepcopy(block.rate2)
        self.conv1 = deepcopy(block.query)
        self.conv2 = deepcopy(block.key)
        self.conv3 = deepcopy(block.value)
        self.heads = block.heads
        self.attention = WindowAttention(block.attention)
        self.fc = deepcopy(block.mix)
        self.dep_conv = deepcopy(block.shift)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted sum of both paths."""
        q, k, v = self.conv1(x), self.conv2(x), self.conv3(x)
        b, c, h, w = q.shape
        heads, d = self.heads, c // self.heads
        attended = self.attention(*(t.view(b, heads, d, h, w) for t in (q, k, v)))
        flat = [t.view(b, heads, d, h * w) for t in (q, k, v)]
        mixed = self.fc(torch.cat(flat, dim=1)).permute(0, 2, 1, 3)
        mixed = mixed.reshape(b, -1, h, w)
        return self.rate1 * attended + self.rate2 * self.dep_conv(mixed)
