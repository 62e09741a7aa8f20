"""Non-local, with the whole matrix, query by query."""

from __future__ import annotations

import torch
from torch import Tensor

from ..case import Case
from .tools import Weights, batch_norm, conv


def pooled(x: Tensor) -> Tensor:
    """Return the maximum of every whole 2x2 window, of what there is in a single row or column."""
    h, w = x.shape[2:]
    tops, lefts = (range(0, max(n - 1, 1), 2) for n in (h, w))
    rows = [torch.stack([x[:, :, i : i + 2, j : j + 2].amax((2, 3)) for j in lefts]) for i in tops]
    return torch.stack(rows).permute(2, 3, 0, 1)


def non_local(
    p: Weights,
    x: Tensor,
    training: bool,
    /,
    c: int,
    reduction: int = 2,
    scaled: bool = False,
    subsample: bool = False,
    norm: bool = True,
) -> Tensor:
    inter = c // reduction
    q, k, v = (
        conv(x, p[f"{name}.weight"].view(inter, c, 1, 1)) + p[f"{name}.bias"].view(inter, 1, 1)
        for name in ("theta", "phi", "g")
    )
    if subsample:
        k, v = pooled(k), pooled(v)
    k, v = k.flatten(2), v.flatten(2)
    gathered = []
    for query in q.flatten(2).unbind(2):
        scores = (query[:, :, None] * k).sum(1) / (inter**0.5 if scaled else 1)
        scores = (scores - scores.amax(1, keepdim=True)).exp()
        gathered.append((scores[:, None] * v).sum(2) / scores.sum(1)[:, None])
    y = torch.stack(gathered, 2).view_as(q)
    last = "out.conv" if norm else "out"
    y = conv(y, p[f"{last}.weight"].view(c, inter, 1, 1)) + p[f"{last}.bias"].view(c, 1, 1)
    return x + (batch_norm(p, "out.bn", y, training) if norm else y)


CASES = [
    Case("NonLocal", non_local, {"c": 8}),
    Case(
        "NonLocal",
        non_local,
        {"c": 6, "reduction": 3, "scaled": True, "subsample": True},
    ),
    Case(
        "NonLocal",
        non_local,
        {"c": 5, "reduction": 1, "subsample": True, "norm": False},
    ),
]

REFUSALS = [
    ("NonLocal", {"c": 4}, {"reduction": 5}),
]
