"""Coordinate Attention: rows and columns are treated alike."""

import torch

from yolograft.blocks import CoordAtt


def test_transposed_map_with_swapped_gates():
    block, swapped = CoordAtt(6).double(), CoordAtt(6).double()
    state = block.state_dict()
    for name in ("weight", "bias"):
        rows, cols = f"rows.{name}", f"cols.{name}"
        state[rows], state[cols] = state[cols], state[rows]
    swapped.load_state_dict(state)
    x = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(swapped(x.mT).mT, block(x), rtol=1e-12, atol=1e-12)


def test_gates_of_zeros_quarter():
    block = CoordAtt(6).double()
    for conv in (block.rows, block.cols):
        torch.nn.init.zeros_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    x = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(block(x), x / 4, rtol=1e-12, atol=1e-12)
