"""Loops and formulas that several references share."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]

#: Ultralytics sets it in every BatchNorm, away from the default of torch.
EPS = 1e-3


def conv(x: Tensor, w: Tensor, s: int = 1, d: int = 1, groups: int = 1) -> Tensor:
    """Convolve tap by tap and group by group, padded to keep the size at stride 1."""
    (b, c, h, w_in), (rows, cols) = x.shape, w.shape[2:]
    top, left = d * (rows // 2), d * (cols // 2)
    padded = x.new_zeros(b, c, h + 2 * top, w_in + 2 * left)
    padded[:, :, top : top + h, left : left + w_in] = x
    last_row, last_col = (h - 1) // s * s, (w_in - 1) // s * s
    out = []
    for x_g, w_g in zip(padded.chunk(groups, 1), w.chunk(groups), strict=True):
        taps = [
            torch.einsum(
                "oc,bchw->bohw",
                w_g[:, :, i, j],
                x_g[:, :, i * d : i * d + last_row + 1 : s, j * d : j * d + last_col + 1 : s],
            )
            for i, j in product(range(rows), range(cols))
        ]
        out.append(sum(taps))
    return torch.cat(out, 1)


def batch_norm(p: Weights, name: str, x: Tensor, training: bool, momentum: float = 0.1) -> Tensor:
    """Normalise by the batch in training, where it has more than one value, else by history."""
    n = x.numel() // x.shape[1]
    mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    if training and n > 1:
        history = mean, var
        mean = x.mean((0, 2, 3))
        var = ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))
        for key, old, new in zip(("mean", "var"), history, (mean, var * n / (n - 1)), strict=True):
            p[f"{name}.running_{key}"] = (1 - momentum) * old + momentum * new.detach()
        p[f"{name}.num_batches_tracked"] = p[f"{name}.num_batches_tracked"] + 1
    scale = p[f"{name}.weight"] / (var + EPS) ** 0.5
    return (x - mean[:, None, None]) * scale[:, None, None] + p[f"{name}.bias"][:, None, None]


def activate(act: bool | nn.Module | None, x: Tensor) -> Tensor:
    """Apply what an ``act`` argument means."""
    if act is True:
        return x / (1 + (-x).exp())
    return act(x) if isinstance(act, nn.Module) else x
