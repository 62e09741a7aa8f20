"""Atrous spatial pyramid pooling."""

from __future__ import annotations

import torch
from torch import Tensor

from ..case import Case
from .tools import Weights, batch_norm, conv


def aspp(
    p: Weights,
    x: Tensor,
    training: bool,
    /,
    c1: int,
    c2: int,
    rates: tuple[int, ...] = (6, 12, 18),
) -> Tensor:
    def layer(name: str, v: Tensor, width: int, k: int = 1, d: int = 1) -> Tensor:
        v = conv(v, p[f"{name}.conv.weight"].view(c2, width, k, k), d=d)
        return batch_norm(p, f"{name}.bn", v, training).clamp(min=0)

    maps = [layer("branches.0", x, c1)]
    maps += [layer(f"branches.{n}", x, c1, 3, rate) for n, rate in enumerate(rates, 1)]
    mean = x.flatten(2).sum(2)[..., None, None] / x[0, 0].numel()
    maps += [layer("pool", mean, c1) + torch.zeros_like(maps[0])]
    return layer("project", torch.cat(maps, 1), (len(rates) + 2) * c2)


CASES = [
    Case("ASPP", aspp, {"c1": 4, "c2": 3}),
    Case("ASPP", aspp, {"c1": 2, "c2": 4, "rates": [1, 3]}),
]

REFUSALS = [
    ("ASPP", {"c1": 4, "c2": 4}, {"rates": ()}),
    ("ASPP", {"c1": 4, "c2": 4}, {"rates": (6, 0)}),
]
