"""Count parameters and FLOPs of a model or a block.

Counters that look at modules miss what happens between them: a deformable convolution, a gate or an
attention written with plain tensor operations adds nothing to their number. This one looks at the
operations that run.

**Convention.** One multiplication, addition, subtraction, division or comparison of two values is
one FLOP, so a multiply-accumulate is two.

===================================  ==============================================================
operation                            FLOPs
===================================  ==============================================================
convolution, linear, matrix product  2 per multiply-accumulate; a bias inside the operator is free
attention (SDPA)                     its two matrix products; a mask does not shorten them
deformable convolution               its products, 8 per sampled value (bilinear: 4
                                     multiply-accumulates), 1 more with a mask
product, sum, ... of maps            1 per value of the result; ``addcmul`` 2, ``lerp`` 3
sum, mean, maximum over a dimension  1 per value read
pooling windows                      1 per value of each window
bilinear resizing, grid sampling     8 per value of the result
===================================  ==============================================================

Not counted: normalisation (BatchNorm folds into its convolution for inference), activations and
softmax (their cost is the hardware's choice, and fused attention hides its softmax too), copies
(concat, padding, indexing, nearest upsampling), and custom operators without a formula. A model
therefore costs the same before and after ``fuse()``, unless that drops a branch or a head.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import prod

import torch
import torchvision  # noqa: F401 (defines torch.ops.torchvision)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from yolograft.errors import refuse

aten = torch.ops.aten


@dataclass(frozen=True)
class Cost:
    """What one forward pass costs.

    Attributes:
        params: Parameters.
        flops: Floating point operations, by the convention of :mod:`yolograft.cost`.
        macs: Multiply-accumulates of the convolutions and matrix products alone, which is what most
            papers print.
    """

    params: int
    flops: int
    macs: int

    @property
    def gflops(self) -> float:
        """Return ``flops`` in billions."""
        return self.flops / 1e9


def count(
    model: nn.Module,
    imgsz: int | tuple[int, int] = 640,
    inputs: torch.Tensor | list[torch.Tensor] | None = None,
) -> Cost:
    """Count parameters and FLOPs of one forward pass in evaluation mode.

    A copy of the model runs once, on its device, so the model itself is left as it is.

    Args:
        model: An Ultralytics model, or any module if ``inputs`` is given.
        imgsz: Image size in pixels, ``size`` or ``(height, width)``, for one image.
        inputs: What to call a bare module with, instead of an image: a map of shape
            ``(B, C, H, W)``, or a list of maps for a module that takes a list.

    Returns:
        The numbers for the whole batch of ``inputs``.

    Raises:
        ConfigError: If ``inputs`` is missing for a bare module, or ``imgsz`` is not a multiple of
            the model's largest stride.
    """
    while hasattr(getattr(model, "model", None), "yaml"):  # YOLO(...) holds the model
        model = model.model
    if inputs is None:
        inputs = _image(model, imgsz)
    module = deepcopy(model).eval()
    formulas = {**_MATRIX, **_ELEMENTWISE}
    # Before torch 2.15 the counter takes an operator apart unless the very overload is known.
    overloads = {getattr(op, name): f for op, f in formulas.items() for name in op.overloads()}
    counter = FlopCounterMode(display=False, custom_mapping={**formulas, **overloads})
    # The fast path of nn.MultiheadAttention is one operator, without a formula.
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), counter:
            module(inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    by_op = counter.get_flop_counts().get("Global", {})
    return Cost(
        params=sum(p.numel() for p in model.parameters()),
        flops=sum(by_op.values()),
        macs=sum(n for op, n in by_op.items() if op not in _ELEMENTWISE) // 2,
    )


def _image(model: nn.Module, imgsz: int | tuple[int, int]) -> torch.Tensor:
    name = type(model).__name__
    if not hasattr(model, "yaml"):
        refuse(
            f"count: {name} is not an Ultralytics model, so its input is unknown",
            "give one, as in count(block, inputs=torch.zeros(1, 64, 80, 80))",
        )
    size = (imgsz, imgsz) if isinstance(imgsz, int) else tuple(imgsz)
    stride = int(max(model.stride)) if hasattr(model, "stride") else 1
    if any(n % stride or n < stride for n in size):
        fits = tuple(max(stride, -(-n // stride) * stride) for n in size)
        refuse(
            f"count: imgsz={imgsz} is not a multiple of {name}'s stride {stride}",
            f"use {fits[0] if isinstance(imgsz, int) else fits}",
        )
    weight = next(model.parameters())
    return weight.new_zeros(1, model.yaml.get("channels", 3), *size)


def _sdpa(q, k, v, *args, out_shape=None, **kwargs) -> int:
    *batch, queries, width = q
    return 2 * prod(batch) * queries * k[-2] * (width + v[-1])


def _deform_conv2d(x, weight, *args, out_shape, **kwargs) -> int:
    positions = out_shape[0] * prod(out_shape[2:])
    sampled = positions * x[1] * prod(weight[2:])
    use_mask = args[-1]
    return 2 * positions * prod(weight) + sampled * (9 if use_mask else 8)


def _dot(a, b, *args, out_shape=None, **kwargs) -> int:
    return 2 * prod(a)


def _per_result(flops: int):
    def formula(*args, out_shape, **kwargs) -> int:
        return flops * prod(out_shape)

    return formula


def _per_value_read(x, *args, out_shape=None, **kwargs) -> int:
    return prod(x)


def _result(out_shape) -> torch.Size:
    return out_shape if isinstance(out_shape, torch.Size) else out_shape[0]  # values, indices


def _window(x, kernel, *args, out_shape, **kwargs) -> int:
    return prod(_result(out_shape)) * (prod(kernel) if len(kernel) == 2 else kernel[0] ** 2)


def _adaptive(x, *args, out_shape, **kwargs) -> int:
    return max(prod(x), prod(_result(out_shape)))


def _grid_sample(x, grid, mode=0, *args, out_shape, **kwargs) -> int:
    return 8 * prod(out_shape) if mode == 0 else 0


#: Products that torch's table lacks, in this or an older release.
_MATRIX = {
    torch.ops.torchvision.deform_conv2d: _deform_conv2d,
    aten.mv: _dot,
    aten.dot: _dot,
    **{
        getattr(aten, name): _sdpa
        for name in (
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_efficient_attention",
            "_scaled_dot_product_cudnn_attention",
            "_scaled_dot_product_fused_attention_overrideable",
        )
        if hasattr(aten, name)
    },
}
_ELEMENTWISE = {
    op: formula
    for formula, ops in (
        (_per_result(1), (aten.add, aten.add_, aten.sub, aten.sub_, aten.rsub)),
        (_per_result(1), (aten.mul, aten.mul_, aten.div, aten.div_, aten.maximum, aten.minimum)),
        (_per_result(2), (aten.addcmul, aten.addcmul_)),
        (_per_result(3), (aten.lerp, aten.lerp_)),
        (_per_value_read, (aten.sum, aten.mean, aten.amax, aten.amin, aten.max, aten.min)),
        (_window, (aten.avg_pool2d, aten.max_pool2d_with_indices)),
        (_adaptive, (aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d)),
        (_per_result(8), (aten.upsample_bilinear2d,)),
        # Without this, torch takes the operator apart and counts its indices.
        (_per_result(0), (aten.upsample_nearest2d,)),
        (_grid_sample, (aten.grid_sampler_2d, aten.cudnn_grid_sampler)),
    )
    for op in ops
}
