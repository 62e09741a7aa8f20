"""ACmix: self-attention and convolution from the same projections.

Paper: Pan et al., "On the Integration of Self-Attention and Convolution", CVPR 2022,
https://arxiv.org/abs/2111.14556.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolograft.blocks import _layers
from yolograft.blocks._row import Block, NoGradient

#: Values of a map to work on at once, per thread: a few such pieces fit a core's cache.
_PIECE = 2**17

#: Before torch 2.7, an export cannot be told from other compiling.
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


class ACmix(nn.Module):
    """Attention within a window, plus a convolution, over one set of projections.

    Paper: Pan et al., CVPR 2022, https://arxiv.org/abs/2111.14556, Sec. 4.2 and 4.3::

        q, k, v  = three 1x1 convolutions of x
        F_att    = sum_j softmax_j(q_i . (k_j + p_i - p_j) / sqrt(d)) v_j       j near i, per head
        F_conv   = shift-and-sum(1x1 mixing of q, k, v)
        out      = rate1 F_att + rate2 F_conv

    where ``p`` encodes positions. The mixing takes the ``3 * heads`` maps of each channel of a head
    to ``k_conv**2`` ones, which a convolution in groups, at first one-hot, shifts and sums.

    Args:
        c1: Input channels.
        c2: Output channels.
        k_att: Window of the attention, odd.
        heads: Attention heads, a divisor of ``c2``.
        k_conv: Kernel of the convolution, odd.
        s: Stride.

    Shape:
        - Input: ``(B, c1, H, W)``
        - Output: ``(B, c2, ceil(H / s), ceil(W / s))``

    Raises:
        TypeError: If an argument is not an integer.
        ValueError: If an argument is below 1, a kernel is even, or ``heads`` does not divide
            ``c2``.

    Differs from the authors' code: maps no larger than the padding, kernels of convolution other
    than 3, and sizes that the stride does not divide work too. As there, attention returns all
    channels of the first head, then of the next; the convolution returns all heads of the first
    channel, then of the next; and they are summed in these orders.
    """

    def __init__(
        self, c1: int, c2: int, k_att: int = 7, heads: int = 4, k_conv: int = 3, s: int = 1
    ):
        super().__init__()
        _layers.check_int("ACmix", c1=c1, c2=c2, s=s)
        _layers.check_kernel("ACmix", k_att, "k_att")
        _layers.check_kernel("ACmix", k_conv, "k_conv")
        _layers.check_groups("ACmix", heads, "heads", c2=c2)
        width, taps = c2 // heads, k_conv**2
        self.rate1 = nn.Parameter(torch.full((1,), 0.5))
        self.rate2 = nn.Parameter(torch.full((1,), 0.5))
        self.query = nn.Conv2d(c1, c2, 1)
        self.key = nn.Conv2d(c1, c2, 1)
        self.value = nn.Conv2d(c1, c2, 1)
        self.attention = WindowAttention(width, k_att, s)
        self.mix = nn.Conv2d(3 * heads, taps, 1, bias=False)
        self.shift = nn.Conv2d(taps * width, c2, k_conv, s, k_conv // 2, groups=width, bias=False)
        with torch.no_grad():
            self.shift.weight.copy_(torch.eye(taps).view(1, taps, k_conv, k_conv))
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted sum of attention and convolution."""
        h, d = self.heads, self.attention.position.out_channels
        layers = (self.query, self.key, self.value)
        # One convolution yields each channel's 3 * heads maps next to each other.
        weight, bias = (torch.stack([getattr(m, n) for m in layers]) for n in ("weight", "bias"))
        weight = weight.view(3, h, d, -1, 1, 1).permute(2, 0, 1, 3, 4, 5).flatten(0, 2)
        bias = bias.view(3, h, d).permute(2, 0, 1).flatten()
        maps = F.conv2d(x, weight, bias).contiguous()  # attention reads along rows
        # Mixing, shifting and summing are linear: one convolution with the product of both.
        mix, shift = self.mix.weight.flatten(1), self.shift.weight
        weight = self.rate2 * torch.einsum("tm,otyx->omyx", mix, shift)
        k = shift.shape[3]
        out = F.conv2d(maps, weight, None, self.attention.s, k // 2, 1, d)
        maps = maps.view(maps.shape[0], d, 3, h, maps.shape[2], maps.shape[3])
        q, k, v = maps.transpose(1, 3).unbind(2)
        return out.addcmul_(self.attention(q, k, v), self.rate1.type_as(out))


class WindowAttention(nn.Module):
    """Attention of each position to the window around it, with an encoding of positions.

    The term of the query's own position is the same for all keys of its window, so the softmax
    takes no notice of it: the encoding is subtracted from the keys once, and no window is ever
    copied out of the map. The bias of the encoding drops out in the same way.

    Args:
        d: Channels per head.
        k: Window, odd.
        s: Stride of the queries.

    Shape:
        - Input: queries, keys and values, each ``(B, heads, d, H, W)``
        - Output: ``(B, heads * d, ceil(H / s), ceil(W / s))``
    """

    def __init__(self, d: int, k: int, s: int = 1):
        super().__init__()
        self.position = nn.Conv2d(2, d, 1)
        self.k, self.s = k, s

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return what each position gathered from its window."""
        q, p = q[..., :: self.s, :: self.s], self.encode(k)
        if torch.jit.is_tracing() or _is_exporting():
            attend = _attend_in_a_graph
        else:
            attend = _attend_op if torch.compiler.is_compiling() else _Attend.apply
        return attend(q, k, v, p, self.k, self.s).flatten(1, 2)

    def encode(self, k: Tensor) -> Tensor:
        """Return the encoding of every position, ``(d, H, W)``: a 1x1 convolution of coordinates.

        In at least single precision, since neighbours differ by little.

        Args:
            k: The keys.
        """
        dtype = torch.promote_types(k.dtype, torch.float32)
        h, w = (_coordinates(n, k.device, dtype) for n in k.shape[3:])
        to_x, to_y = self.position.weight.to(dtype).flatten(1).unbind(1)
        nothing = 0 * self.position.bias.to(dtype)  # a parameter without gradient would stop DDP
        x = to_x[:, None] * w + nothing[:, None]
        return x[:, None] + (to_y[:, None] * h)[:, :, None]


def _coordinates(n: Tensor | int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return ``n`` equal steps from -1 to 1; a single one is -1, as in ``linspace``."""
    return torch.arange(n, device=device, dtype=dtype) * (2 / (n - 1 + 1 // n)) - 1


def _reflected(n: Tensor | int, r: int, device: torch.device) -> Tensor:
    """Return the positions that reflection padding reads, mirrored as often as needed."""
    period = 2 * n - 2 + 1 // n
    # No abs here: at fixed sizes, OpenVINO folds that of negative integers wrongly.
    steps = (torch.arange(n + 2 * r, device=device) - r) % period
    return torch.minimum(steps, period - steps)


# In exported graphs: plain operations on whole maps, right for any size.


def _attend_in_a_graph(q: Tensor, k: Tensor, v: Tensor, p: Tensor, window: int, s: int) -> Tensor:
    h, w = k.shape[3:]
    rows, cols = (_reflected(n, window // 2, k.device) for n in (h, w))
    scaled = q.type_as(p) * q.shape[2] ** -0.5
    k, v = (t.index_select(3, rows).index_select(4, cols) for t in (k - p, v.type_as(p)))
    ends = [(n, n + 1 - window or None) for n in range(window)]
    cuts = [(..., slice(*y, s), slice(*x, s)) for y in ends for x in ends]
    weights = torch.stack([(scaled * k[cut]).sum(2, keepdim=True) for cut in cuts]).softmax(0)
    out = sum(weight * v[cut] for weight, cut in zip(weights, cuts, strict=True))
    return out.type_as(q)


# Elsewhere: piece by piece, each small enough for the cache, and with the gradient written out,
# which else would keep all products and fill a whole map per position of the window.


def _attend(q: Tensor, k: Tensor, v: Tensor, p: Tensor, window: int, s: int) -> Tensor:
    out, r = torch.empty_like(q, memory_format=torch.contiguous_format), window // 2
    for part, bands in _parts(q):
        keys, values = _pad(k[part] - p, r), _pad(v[part].type_as(p), r)
        for top, bottom in bands:
            piece = _Piece(q[part][..., top:bottom, :].type_as(p), top, window, s)
            out[part][..., top:bottom, :] = piece.gather(piece.weights(keys), values)
    return out


def _attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor, window: int, s: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dq, dk, dv = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (q, k, v))
    dp, r = torch.zeros_like(p), window // 2
    for part, bands in _parts(q):
        keys, values = _pad(k[part] - p, r), _pad(v[part].type_as(p), r)
        dkeys, dvalues = torch.zeros_like(keys), torch.zeros_like(values)
        for top, bottom in bands:
            piece = _Piece(q[part][..., top:bottom, :].type_as(p), top, window, s)
            dout = grad[part][..., top:bottom, :].type_as(p).flatten(3).contiguous()
            weights = piece.weights(keys)
            piece.scatter(weights, dout, dvalues)
            dlogits = piece.products(dout, values)
            dlogits.sub_((weights * dlogits).sum(0)).mul_(weights)
            piece.scatter(dlogits, piece.q, dkeys)
            dq[part][..., top:bottom, :] = piece.gather(dlogits, keys).mul_(piece.scale)
        dkeys, dvalues = _unpad(dkeys, r), _unpad(dvalues, r)
        dk[part], dv[part] = dkeys, dvalues
        dp -= dkeys.sum((0, 1))
    return dq, dk, dv, dp


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:4])
    ctx.numbers = inputs[4:]


class _Attend(torch.autograd.Function):
    forward = staticmethod(_attend)
    setup_context = staticmethod(_save)

    @staticmethod
    def backward(ctx, grad):
        maps = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return *_attend_backward(grad, *maps, *ctx.numbers), None, None
        # A second derivative is wanted: leave both to autograd.
        wanted = [t for t, needed in zip(maps, ctx.needs_input_grad, strict=False) if needed]
        out = _attend_in_a_graph(*maps, *ctx.numbers)
        found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
        return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)


# For compilers, which would unroll the loops, the same functions as operators.

_MAPS = "Tensor q, Tensor k, Tensor v, Tensor p, int window, int s"
_attend_op = torch.library.custom_op(
    "yolograft::window_attention", _attend, mutates_args=(), schema=f"({_MAPS}) -> Tensor"
)
_attend_backward_op = torch.library.custom_op(
    "yolograft::window_attention_backward",
    _attend_backward,
    mutates_args=(),
    schema=f"(Tensor grad, {_MAPS}) -> (Tensor, Tensor, Tensor, Tensor)",
)


@_attend_op.register_fake
def _(q, k, v, p, window, s):
    return torch.empty_like(q, memory_format=torch.contiguous_format)


@_attend_backward_op.register_fake
def _(grad, q, k, v, p, window, s):
    return (*(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (q, k, v, p)),)


def _backward_of_op(ctx, grad):
    return *_attend_backward_op(grad, *ctx.saved_tensors, *ctx.numbers), None, None


_attend_op.register_autograd(_backward_of_op, setup_context=_save)


def _parts(q: Tensor) -> Iterator[tuple[tuple[slice, slice], list[tuple[int, int]]]]:
    """Yield groups of images and heads, with bands of rows where a single head is too large."""
    b, heads, d, h, w = q.shape
    size = _PIECE * torch.get_num_threads() if q.device.type == "cpu" else q.numel()
    head = d * h * w
    images, group = max(size // (heads * head), 1), min(max(size // head, 1), heads)
    bands = min(-(-head // size), h)
    ends = [h * band // bands for band in range(bands + 1)]
    for image in range(0, b, images):
        for first in range(0, heads, group):
            yield (slice(image, image + images), slice(first, first + group)), [*pairwise(ends)]


class _Piece:
    """A band of rows of some maps, and what lies at each place of their windows.

    The padded map is cut to size at one column of the window after another, and copied. Inside such
    a cut, a row further down the window is a shift by one row of the map: a range of one long
    vector, which all operations run through without a break.
    """

    def __init__(self, q: Tensor, top: int, window: int, s: int):
        *_, d, rows, self.w = q.shape
        self.scale = d**-0.5
        self.q = (q * self.scale).flatten(3)
        self.window = window
        bottom = (top + rows - 1) * s + window
        self.cuts = [
            (..., slice(top * s + y, bottom, s), slice(x, x + (self.w - 1) * s + 1, s))
            for x in range(window)
            for y in range(min(s, window))
        ]

    def shifts(self, flat: Tensor) -> tuple[Tensor, ...]:
        """Return the rows of the window in a cut, as ranges of it."""
        return flat.flatten(3).unfold(3, self.q.shape[3], self.w).unbind(3)

    def neighbours(self, padded: Tensor) -> Iterator[Tensor]:
        """Yield what lies at each place of the windows, always in the same order."""
        for cut in self.cuts:
            yield from self.shifts(padded[cut])

    def products(self, a: Tensor, padded: Tensor) -> Tensor:
        """Return the product of each position with each place of its window."""
        out, product = a.new_empty(self.window**2, *a[:, :, 0].shape), torch.empty_like(a)
        for total, b in zip(out, self.neighbours(padded), strict=True):
            torch.mul(a, b, out=product)
            torch.sum(product, 2, out=total)
        return out

    def weights(self, keys: Tensor) -> Tensor:
        """Return the weight of each place, for each query."""
        return self.products(self.q, keys).softmax(0)

    def gather(self, weights: Tensor, padded: Tensor) -> Tensor:
        """Return the weighted sum of each window."""
        out = torch.zeros_like(self.q)
        for weight, b in zip(weights.unsqueeze(3), self.neighbours(padded), strict=True):
            out.addcmul_(weight, b)
        return out.unflatten(3, (-1, self.w))

    def scatter(self, weights: Tensor, a: Tensor, padded: Tensor) -> None:
        """Add each position to its window, weighted."""
        rest = iter(weights.unsqueeze(3))
        for cut in self.cuts:
            total = torch.zeros_like(padded[cut], memory_format=torch.contiguous_format)
            for b, weight in zip(self.shifts(total), rest, strict=False):
                b.addcmul_(weight, a)
            padded[cut] += total


def _pad(t: Tensor, r: int) -> Tensor:
    """Pad the last two dimensions by reflection."""
    if min(t.shape[3:]) > r:
        return F.pad(t.flatten(0, 1), (r,) * 4, mode="reflect").unflatten(0, t.shape[:2])
    rows, cols = (_reflected(n, r, t.device) for n in t.shape[3:])
    return t.index_select(3, rows).index_select(4, cols)


def _unpad(grad: Tensor, r: int) -> Tensor:
    """Return the gradient of what was padded."""
    for dim in (3, 4):
        n = grad.shape[dim] - 2 * r
        inner = grad.narrow(dim, r, n)
        if n > r:
            inner.narrow(dim, 1, r).add_(grad.narrow(dim, 0, r).flip(dim))
            inner.narrow(dim, n - 1 - r, r).add_(grad.narrow(dim, r + n, r).flip(dim))
        else:
            inner = torch.zeros_like(inner).index_add_(dim, _reflected(n, r, grad.device), grad)
        grad = inner
    return grad


BLOCKS = (
    Block(
        ACmix,
        role="conv",
        paper="2111.14556",
        config="yolov8-acmix.yaml",
        no_gradient=(
            NoGradient("attention.position.bias", "softmax over the window is blind to it"),
        ),
    ),
)
