"""Strip pooling and mixed pooling, window by window and pixel by pixel."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from ..case import Case
from .tools import Weights, batch_norm, conv


def layer(
    p: Weights, name: str, x: Tensor, training: bool, shape: tuple[int, ...], relu: bool = False
) -> Tensor:
    x = conv(x, p[f"{name}.conv.weight"].view(shape))
    x = batch_norm(p, f"{name}.bn", x, training)
    return x.clamp(min=0) if relu else x


def strips(p: Weights, x: Tensor, training: bool, c: int) -> Tensor:
    """Sum the convolved means of rows and columns at each position."""
    h, w = x.shape[2:]
    rows = torch.stack([x[:, :, i].sum(2) / w for i in range(h)], 2)[..., None]
    cols = torch.stack([x[..., j].sum(2) / h for j in range(w)], 2)[:, :, None]
    rows = layer(p, "rows", rows, training, (c, c, 3, 1))[..., 0]
    cols = layer(p, "cols", cols, training, (c, c, 1, 3))[:, :, 0]
    return torch.stack([rows[:, :, i, None] + cols for i in range(h)], 2)


def strip_pooling(p: Weights, x: Tensor, training: bool, /, c: int) -> Tensor:
    y = strips(p, x, training, c).clamp(min=0)
    gate = conv(y, p["mix.weight"].view(c, c, 1, 1)) + p["mix.bias"].view(c, 1, 1)
    return x / (1 + (-gate).exp())


def windows(length: int, n: int) -> list[slice]:
    """Return the windows of adaptive pooling: from the floor to the ceiling of the exact bounds."""
    bounds = [Fraction(i * length, n) for i in range(n + 1)]
    return [slice(math.floor(bounds[i]), math.ceil(bounds[i + 1])) for i in range(n)]


def pool(x: Tensor, n: int) -> Tensor:
    rows = [
        torch.stack([x[:, :, r, c].mean((2, 3)) for c in windows(x.shape[3], n)], 2)
        for r in windows(x.shape[2], n)
    ]
    return torch.stack(rows, 2)


def resize(x: Tensor, size: int, dim: int) -> Tensor:
    """Interpolate linearly along a dimension, the ends onto the ends."""
    lines, n = x.unbind(dim), x.shape[dim]
    out = []
    for i in range(size):
        at = Fraction(i * (n - 1), size - 1) if size > 1 else Fraction(0)
        low = math.floor(at)
        high, t = min(low + 1, n - 1), float(at - low)
        out.append((1 - t) * lines[low] + t * lines[high])
    return torch.stack(out, dim)


def mixed_pooling(
    p: Weights, x: Tensor, training: bool, /, c: int, sizes: tuple[int, int] = (20, 12)
) -> Tensor:
    (h, w), d = x.shape[2:], c // 4
    square = (d, d, 3, 3)
    short = layer(p, "short_in", x, training, (d, c, 1, 1), relu=True)
    total = layer(p, "short", short, training, square)
    for i, n in enumerate(sizes):
        y = layer(p, f"windows.{i}", pool(short, n), training, square)
        total = total + resize(resize(y, h, 2), w, 3)
    short = layer(p, "short_out", total.clamp(min=0), training, square, relu=True)
    long = layer(p, "long_in", x, training, (d, c, 1, 1), relu=True)
    long = strips(p, long, training, d).clamp(min=0)
    long = layer(p, "long_out", long, training, square, relu=True)
    y = layer(p, "mix", torch.cat((short, long), 1), training, (c, 2 * d, 1, 1))
    return (x + y).clamp(min=0)


CASES = [
    Case("StripPooling", strip_pooling, {"c": 6}),
    Case("StripPooling", strip_pooling, {"c": 3}),
    Case("MixedPooling", mixed_pooling, {"c": 8}),
    Case("MixedPooling", mixed_pooling, {"c": 13, "sizes": (3, 2)}),
]

REFUSALS = [
    ("MixedPooling", {"c": 4}, {"c": 3}),
    ("MixedPooling", {"c": 4}, {"sizes": (12,)}),
    ("MixedPooling", {"c": 4}, {"sizes": (20, 12, 6)}),
    ("MixedPooling", {"c": 4}, {"sizes": (20, 0)}),
]
