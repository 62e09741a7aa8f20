"""CBAM."""

from __future__ import annotations

import torch
from torch import Tensor

from ..case import Case
from .tools import Weights, batch_norm, conv


def cbam(
    p: Weights,
    x: Tensor,
    training: bool,
    /,
    c: int,
    reduction: int = 16,
    k: int = 7,
    spatial: bool = True,
) -> Tensor:
    hidden = max(c // reduction, 1)
    w0, b0 = p["mlp.0.weight"].view(hidden, c), p["mlp.0.bias"]
    w1, b1 = p["mlp.2.weight"].view(c, hidden), p["mlp.2.bias"]

    def mlp(v: Tensor) -> Tensor:
        return (v @ w0.T + b0).clamp(min=0) @ w1.T + b1

    flat = x.flatten(2)
    gate = mlp(flat.sum(2) / flat.shape[2]) + mlp(flat.max(2).values)
    x = torch.einsum("bc,bchw->bchw", 1 / (1 + (-gate).exp()), x)
    if not spatial:
        return x
    pooled = torch.stack((x.max(1).values, x.sum(1) / c), 1)
    gate = conv(pooled, p["spatial.conv.weight"].view(1, 2, k, k))
    gate = batch_norm(p, "spatial.bn", gate, training, momentum=0.01)
    return x / (1 + (-gate).exp())


CASES = [
    Case("CBAM", cbam, {"c": 32}),
    Case("CBAM", cbam, {"c": 6, "reduction": 2, "k": 3}),
    Case("CBAM", cbam, {"c": 8, "spatial": False}),
]

REFUSALS = [
    ("CBAM", {"c": 4}, {"k": 4}),
]
