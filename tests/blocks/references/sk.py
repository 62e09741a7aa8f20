"""Selective kernels."""

from __future__ import annotations

from torch import Tensor, nn

from .tools import Weights, activate, batch_norm, conv


def sk_conv(
    p: Weights,
    x: Tensor,
    training: bool,
    /,
    c1: int,
    c2: int,
    k: int = 3,
    s: int = 1,
    branches: int = 2,
    groups: int = 1,
    reduction: int = 16,
    min_dim: int = 32,
    dilated: bool = True,
    act: bool | nn.Module | None = True,
) -> Tensor:
    maps = []
    for i in range(branches):
        size, d = (k, i + 1) if dilated else (k + 2 * i, 1)
        w = p[f"branches.{i}.conv.weight"].view(c2, c1 // groups, size, size)
        u = batch_norm(p, f"branches.{i}.bn", conv(x, w, s, d, groups), training)
        maps.append(activate(act, u))
    hidden = max(c2 // reduction, min_dim)
    pooled = sum(maps).mean((2, 3), keepdim=True)
    z = conv(pooled, p["squeeze.conv.weight"].view(hidden, c2, 1, 1))
    z = batch_norm(p, "squeeze.bn", z, training).clamp(min=0)[:, :, 0, 0]
    scores = [(z @ w.T).exp() for w in p["select.weight"].view(branches, c2, hidden)]
    total = sum(scores)
    return sum((e / total)[:, :, None, None] * u for e, u in zip(scores, maps, strict=True))
