"""What each block computes, written a second time: slowly, from the papers, and by other means.

A reference has the arguments ``(p, x, training, /)`` and then the signature of the block, defaults
included. ``p`` maps the names of the block's state dict to tensors; a reference in training writes
the new running statistics into it. Widths are worked out from the arguments and imposed on the
weights with ``view``, so that a block that ignores an argument does not fit its reference.
"""

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
