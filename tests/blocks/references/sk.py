"""Selective kernels."""

from __future__ import annotations

from math import gcd

from torch import Tensor, nn

from ..case import Case
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


def sk_unit(
    p: Weights,
    x: Tensor,
    training: bool,
    /,
    c1: int,
    c2: int,
    s: int = 1,
    c_mid: int | None = None,
    groups: int = 32,
    reduction: int = 16,
    min_dim: int = 32,
) -> Tensor:
    mid = c2 // 2 if c_mid is None else c_mid
    inner = {n.removeprefix("sk."): t for n, t in p.items() if n.startswith("sk.")}
    y = conv(x, p["enter.conv.weight"].view(mid, c1, 1, 1))
    y = batch_norm(p, "enter.bn", y, training).clamp(min=0)
    g = gcd(groups, mid)
    y = sk_conv(inner, y, training, mid, mid, 3, s, 2, g, reduction, min_dim, act=nn.ReLU())
    p.update({f"sk.{n}": t for n, t in inner.items()})
    y = batch_norm(p, "leave.bn", conv(y, p["leave.conv.weight"].view(c2, mid, 1, 1)), training)
    if s > 1 or c1 != c2:
        x = conv(x, p["shortcut.conv.weight"].view(c2, c1, 1, 1), s)
        x = batch_norm(p, "shortcut.bn", x, training)
    return (x + y).clamp(min=0)


CASES = [
    Case("SKConv", sk_conv, {"c1": 6, "c2": 8}),
    Case("SKConv", sk_conv, {"c1": 6, "c2": 4, "s": 2, "branches": 3, "groups": 2}),
    Case("SKConv", sk_conv, {"c1": 4, "c2": 4, "dilated": False, "min_dim": 5}),
    Case("SKConv", sk_conv, {"c1": 3, "c2": 80, "k": 1, "reduction": 2, "act": None}),
    Case("SKConv", sk_conv, {"c1": 4, "c2": 6, "k": 5, "act": nn.ReLU()}),
    Case("SKUnit", sk_unit, {"c1": 6, "c2": 16}),
    Case("SKUnit", sk_unit, {"c1": 4, "c2": 4, "c_mid": 8, "groups": 4}),
    Case("SKUnit", sk_unit, {"c1": 4, "c2": 4, "s": 2, "reduction": 1, "min_dim": 1}),
]

REFUSALS = [
    ("SKConv", {"c1": 6, "c2": 4}, {"k": 6}),
    ("SKConv", {"c1": 6, "c2": 4}, {"branches": 1}),
    ("SKConv", {"c1": 6, "c2": 4}, {"groups": 3}),
    ("SKConv", {"c1": 6, "c2": 4}, {"groups": 4}),
    ("SKConv", {"c1": 6, "c2": 4}, {"groups": 8}),
    ("SKUnit", {"c1": 6, "c2": 4}, {"c_mid": 0}),
]
