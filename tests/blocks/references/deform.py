"""Deformable convolution."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn

from ..case import Case
from .tools import Weights, activate, batch_norm


def bilinear(x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Read ``(B, C, H, W)`` at positions ``(B, H', W')``: all pixels, each by its distance."""

    def near(positions: Tensor, size: int) -> Tensor:
        pixels = torch.arange(size, dtype=x.dtype)
        return (1 - (positions[..., None] - pixels).abs()).clamp(min=0)

    return torch.einsum("bchw,byxh,byxw->bcyx", x, near(rows, x.shape[2]), near(cols, x.shape[3]))


def deform_conv(
    weights: Weights,
    x: Tensor,
    training: bool,
    /,
    c1: int,
    c2: int,
    k: int = 3,
    s: int = 1,
    p: int | None = None,
    g: int = 1,
    d: int = 1,
    offset_groups: int = 1,
    modulated: bool = True,
    bias: bool = False,
    norm: bool = True,
    act: bool | nn.Module | None = True,
) -> Tensor:
    taps = list(product(range(k), repeat=2))
    count = offset_groups * len(taps)
    w = weights["conv.weight"].view(c2, c1 // g, k, k)
    w_o = weights["conv.offset.weight"].view((3 if modulated else 2) * count, c1, k, k)
    pad = d * (k // 2) if p is None else p
    out_h, out_w = ((n + 2 * pad - d * (k - 1) - 1) // s + 1 for n in x.shape[2:])
    rows, cols = torch.meshgrid(torch.arange(out_h), torch.arange(out_w), indexing="ij")

    def read(maps: Tensor, i: int, j: int, dy: Tensor | int, dx: Tensor | int) -> Tensor:
        """Return what tap ``(i, j)`` sees, moved by an offset."""
        y, x = rows * s - pad + i * d + dy, cols * s - pad + j * d + dx
        return bilinear(maps, y.expand(len(maps), -1, -1), x.expand(len(maps), -1, -1))

    predicted = weights["conv.offset.bias"][:, None, None] + sum(
        torch.einsum("oc,bcyx->boyx", w_o[:, :, i, j], read(x, i, j, 0, 0)) for i, j in taps
    )
    y = 0
    for t, (i, j) in enumerate(taps):
        seen = []
        for group, maps in enumerate(x.chunk(offset_groups, 1)):
            at = group * len(taps) + t
            seen.append(read(maps, i, j, predicted[:, 2 * at], predicted[:, 2 * at + 1]))
            if modulated:
                mask = 1 / (1 + (-predicted[:, 2 * count + at]).exp())
                seen[-1] = seen[-1] * mask[:, None]
        pairs = zip(w[:, :, i, j].chunk(g), torch.cat(seen, 1).chunk(g, 1), strict=True)
        y = y + torch.cat([torch.einsum("oc,bcyx->boyx", *pair) for pair in pairs], 1)
    if bias:
        y = y + weights["conv.bias"][:, None, None]
    if norm:
        y = batch_norm(weights, "bn", y, training)
    return activate(act, y)


CASES = [
    Case("DeformConv", deform_conv, {"c1": 3, "c2": 4}),
    Case(
        "DeformConv",
        deform_conv,
        {"c1": 4, "c2": 6, "s": 2, "g": 2, "d": 2, "offset_groups": 4},
    ),
    Case("DeformConv", deform_conv, {"c1": 2, "c2": 5, "k": 1, "p": 2, "act": nn.ReLU()}),
    Case(
        "DeformConv",
        deform_conv,
        {"c1": 2, "c2": 3, "k": 5, "modulated": False, "bias": True, "norm": False, "act": None},
    ),
]

REFUSALS = [
    ("DeformConv", {"c1": 6, "c2": 4}, {"k": 2}),
    ("DeformConv", {"c1": 6, "c2": 4}, {"p": -1}),
    ("DeformConv", {"c1": 6, "c2": 4}, {"g": 3}),
    ("DeformConv", {"c1": 6, "c2": 4}, {"offset_groups": 4}),
]
