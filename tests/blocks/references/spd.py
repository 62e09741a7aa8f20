"""Space-to-depth and SPD-Conv, value by value."""

from __future__ import annotations

from itertools import product

from torch import Tensor, nn

from ..case import Case
from .tools import Weights, activate, batch_norm, conv


def space_to_depth(p: Weights, x: Tensor, training: bool, /) -> Tensor:
    b, c, h, w = x.shape
    out = x.new_zeros(b, 4 * c, (h + 1) // 2, (w + 1) // 2)
    phases = [(0, 0), (1, 0), (0, 1), (1, 1)]
    for channel, row, col in product(range(c), range(h), range(w)):
        phase = phases.index((row % 2, col % 2))
        out[:, phase * c + channel, row // 2, col // 2] = x[:, channel, row, col]
    return out


def spd_conv(
    p: Weights,
    x: Tensor,
    training: bool,
    /,
    c1: int,
    c2: int,
    k: int = 3,
    act: bool | nn.Module | None = True,
) -> Tensor:
    x = space_to_depth(p, x, training)
    x = conv(x, p["conv.conv.weight"].view(c2, 4 * c1, k, k))
    return activate(act, batch_norm(p, "conv.bn", x, training))


CASES = [
    Case("SpaceToDepth", space_to_depth),
    Case("SPDConv", spd_conv, {"c1": 3, "c2": 8}),
    Case("SPDConv", spd_conv, {"c1": 2, "c2": 5, "k": 1, "act": False}),
    Case("SPDConv", spd_conv, {"c1": 2, "c2": 4, "k": 5, "act": nn.LeakyReLU(0.3)}),
]

REFUSALS = [
    ("SPDConv", {"c1": 4, "c2": 4}, {"k": 2}),
]
