"""Coordinate Attention, gate by gate."""

from __future__ import annotations

import torch
from torch import Tensor

from ..case import Case
from .tools import Weights, batch_norm


def coord_att(p: Weights, x: Tensor, training: bool, /, c: int, reduction: int = 32) -> Tensor:
    h, w = x.shape[2:]
    hidden = max(8, c // reduction)
    strips = [x[:, :, i].sum(2) / w for i in range(h)] + [x[..., j].sum(2) / h for j in range(w)]
    weight, bias = p["mix.conv.weight"].view(hidden, c), p["mix.conv.bias"].view(hidden)
    mixed = torch.stack([v @ weight.T + bias for v in strips], 2)[..., None]
    mixed = batch_norm(p, "mix.bn", mixed, training)[..., 0]
    mixed = mixed * (mixed + 3).clamp(0, 6) / 6

    def gate(name: str, v: Tensor) -> Tensor:
        logits = v @ p[f"{name}.weight"].view(c, hidden).T + p[f"{name}.bias"].view(c)
        return 1 / (1 + (-logits).exp())

    rows = torch.stack([gate("rows", mixed[..., i]) for i in range(h)], 2)
    cols = torch.stack([gate("cols", mixed[..., h + j]) for j in range(w)], 2)
    return torch.einsum("bchw,bch,bcw->bchw", x, rows, cols)


CASES = [
    Case("CoordAtt", coord_att, {"c": 6}),
    Case("CoordAtt", coord_att, {"c": 26, "reduction": 2}),
]
