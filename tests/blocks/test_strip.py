"""Strip and mixed pooling: the matrices against what torch computes eagerly."""

import pytest
import torch
import torch.nn.functional as F

from yolograft.blocks import StripPooling, strip

LENGTHS = [1, 2, 3, 7, 12, 13, 20, 37, 80]


@pytest.mark.parametrize("n", [1, 2, 12, 20])
@pytest.mark.parametrize("length", LENGTHS)
def test_matrices(length, n):
    x = torch.randn(2, 3, length, dtype=torch.float64)
    pooled = x @ strip._pool(length, n, x).T
    torch.testing.assert_close(pooled, F.adaptive_avg_pool1d(x, n), rtol=1e-12, atol=1e-12)
    resized = pooled @ strip._resize(n, length, x).T
    expected = F.interpolate(pooled, length, mode="linear", align_corners=True)
    torch.testing.assert_close(resized, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_matrices_weigh_to_one(dtype):
    for length in LENGTHS:
        like = torch.empty(0, dtype=dtype)
        for matrix in (strip._pool(length, 12, like), strip._resize(12, length, like)):
            total = matrix.double().sum(1)
            assert matrix.dtype == dtype
            tolerance = 2 * torch.finfo(dtype).eps
            torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=tolerance)


def test_transposed_map_with_swapped_strips():
    block, swapped = StripPooling(4).double(), StripPooling(4).double()
    state = {
        {"rows": "cols", "cols": "rows"}.get(name.split(".")[0], "mix")
        + name[name.index(".") :]: value.mT if value.ndim == 4 else value
        for name, value in block.state_dict().items()
    }
    swapped.load_state_dict(state)
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(swapped(x.mT).mT, block(x), rtol=1e-12, atol=1e-12)


def test_pools_of_unequal_sizes_keep_their_order():
    block = strip.MixedPooling(8, sizes=(1, 3)).double().eval()
    other = strip.MixedPooling(8, sizes=(3, 1)).double().eval()
    state = block.state_dict()
    for name in [n for n in state if n.startswith("windows.0.")]:
        twin = name.replace("windows.0.", "windows.1.")
        state[name], state[twin] = state[twin], state[name]
    other.load_state_dict(state)
    x = torch.randn(2, 8, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(other(x), block(x), rtol=1e-12, atol=1e-12)
