"""Selective kernels: the gate is a convex mix of the branches."""

import torch

from yolograft.blocks import SKConv


def test_equal_branches_give_a_branch():
    block = SKConv(4, 6, k=1, branches=3).double()
    for branch in block.branches:
        branch.load_state_dict(block.branches[0].state_dict())
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(block(x), block.branches[0](x), rtol=1e-12, atol=1e-12)


def test_gate_of_zeros_gives_the_mean():
    block = SKConv(4, 6, branches=3).double().eval()
    block.select.weight.data.zero_()
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    mean = sum(branch(x) for branch in block.branches) / 3
    torch.testing.assert_close(block(x), mean, rtol=1e-12, atol=1e-12)
