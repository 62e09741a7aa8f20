"""Deformable convolution, with or without modulation.

Papers: Dai et al., "Deformable Convolutional Networks", ICCV 2017,
https://arxiv.org/abs/1703.06211; Zhu et al., "Deformable ConvNets v2", CVPR 2019,
https://arxiv.org/abs/1811.11168.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn, zeros_like
from torch.utils.checkpoint import checkpoint
from torchvision.ops import deform_conv2d

from yolograft.blocks import _layers
from yolograft.blocks._carry import Carried, alike, nothing, own, weight_and_norm
from yolograft.blocks._row import Block

#: Largest offset, in pixels: outside every map, and far from overflow.
_FAR = 1e4


def _sampled_conv(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Do as ``torchvision.ops.deform_conv2d``: sample every tap of all positions, then one 1x1.

    Every export format knows its operators, and on a CPU it takes less than half the time, of a
    training step a quarter.
    """
    rows, cols = weight.shape[2:]
    taps, offset_groups = rows * cols, offset.shape[1] // (2 * rows * cols)
    channels = x.shape[1]
    out_h, out_w = offset.shape[2:]
    if not torch.jit.is_tracing():
        # On sizes that are powers of two, whole pixels stay whole through the coordinates below:
        # there the gradient has a jump, and offsets start there.
        h, w = (1 << (n - 1).bit_length() for n in x.shape[2:])
        x = F.pad(x, (0, w - x.shape[3], 0, h - x.shape[2]))
    h, w = x.shape[2:]

    def coordinates(axis: int, out: int, size: int) -> Tensor:
        """Return where taps look without offsets, pixel p of n standing at (2p + 1) / n - 1."""
        steps = torch.arange(out, device=x.device).to(offset.dtype) * stride[axis]
        kernel = torch.arange(weight.shape[2 + axis], device=x.device).to(offset.dtype)
        pixels = steps + (kernel * dilation[axis] - padding[axis])[:, None]
        return (2 * pixels + 1) / size - 1

    base_y = coordinates(0, out_h, h).repeat_interleave(cols, 0)[..., None]
    base_x = coordinates(1, out_w, w).repeat(rows, 1)[:, None]
    dy, dx = offset.reshape(-1, taps, 2, out_h, out_w).unbind(2)
    grid = torch.stack((base_x + 2 * dx / w, base_y + 2 * dy / h), -1)
    values = F.grid_sample(
        x.to(offset.dtype).reshape(-1, channels // offset_groups, h, w),
        grid.reshape(-1, taps * out_h, out_w, 2),
        align_corners=False,
    )
    if mask is not None:
        values = values * mask.reshape(-1, 1, taps * out_h, out_w)
    values = values.reshape(-1, channels * taps, out_h, out_w).to(x.dtype)
    return F.conv2d(values, weight.flatten(1)[..., None, None], bias, groups=groups)


class _DeformConv2d(nn.Conv2d):
    """A convolution that predicts, from its own input, where each tap reads and how much it counts.

    It is a ``Conv2d`` by its weights, so that BatchNorm folds into it.
    """

    def __init__(self, *args, offset_groups: int, modulated: bool, **kwargs):
        super().__init__(*args, **kwargs)
        taps = offset_groups * self.kernel_size[0] * self.kernel_size[1]
        self.split = [2 * taps, taps] if modulated else [2 * taps]
        self.offset = nn.Conv2d(
            self.in_channels,
            sum(self.split),
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
        )
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        # Positions need float32: bfloat16 has no half pixels from 128 on, and torchvision's
        # kernel has no bfloat16.
        dtype = torch.float64 if x.dtype is torch.float64 else torch.float32
        offset, *mask = (t.to(dtype) for t in self.offset(x).split(self.split, 1))
        offset = offset.clamp(-_FAR, _FAR)
        mask = mask[0].sigmoid() if mask else None
        shape = self.stride, self.padding, self.dilation
        if torch.jit.is_tracing():
            return _sampled_conv(x, offset, mask, self.weight, self.bias, *shape, self.groups)
        x_, weight = x.to(dtype), self.weight.to(dtype)
        bias = None if self.bias is None else self.bias.to(dtype)
        offset = offset.nan_to_num(0)  # at NaN, torchvision's CPU kernel reads any memory
        if x.is_cpu and not torch.compiler.is_compiling():
            # The samples are k * k times the input: made again for the gradient, not kept.
            inputs = x_, offset, mask, weight, bias, *shape, self.groups
            options = {"use_reentrant": False, "preserve_rng_state": False}
            y = checkpoint(_sampled_conv, *inputs, **options)
        else:
            y = deform_conv2d(x_, offset, weight, bias, *shape, mask)
        return y.to(x.dtype)


class DeformConv(_layers.ConvNormAct):
    """Convolution whose taps read at learned offsets, weighted by a learned mask.

    Papers: Dai et al., https://arxiv.org/abs/1703.06211, Eq. 2; with ``modulated`` Zhu et al.,
    https://arxiv.org/abs/1811.11168, Eq. 1::

        y(p) = act(BN(sum_k w_k * m_k(p) * x(p + p_k + o_k(p))))
        o, m = conv(x), sigmoid(conv(x))

    ``x`` is read bilinearly between pixels, and is zero outside the map. Offsets ``(dy, dx)`` and
    masks come from one convolution of the same kernel, which starts at zero: the block starts as
    the plain convolution, times 0.5 with masks.

    Offsets are kept within 10,000 pixels, and one that is NaN counts as 0.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Kernel size, odd.
        s: Stride.
        p: Padding; ``None`` keeps the size at stride 1.
        g: Groups of the convolution.
        d: Dilation.
        offset_groups: Groups of input channels with offsets and masks of their own.
        modulated: Whether to have masks, as version 2 does.
        bias: Whether the convolution has a bias.
        norm: Whether BatchNorm follows.
        act: Activation: ``True`` for SiLU, ``False`` or ``None`` for identity, or a module.

    Shape:
        - Input: ``(B, c1, H, W)``
        - Output: ``(B, c2, H', W')``, ``H' = floor((H + 2p - d(k - 1) - 1) / s) + 1``, which is
          ``ceil(H / s)`` without ``p``

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or groups do not divide the channels.

    Differs from the papers: ``norm`` and ``act`` make it a layer of YOLO; ``norm=False, act=None``
    is the bare operator. Offsets learn at the rate of all other weights, not at a tenth of it.
    Its gradient is not deterministic on CUDA.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 3,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        d: int = 1,
        offset_groups: int = 1,
        modulated: bool = True,
        bias: bool = False,
        norm: bool = True,
        act: bool | nn.Module | None = True,
    ):
        _layers.check_int("DeformConv", c1=c1, c2=c2, s=s, d=d)
        _layers.check_kernel("DeformConv", k)
        if p is not None:
            _layers.check_int("DeformConv", 0, p=p)
        _layers.check_groups("DeformConv", g, "g", c1=c1, c2=c2)
        _layers.check_groups("DeformConv", offset_groups, "offset_groups", c1=c1)
        _layers.check_bool("DeformConv", modulated=modulated, bias=bias, norm=norm)
        super().__init__(c1, c2, k, s, d, g, _layers.activation("DeformConv", act))
        self.conv = _DeformConv2d(
            c1,
            c2,
            k,
            s,
            d * (k // 2) if p is None else p,
            d,
            g,
            bias,
            offset_groups=offset_groups,
            modulated=modulated,
        )
        if not norm:
            self.bn = None


def _take_over(new: DeformConv, old: nn.Module) -> Carried:
    """Return the weights with which the block is a convolution.

    Offsets are 0 and masks sigmoid(0) = 1/2, so the weights are doubled where there are masks.
    """
    mine, conv = new.conv, old.conv
    names = ("stride", "padding", "dilation", "groups", "kernel_size")
    if not alike(mine, conv, *names) or conv.bias is not None:
        return nothing()
    masked = len(mine.split) == 2
    carried = weight_and_norm(new, old, conv.weight.detach() * (2 if masked else 1), "")
    if not carried.fresh:
        carried.tensors |= {f"conv.offset.{k}": zeros_like(v) for k, v in own(mine.offset).items()}
        if mine.bias is not None:
            carried.tensors["conv.bias"] = zeros_like(mine.bias)
    return carried.counted(new, old)


BLOCKS = (
    Block(
        DeformConv,
        role="conv",
        paper="1811.11168",
        aliases=("DCN",),
        config="yolov8-dcn.yaml",
        take_over=_take_over,
        drifts="beside the weights of the convolution stand the zeros of the offsets, and an "
        "optimizer that gives all weights steps of one size moves them as far",
        nondeterministic="the gradient of deform_conv2d adds up in any order",
    ),
)
