"""Spatial transformer."""

from __future__ import annotations

import torch
from torch import Tensor

from ..case import Case
from .deform import bilinear
from .tools import Weights, batch_norm, conv


def stn(
    p: Weights,
    x: Tensor,
    training: bool,
    /,
    c: int,
    hidden: int = 32,
    size: int | tuple[int, int] | None = None,
    align_corners: bool = False,
) -> Tensor:
    v = x
    for n, width in enumerate((c, hidden)):
        v = conv(v, p[f"localisation.{n}.conv.weight"].view(hidden, width, 3, 3), s=2)
        v = batch_norm(p, f"localisation.{n}.bn", v, training).clamp(min=0)
    v = v.flatten(2).sum(2) / v[0, 0].numel()
    v = (v @ p["hidden.weight"].view(hidden, hidden).T + p["hidden.bias"]).clamp(min=0)
    theta = (v @ p["affine.weight"].view(6, hidden).T + p["affine.bias"]).view(-1, 2, 3)

    out = x.shape[2:] if size is None else (size, size) if isinstance(size, int) else size

    def places(n: int) -> Tensor:
        edge = (1 if align_corners else 1 - 1 / n) if n > 1 else 0
        return torch.linspace(-edge, edge, n, dtype=x.dtype)

    def pixels(places: Tensor, n: int) -> Tensor:
        return (places + 1) / 2 * (n - 1) if align_corners else ((places + 1) * n - 1) / 2

    t, s = torch.meshgrid(places(out[0]), places(out[1]), indexing="ij")
    u, v = torch.einsum("bij,jyx->ibyx", theta, torch.stack((s, t, torch.ones_like(s))))
    return bilinear(x, pixels(v, x.shape[2]), pixels(u, x.shape[3]))


CASES = [
    Case("STN", stn, {"c": 3}),
    Case("STN", stn, {"c": 2, "hidden": 5, "align_corners": True}),
    Case("STN", stn, {"c": 2, "hidden": 6, "size": 5}),
    Case("STN", stn, {"c": 2, "hidden": 6, "size": (3, 4), "align_corners": True}),
]

REFUSALS = [
    ("STN", {"c": 4}, {"size": 0}),
    ("STN", {"c": 4}, {"size": (4,)}),
    ("STN", {"c": 4}, {"size": (4, 0)}),
]
