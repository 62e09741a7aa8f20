"""ACmix, position by position."""

from __future__ import annotations

import torch
from torch import Tensor

from ..case import Case
from .tools import Weights, conv


def mirrored(place: int, n: int) -> int:
    """Return where a place outside of a row of ``n`` falls when it is folded back."""
    while not 0 <= place < n:
        place = -place if place < 0 else 2 * (n - 1) - place
        place = place if n > 1 else 0
    return place


def window_attention(
    p: Weights, name: str, q: Tensor, k: Tensor, v: Tensor, window: int, heads: int, s: int
) -> Tensor:
    b, c, h, w = k.shape
    d, r = c // heads, window // 2
    grid = torch.stack(
        (
            torch.linspace(-1, 1, w, dtype=k.dtype).repeat(h, 1),
            torch.linspace(-1, 1, h, dtype=k.dtype).repeat(w, 1).T,
        )
    )
    code = conv(grid[None], p[f"{name}.weight"].view(d, 2, 1, 1))[0]
    code = code + p[f"{name}.bias"].view(d, 1, 1)
    q, k, v = (t.reshape(b, heads, d, h, w) for t in (q, k, v))
    out = q.new_zeros(b, heads, d, -(-h // s), -(-w // s))
    for row in range(0, h, s):
        for col in range(0, w, s):
            rows = [mirrored(row + i, h) for i in range(-r, r + 1) for _ in range(window)]
            cols = [mirrored(col + j, w) for _ in range(window) for j in range(-r, r + 1)]
            keys = k[..., rows, cols] + code[:, row, col, None] - code[:, rows, cols]
            scores = torch.einsum("bhd,bhdn->bhn", q[..., row, col], keys).div(d**0.5).exp()
            scores = scores / scores.sum(2, keepdim=True)
            out[..., row // s, col // s] = torch.einsum("bhn,bhdn->bhd", scores, v[..., rows, cols])
    return out.flatten(1, 2)


def acmix(
    p: Weights,
    x: Tensor,
    training: bool,
    /,
    c1: int,
    c2: int,
    k_att: int = 7,
    heads: int = 4,
    k_conv: int = 3,
    s: int = 1,
) -> Tensor:
    maps = [
        conv(x, p[f"{name}.weight"].view(c2, c1, 1, 1)) + p[f"{name}.bias"].view(c2, 1, 1)
        for name in ("query", "key", "value")
    ]
    attended = window_attention(p, "attention.position", *maps, k_att, heads, s)
    d, taps = c2 // heads, k_conv**2
    mix = p["mix.weight"].view(taps, 3, heads)
    split = torch.stack([m.reshape(x.shape[0], heads, d, *x.shape[2:]) for m in maps], 1)
    mixed = torch.einsum("tmn,bmndhw->bdthw", mix, split).flatten(1, 2)
    convolved = conv(mixed, p["shift.weight"].view(c2, taps, k_conv, k_conv), s, 1, d)
    return p["rate1"].view(1) * attended + p["rate2"].view(1) * convolved


CASES = [
    Case("ACmix", acmix, {"c1": 3, "c2": 8}),
    Case("ACmix", acmix, {"c1": 4, "c2": 4, "k_att": 3, "heads": 2, "s": 2}),
    Case(
        "ACmix",
        acmix,
        {"c1": 2, "c2": 4, "k_att": 5, "heads": 1, "k_conv": 5, "s": 3},
    ),
]

REFUSALS = [
    ("ACmix", {"c1": 3, "c2": 8}, {"k_att": 4}),
    ("ACmix", {"c1": 3, "c2": 8}, {"k_conv": 2}),
    ("ACmix", {"c1": 3, "c2": 8}, {"heads": 3}),
]
