"""Squeeze-and-Excitation."""

from __future__ import annotations

import torch
from torch import Tensor

from ..case import Case
from .tools import Weights


def se(
    p: Weights, x: Tensor, training: bool, /, c: int, reduction: int = 16, bias: bool = True
) -> Tensor:
    hidden = max(c // reduction, 1)
    w1, w2 = p["squeeze.weight"].view(hidden, c), p["excite.weight"].view(c, hidden)
    b1 = p["squeeze.bias"].view(hidden) if bias else 0
    b2 = p["excite.bias"].view(c) if bias else 0
    out = []
    for image in x:
        means = torch.stack([channel.sum() / channel.numel() for channel in image])
        gates = 1 / (1 + (-(w2 @ (w1 @ means + b1).clamp(min=0) + b2)).exp())
        out.append(torch.stack([g * channel for g, channel in zip(gates, image, strict=True)]))
    return torch.stack(out)


CASES = [
    Case("SE", se, {"c": 32}),
    Case("SE", se, {"c": 6, "reduction": 1, "bias": False}),
]
