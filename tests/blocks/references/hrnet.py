"""High-resolution networks: every map by name, nearest upsampling by index."""

from __future__ import annotations

import torch
from torch import Tensor

from yolograft.blocks import HRModule

from ..case import BLOCKS, Case
from .tools import Weights, batch_norm, conv


def layer(
    p: Weights, name: str, x: Tensor, training: bool, c2: int, k: int, s: int = 1, act: bool = True
) -> Tensor:
    """Convolve, normalise and, where asked, cut off what is negative."""
    x = conv(x, p[f"{name}.conv.weight"].view(c2, x.shape[1], k, k), s)
    if f"{name}.conv.bias" in p:
        x = x + p[f"{name}.conv.bias"].view(c2, 1, 1)
    x = batch_norm(p, f"{name}.bn", x, training)
    return x.clamp(min=0) if act else x


def residual(p: Weights, name: str, x: Tensor, training: bool, c2: int, bottleneck: bool) -> Tensor:
    shapes = [(c2 // 4, 1), (c2 // 4, 3), (c2, 1)] if bottleneck else [(c2, 3), (c2, 3)]
    y = x
    for n, (width, k) in enumerate(shapes):
        last = n == len(shapes) - 1
        y = layer(p, f"{name}.convs.{n}", y, training, width, k, act=not last)
    if x.shape[1] != c2:
        x = layer(p, f"{name}.shortcut", x, training, c2, 1, act=False)
    return (x + y).clamp(min=0)


def upsample(x: Tensor, h: int, w: int) -> Tensor:
    rows = [row * x.shape[2] // h for row in range(h)]
    cols = [col * x.shape[3] // w for col in range(w)]
    return x[:, :, rows][..., cols]


def pyramid(x: Tensor, channels: tuple[int, ...]) -> list[Tensor]:
    """Cut one map into maps of given widths, each half the size of the one before."""
    parts = x.split(list(channels), 1)
    return [part[..., :: 2**r, :: 2**r] for r, part in enumerate(parts)]


def fused(
    p: Weights, name: str, x: list[Tensor], training: bool, channels: tuple[int, ...], count: int
) -> list[Tensor]:
    out = []
    for r in range(count):
        total = torch.zeros_like(x[r])
        for j, y in enumerate(x):
            path = f"{name}.{r}.{j}"
            if j > r:
                y = layer(p, path, y, training, channels[r], 1, act=False)
                y = upsample(y, *x[r].shape[2:])
            for step in range(r - j):
                last = step == r - j - 1
                width = channels[r if last else j]
                y = layer(p, f"{path}.{step}", y, training, width, 3, 2, act=not last)
            total = total + y
        out.append(total.clamp(min=0))
    return out


def module(
    p: Weights,
    name: str,
    maps: list[Tensor],
    training: bool,
    channels: tuple[int, ...],
    blocks: int,
    bottleneck: bool = False,
    multi_scale: bool = True,
) -> list[Tensor]:
    maps = list(maps)
    for r, c in enumerate(channels):
        for n in range(blocks):
            maps[r] = residual(p, f"{name}branches.{r}.{n}", maps[r], training, c, bottleneck)
    count = len(channels) if multi_scale else 1
    return fused(p, f"{name}paths", maps, training, channels, count)


def hr_module(
    p: Weights,
    x: Tensor,
    training: bool,
    /,
    channels: tuple[int, ...],
    blocks: int = 1,
    bottleneck: bool = False,
    multi_scale: bool = True,
) -> list[Tensor]:
    """Of one map, cut up: see `cases.OneMap`."""
    maps = pyramid(x, channels)
    return module(p, "", maps, training, channels, blocks, bottleneck, multi_scale)


def hr_net(
    p: Weights,
    x: Tensor,
    training: bool,
    /,
    c1: int,
    width: int = 18,
    modules: tuple[int, ...] = (1, 1, 4, 3),
    blocks: int = 4,
) -> list[Tensor]:
    assert x.shape[1] == c1
    for n in range(2):
        x = layer(p, f"stem.{n}", x, training, 64, 3, 2)
    for n in range(modules[0] * blocks):
        x = residual(p, f"stages.0.{n}", x, training, 256, bottleneck=True)
    widths = [width, 2 * width, 4 * width, 8 * width]
    maps = []
    for n in range(1, 4):
        stage = f"stages.{n}"
        if n == 1:
            new = layer(p, f"{stage}.transition.1", x, training, widths[1], 3, 2)
            if width != 256:
                x = layer(p, f"{stage}.transition.0", x, training, width, 3)
            maps = [x, new]
        else:
            maps.append(layer(p, f"{stage}.transition.{n}", maps[-1], training, widths[n], 3, 2))
        for m in range(modules[n]):
            part = f"{stage}.units.{m}."
            maps = module(p, part, maps, training, tuple(widths[: n + 1]), blocks)
    return maps


def hr_head(
    p: Weights, maps: list[Tensor], training: bool, /, channels: tuple[int, ...], c2: int = 2048
) -> Tensor:
    assert [m.shape[1] for m in maps] == list(channels)
    total = residual(p, "widen.0", maps[0], training, 128, bottleneck=True)
    for n in range(1, 4):
        c = 128 * 2**n
        y = residual(p, f"widen.{n}", maps[n], training, c, bottleneck=True)
        total = y + layer(p, f"down.{n - 1}", total, training, c, 3, 2)
    return layer(p, "last", total, training, c2, 1)


class OneMap(HRModule):
    """``HRModule`` of one map, cut into a list of views: the tests give every block one tensor."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(pyramid(x, self.channels))


BLOCKS["HRModule"] = OneMap

#: An HRNet of one module per stage: further ones repeat it, see `test_hrnet.py`.
SHALLOW = {"modules": (1, 1, 1, 1), "blocks": 1}

CASES = [
    Case("HRModule", hr_module, {"channels": (2, 3, 8)}),
    Case("HRModule", hr_module, {"channels": (4, 16), "blocks": 2, "bottleneck": True}),
    Case("HRModule", hr_module, {"channels": (2, 4, 5), "multi_scale": False}),
    Case("HRModule", hr_module, {"channels": (3,)}),
    Case("HRNet", hr_net, {"c1": 3, "width": 2, **SHALLOW}, zoom=8),
    Case("HRNet", hr_net, {"c1": 2, "width": 3, **SHALLOW}, zoom=8),
]

REFUSALS = [
    ("HRModule", {"channels": (2, 4)}, {"channels": ()}),
    ("HRModule", {"channels": (2, 4)}, {"channels": (2, 0)}),
    ("HRModule", {"channels": (4, 8), "bottleneck": True}, {"channels": (4, 6)}),
    ("HRNet", {"c1": 3}, {"modules": (1, 1, 4)}),
    ("HRNet", {"c1": 3}, {"modules": (1, 1, 0, 3)}),
]
