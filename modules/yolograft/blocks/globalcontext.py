"""Global Context block.

Paper: Cao et al., "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond",
ICCVW 2019, https://arxiv.org/abs/1904.11492.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from yolograft.blocks import _layers
from yolograft.blocks._row import Block, NoGradient


class GlobalContext(nn.Module):
    """Add to every position, or scale it by, a vector read from one weighted mean of the map.

    Paper: Cao et al., ICCVW 2019, https://arxiv.org/abs/1904.11492, Eq. 4-6::

        z  = sum_j softmax_j(w x_j) x_j                        over all positions j
        x' = x * sigmoid(T_mul z) + T_add z                    T z = W2 ReLU(LN(W1 z))

    The last map of each T starts as zero, so the block as the identity; with "mul" as half of it.

    Args:
        c: Input and output channels.
        ratio: Hidden width is ``max(int(c * ratio), 1)``.
        pooling: ``"att"`` for the weighted mean, ``"avg"`` for the plain one.
        fusion: ``"add"``, ``"mul"`` or both.

    Shape:
        - Input, output: ``(B, c, H, W)``

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If ``c`` is below 1, ``ratio`` is not positive, or ``pooling`` or ``fusion``
            names something else.
    """

    def __init__(
        self,
        c: int,
        ratio: float = 0.25,
        pooling: str = "att",
        fusion: tuple[str, ...] = ("add",),
    ):
        super().__init__()
        _layers.check_int("GlobalContext", c=c)
        _check_ratio(ratio)
        _check_names(pooling, fusion)
        hidden = max(int(c * ratio), 1)
        self.mask = nn.Conv2d(c, 1, 1) if pooling == "att" else None
        if self.mask is not None:
            nn.init.kaiming_normal_(self.mask.weight)
            nn.init.zeros_(self.mask.bias)
        self.add = _transform(c, hidden) if "add" in fusion else None
        self.mul = _transform(c, hidden) if "mul" in fusion else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the map in its context."""
        if self.mask is None:
            context = _layers.mean(x, 2, 3, keepdim=True)
        elif _layers.captured() or not (torch.is_grad_enabled() and x.requires_grad):
            weights = self.mask(x).flatten(2).softmax(2).type_as(x)  # autocast softens in float32
            context = weights @ x.flatten(2).transpose(1, 2)
            context = context.transpose(1, 2).unsqueeze(3)
        else:
            x, context, _ = _Attend.apply(x, self.mask.weight, self.mask.bias)
        if self.mul is None:
            return x + self.add(context)
        x = x * self.mul(context).sigmoid()
        return x if self.add is None else x.add_(self.add(context))


class _Attend(torch.autograd.Function):
    """The map itself and its attention-weighted mean, with the sum of their gradients at once.

    Without it, each use of the map would write a gradient of its size.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat = x.flatten(2)
        with torch.autocast(x.device.type, enabled=False):
            logits = weight.type_as(x).flatten(1).expand(x.shape[0], 1, -1) @ flat
            # Softmax is blind to the bias.
            attention = logits.softmax(2, torch.promote_types(x.dtype, torch.float32)).type_as(x)
            context = attention @ flat.transpose(1, 2)
        return x.view_as(x), context.transpose(1, 2).unsqueeze(3), attention

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, bias = inputs
        ctx.save_for_backward(x, weight, bias, output[2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, context: Tensor, soft: Tensor) -> tuple[Tensor, ...]:
        x, weight, bias, attention = ctx.saved_tensors
        flat, context = x.flatten(2), context.squeeze(3)
        logits = context.transpose(1, 2) @ flat + soft
        logits = attention * (logits - (attention * logits).sum(2, keepdim=True))
        grad = torch.addcmul(grad.flatten(2), context, attention)
        grad = grad.addcmul_(weight.type_as(x).view(-1, 1), logits)
        weights = (logits @ flat.transpose(1, 2)).sum(0).view_as(weight)
        return grad.view_as(x), weights, torch.zeros_like(bias)


def _transform(c: int, hidden: int) -> nn.Sequential:
    last = nn.Conv2d(hidden, c, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Conv2d(c, hidden, 1), nn.LayerNorm([hidden, 1, 1]), nn.ReLU(inplace=True), last
    )


def _check_ratio(ratio: float) -> None:
    if not isinstance(ratio, (int, float)) or isinstance(ratio, bool):
        msg = f"GlobalContext: ratio={ratio!r} is not a number\n\nHint: use 0.25, without quotes"
        raise TypeError(msg)
    if not 0 < ratio < math.inf:
        msg = f"GlobalContext: ratio={ratio!r} must be positive\n\nHint: use a number such as 0.25"
        raise ValueError(msg)


def _check_names(pooling: str, fusion: tuple[str, ...]) -> None:
    if not isinstance(pooling, str):
        msg = f"GlobalContext: pooling={pooling!r} is unknown\n\nHint: use att or avg"
        raise TypeError(msg)
    if pooling not in ("att", "avg"):
        msg = f"GlobalContext: pooling={pooling!r} is unknown\n\nHint: use att or avg"
        raise ValueError(msg)
    hint = "\n\nHint: use [add], [mul] or [add, mul]"
    if not isinstance(fusion, (tuple, list)) or not all(isinstance(n, str) for n in fusion):
        msg = f"GlobalContext: fusion={fusion!r} is not a list of names{hint}"
        raise TypeError(msg)
    for name in fusion:
        if name not in ("add", "mul"):
            msg = f"GlobalContext: {name!r} in fusion={fusion!r} is unknown{hint}"
            raise ValueError(msg)
    if len(fusion) != len(set(fusion)) or not fusion:
        msg = f"GlobalContext: fusion={fusion!r} names nothing, or a way twice{hint}"
        raise ValueError(msg)


BLOCKS = (
    Block(
        GlobalContext,
        role="attention",
        paper="1904.11492",
        aliases=("GC",),
        config="yolov8-gc.yaml",
        no_gradient=(NoGradient("mask.bias", "softmax over positions is blind to it"),),
    ),
)
