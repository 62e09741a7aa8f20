"""Global context, image by image."""

from __future__ import annotations

import torch
from torch import Tensor

from ..case import Case
from .tools import Weights


def global_context(
    p: Weights,
    x: Tensor,
    training: bool,
    /,
    c: int,
    ratio: float = 0.25,
    pooling: str = "att",
    fusion: tuple[str, ...] = ("add",),
) -> Tensor:
    hidden = max(int(c * ratio), 1)

    def transform(name: str, v: Tensor) -> Tensor:
        v = p[f"{name}.0.weight"].view(hidden, c) @ v + p[f"{name}.0.bias"]
        v = v - v.sum() / hidden
        v = v / ((v**2).sum() / hidden + 1e-5) ** 0.5
        v = v * p[f"{name}.1.weight"].view(hidden) + p[f"{name}.1.bias"].view(hidden)
        return p[f"{name}.3.weight"].view(c, hidden) @ v.clamp(min=0) + p[f"{name}.3.bias"]

    out = []
    for image in x:
        positions = [image[:, i, j] for i in range(x.shape[2]) for j in range(x.shape[3])]
        weights = [torch.ones((), dtype=x.dtype)] * len(positions)
        if pooling == "att":
            mask = p["mask.weight"].view(c)
            weights = [(mask @ v + p["mask.bias"].view(())).exp() for v in positions]
        context = sum(a * v for a, v in zip(weights, positions, strict=True)) / sum(weights)
        if "mul" in fusion:
            image = image / (1 + (-transform("mul", context)).exp())[:, None, None]
        if "add" in fusion:
            image = image + transform("add", context)[:, None, None]
        out.append(image)
    return torch.stack(out)


CASES = [
    Case("GlobalContext", global_context, {"c": 16}),
    Case(
        "GlobalContext",
        global_context,
        {"c": 6, "ratio": 0.7, "pooling": "avg", "fusion": ("mul", "add")},
    ),
    Case(
        "GlobalContext",
        global_context,
        {"c": 4, "ratio": 1, "fusion": ("mul",)},
    ),
]

REFUSALS = [
    ("GlobalContext", {"c": 4}, {"ratio": float("nan")}),
    ("GlobalContext", {"c": 4}, {"ratio": float("inf")}),
    ("GlobalContext", {"c": 4}, {"pooling": "max"}),
    ("GlobalContext", {"c": 4}, {"fusion": ()}),
    ("GlobalContext", {"c": 4}, {"fusion": ("add", "sub")}),
    ("GlobalContext", {"c": 4}, {"fusion": ("add", "add")}),
]
