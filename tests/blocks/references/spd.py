"""Space-to-depth and SPD-Conv, value by value."""

from __future__ import annotations

from itertools import product

from torch import Tensor, nn

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
