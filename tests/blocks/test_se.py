"""Squeeze-and-Excitation: scaling by constants, where the gate cannot tell channels apart."""

import torch

from yolograft.blocks import SE


def test_gate_of_zeros_halves():
    block = SE(8).double()
    torch.nn.init.zeros_(block.excite.weight)
    torch.nn.init.zeros_(block.excite.bias)
    x = torch.randn(2, 8, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(block(x), x / 2, rtol=1e-12, atol=1e-12)


def test_gate_ignores_the_order_of_positions():
    block = SE(8, reduction=2).double()
    x = torch.randn(2, 8, 5, 3, dtype=torch.float64)
    order = torch.randperm(15)
    expected = block(x).flatten(2)[:, :, order].view_as(x)
    actual = block(x.flatten(2)[:, :, order].view_as(x))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
