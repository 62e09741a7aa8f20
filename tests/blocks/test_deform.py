"""Deformable convolutions: what the offsets mean, where they start, and what they may be."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import deform_conv2d

from yolograft.blocks import DeformConv, deform

X = torch.linspace(-3, 3, 2 * 4 * 7 * 5, dtype=torch.float64).sin().view(2, 4, 7, 5)

SHAPES = [
    {},
    {"s": 2, "p": 0},
    {"k": 5, "d": 2, "g": 2, "offset_groups": 4},
    {"k": 1, "p": 3, "modulated": False, "bias": True},
]


def bare(**args):
    block = DeformConv(4, 6, norm=False, act=None, **args).double()
    nn.init.normal_(block.conv.offset.bias)
    nn.init.normal_(block.conv.offset.weight)
    return block


def predicted(block, x):
    offset, *mask = block.conv.offset(x).split(block.conv.split, 1)
    return offset, mask[0].sigmoid() if mask else None


def gradients(y, *inputs):
    weights = torch.arange(y.numel(), dtype=y.dtype).cos().view(y.shape)
    return torch.autograd.grad((y * weights).sum(), inputs)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("args", SHAPES, ids=str)
@pytest.mark.parametrize("grad", [False, True])
def test_is_the_operator_of_torchvision(args, grad):
    block = bare(**args)
    conv = block.conv
    with torch.set_grad_enabled(grad):
        offset, mask = predicted(block, X)
        shape = conv.stride, conv.padding, conv.dilation
        close(block(X), deform_conv2d(X, offset, conv.weight, conv.bias, *shape, mask))


@pytest.mark.parametrize("offsets", ["zero", "whole", "anywhere", "far"])
@pytest.mark.parametrize("mask", [False, True])
def test_gradients_are_those_of_torchvision(offsets, mask):
    """Also on whole pixels, where the gradient jumps, and where every block starts."""
    scale = {"zero": 0, "whole": 2, "anywhere": 2, "far": 1e3}[offsets]
    offset = torch.randn(2, 18, 7, 5, dtype=torch.float64) * scale
    offset = offset.round() if offsets == "whole" else offset
    mask = torch.rand(2, 9, 7, 5, dtype=torch.float64).requires_grad_() if mask else None
    weight, bias = torch.randn(6, 4, 3, 3, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    shape = (1, 1), (1, 1), (1, 1)
    inputs = [t.requires_grad_() for t in (X.clone(), offset, weight, bias)]
    x, *_ = inputs
    expected = deform_conv2d(*inputs, *shape, mask)
    actual = deform._sampled_conv(x, offset, mask, weight, bias, *shape, 1)
    close(actual, expected)
    inputs += [mask] if mask is not None else []
    close(gradients(actual, *inputs), gradients(expected, *inputs))


def test_starts_as_the_plain_convolution():
    plain = DeformConv(4, 6, s=2, modulated=False, bias=True, norm=False, act=None).double()
    close(plain(X), F.conv2d(X, plain.conv.weight, plain.conv.bias, 2, 1))
    masked = DeformConv(4, 6, s=2, norm=False, act=None).double()
    close(masked(X), F.conv2d(X, masked.conv.weight, None, 2, 1) / 2)


def test_offsets_are_row_then_column_in_pixels():
    block = DeformConv(4, 4, k=1, modulated=False, norm=False, act=None).double()
    nn.init.dirac_(block.conv.weight)
    block.conv.offset.bias.data = torch.tensor([2.0, -1.0], dtype=torch.float64)
    close(block(X), F.pad(X, (1, 0, 0, 2))[:, :, 2:, :-1])
    block.conv.offset.bias.data = torch.tensor([0.25, 0.0], dtype=torch.float64)
    close(block(X), 0.75 * X + 0.25 * F.pad(X, (0, 0, 0, 1))[:, :, 1:])


def test_registers_the_convolution_first():
    block = DeformConv(4, 6, g=2, offset_groups=4, bias=True)
    shapes = [(6, 2, 3, 3), (6,), (108, 4, 3, 3), (108,), (6,), (6,)]
    assert [tuple(p.shape) for p in block.parameters()] == shapes
    assert not block.conv.offset.weight.any()
    assert not block.conv.offset.bias.any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -3e38])
@pytest.mark.parametrize("how", ["inference", "training", "compiled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_survives_any_offset(value, how, dtype):
    """Ultralytics counts FLOPs on memory that nobody wrote, and torchvision crashes on NaN."""
    block = DeformConv(4, 6, modulated=False, norm=False, act=None).to(dtype)
    block.conv.offset.bias.data[::3] = value
    x = X.to(dtype).requires_grad_(how == "training")
    run = torch.compile(block, backend="eager") if how == "compiled" else block
    with torch.set_grad_enabled(how == "training"):
        y = run(x)
    assert y.isfinite().all()
    if how == "training":
        y.sum().backward()
        assert x.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in block.parameters())


def test_nan_of_the_input_stays_seen():
    x = X.clone()
    x[0, 0, 3, 3] = float("nan")
    with torch.no_grad():
        assert DeformConv(4, 6).double().eval()(x).isnan().any()
