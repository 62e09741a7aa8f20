"""Small helpers that several blocks share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def check_int(block: str, minimum: int = 1, **values: int) -> None:
    """Refuse arguments that are not integers of at least ``minimum``.

    Args:
        block: Name for the message.
        minimum: Smallest accepted value.
        **values: Argument names and values.

    Raises:
        TypeError: If a value is not an ``int``.
        ValueError: If a value is too small.
    """
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool):
            msg = (
                f"{block}: {name}={value!r} must be an integer\n\n"
                f"Hint: use {minimum} or more, without quotes or a decimal point"
            )
            raise TypeError(msg)
        if value < minimum:
            msg = f"{block}: {name}={value} is too small\n\nHint: use {minimum} or more"
            raise ValueError(msg)


def check_bool(block: str, **values: bool) -> None:
    """Refuse arguments that are not ``True`` or ``False``.

    Args:
        block: Name for the message.
        **values: Argument names and values.

    Raises:
        TypeError: If a value is not a ``bool``.
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            msg = (
                f"{block}: {name}={value!r} must be True or False\n\n"
                "Hint: use true or false, without quotes"
            )
            raise TypeError(msg)


def check_kernel(block: str, k: int, name: str = "k") -> None:
    """Refuse kernels that are not odd, which have no centre to pad around.

    Args:
        block: Name for the message.
        k: Kernel size.
        name: Argument name for the message.

    Raises:
        TypeError: If ``k`` is not an ``int``.
        ValueError: If ``k`` is even or below 1.
    """
    check_int(block, **{name: k})
    if k % 2 == 0:
        msg = f"{block}: {name}={k} is even\n\nHint: use an odd kernel, {k - 1} or {k + 1}"
        raise ValueError(msg)


def check_ints(block: str, count: int | None = None, **values: tuple[int, ...]) -> None:
    """Refuse arguments that are not lists of positive integers.

    Args:
        block: Name for the message.
        count: How many numbers; ``None`` for any but none.
        **values: Argument names and values.

    Raises:
        TypeError: If a value is not a tuple or list of ``int``.
        ValueError: If it has another length, or holds a number that is too small.
    """
    wanted = f"{count} positive integers" if count else "one or more positive integers"
    for name, value in values.items():
        hint = f"\n\nHint: use a list of {wanted}"
        numbers = list(value) if isinstance(value, tuple | list) else [None]
        if not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
            msg = f"{block}: {name}={value!r} is not a list of integers{hint}"
            raise TypeError(msg)
        if len(numbers) != (count or len(numbers)) or min(numbers, default=0) < 1:
            msg = f"{block}: {name}={value!r} does not fit{hint}"
            raise ValueError(msg)


def check_groups(block: str, groups: int, name: str = "groups", **channels: int) -> None:
    """Refuse a group count that does not divide the channels.

    Args:
        block: Name for the message.
        groups: Number of groups.
        name: Argument name for the message.
        **channels: Argument names and values.

    Raises:
        TypeError: If ``groups`` is not an ``int``.
        ValueError: If ``groups`` is below 1 or does not divide.
    """
    check_int(block, **{name: groups})
    for channel, value in channels.items():
        if value % groups:
            fits = [g for g in range(1, value + 1) if not any(c % g for c in channels.values())]
            near = sorted(fits, key=lambda g: abs(g - groups))[:4]
            msg = (
                f"{block}: {name}={groups} does not divide {channel}={value}\n\n"
                f"Hint: use {', '.join(map(str, sorted(near)))}"
            )
            raise ValueError(msg)


def activation(block: str, act: bool | nn.Module | None) -> nn.Module:
    """Return the module of an ``act`` argument.

    Args:
        block: Name for the message.
        act: ``True`` for SiLU, ``False`` or ``None`` for identity, or a module.

    Raises:
        TypeError: If ``act`` is anything else.
    """
    if act is True:
        return nn.SiLU()
    if act is False or act is None:
        return nn.Identity()
    if isinstance(act, nn.Module):
        return act
    msg = (
        f"{block}: act={act!r} is not an activation\n\n"
        "Hint: use true, false or null; a config's `activation:` key sets what true means"
    )
    raise TypeError(msg)


def captured() -> bool:
    """Tell whether a call is being traced or compiled, so that its graph must fit any size."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a 1x1 convolution to vectors, as the product that it is: quicker to start.

    Args:
        conv: The layer.
        x: ``(B, C)``.
    """
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def norm(bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Apply BatchNorm, with its running statistics where a batch has a single value per channel.

    A pooled 1x1 map of one image has no variance. Training meets it in the last batch of an epoch.

    Args:
        bn: The layer.
        x: ``(B, C, H, W)``.
    """
    if bn.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
        return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps)
    return bn(x)


def mean(x: Tensor, *dims: int, keepdim: bool = False) -> Tensor:
    """Return the mean over dimensions, in the way that is quicker.

    The gradient of ``sum`` is a view, that of ``mean`` a whole map. In float16 a sum can overflow.

    Args:
        x: Any map.
        *dims: Dimensions.
        keepdim: Whether to keep them, with size 1.
    """
    if torch.jit.is_tracing() or not x.requires_grad or x.dtype is torch.float16:
        return x.mean(dims, keepdim=keepdim)
    count = 1
    for dim in dims:
        count *= x.shape[dim]
    return x.sum(dims, keepdim=keepdim) / count


def maximum(x: Tensor, *dims: int) -> Tensor:
    """Return the maximum over neighbouring dimensions, in the way that is quicker.

    ``amax`` is several times as fast as ``max`` forwards. Backwards, where it shares the gradient
    among equal values, it is several times slower; ``max`` gives it to the first of them, as the
    papers' code does.

    Args:
        x: Any map.
        *dims: Dimensions, in order.
    """
    if torch.jit.is_tracing() or not x.requires_grad:
        return x.amax(dims)
    x = x.flatten(dims[0], dims[-1])
    return _Maximum.apply(x, dims[0])[0] if torch.compiler.is_compiling() else x.max(dims[0]).values


class _Maximum(torch.autograd.Function):
    """The maximum for compilers: its own gradient scatters, which they cannot join with others."""

    @staticmethod
    def forward(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        return x.max(dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.dim = inputs
        ctx.size = x.shape[ctx.dim]
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        places = torch.arange(ctx.size, device=grad.device)
        places = places.view(-1, *(1,) * (grad.dim() - ctx.dim))
        chosen = places == index.unsqueeze(ctx.dim)
        return grad.unsqueeze(ctx.dim) * chosen, None


class ConvNormAct(nn.Module):
    """Convolution, BatchNorm, activation; padded to keep the size at stride 1.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Odd kernel size, or rows and columns of it.
        s: Stride.
        d: Dilation.
        groups: Convolution groups.
        act: Activation module.
        momentum: Momentum of the running statistics.
        bias: Whether the convolution has a bias, which BatchNorm takes away again in training.

    Shape:
        - Input: ``(B, c1, H, W)``
        - Output: ``(B, c2, ceil(H / s), ceil(W / s))``
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int | tuple[int, int],
        s: int = 1,
        d: int = 1,
        groups: int = 1,
        act: nn.Module | None = None,
        momentum: float = 0.1,
        bias: bool = False,
    ):
        super().__init__()
        rows, cols = (k, k) if isinstance(k, int) else k
        padding = d * (rows // 2), d * (cols // 2)
        self.conv = nn.Conv2d(c1, c2, (rows, cols), s, padding, d, groups, bias=bias)
        self.bn = nn.BatchNorm2d(c2, momentum=momentum)
        self.act = act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated map."""
        x = self.conv(x)
        if self.bn is not None:
            x = norm(self.bn, x)
        return self.act(x)

    def fuse(self) -> None:
        """Fold BatchNorm into the convolution, for inference."""
        if self.bn is not None:
            self.conv = fuse_conv_bn_eval(self.conv.eval(), self.bn.eval()).requires_grad_(False)
            self.bn = None
