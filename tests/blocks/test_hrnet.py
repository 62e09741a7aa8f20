"""What the matrix does not say of HRNet: lists of maps, depth, and the head of the classifier."""

import io

import onnxruntime
import pytest
import torch
from torch import nn

from yolograft.blocks import HRModule, HRNet
from yolograft.blocks.hrnet import HRHead

from .cases import BLOCKS, Case
from .references import hrnet

NAMES = ["a", "b", "c"]


def maps(*channels, size=(12, 10), b=2, dtype=torch.float64):
    """Return maps whose sizes halve, rounded up."""
    out = []
    for c in channels:
        out.append(torch.randn(b, c, *size, dtype=dtype))
        size = [(n + 1) // 2 for n in size]
    return out


def test_the_callers_list_and_maps_are_left_alone():
    module, x = HRModule((2, 4, 8), blocks=2).double(), maps(2, 4, 8)
    before = [m.clone() for m in x]
    given = list(x)
    out = module(x)
    assert all(m is n for m, n in zip(x, given, strict=True))
    assert all(map(torch.equal, x, before))
    assert [t.shape for t in out] == [t.shape for t in x]
    torch.testing.assert_close(module(tuple(x)), out)


def test_one_branch_returns_a_list():
    [out] = HRModule([8], multi_scale=False).double()(maps(8))
    assert out.shape == (2, 8, 12, 10)


@pytest.mark.parametrize(
    ("x", "error", "says"),
    [
        (torch.zeros(1, 6, 8, 8), TypeError, "HRModule: a Tensor is not a list of maps"),
        (maps(2), ValueError, "maps of shapes (2, 2, 12, 10) where 2 with [2, 4] channels belong"),
        (maps(2, 4, 8), ValueError, "(2, 8, 3, 3) where 2 with [2, 4] channels belong"),
        (maps(2, 3), ValueError, "(2, 3, 6, 5) where 2 with [2, 4] channels belong"),
        (maps(4, 2), ValueError, "where 2 with [2, 4] channels belong"),
        ([*maps(2), *maps(4)], ValueError, "(12, 10) is not half of (12, 10)"),
        ([*maps(2, size=(7, 7)), *maps(4, size=(3, 4))], ValueError, "here (4, 4)"),
    ],
)
def test_lists_that_do_not_fit_are_refused(x, error, says):
    with pytest.raises(error) as caught:
        HRModule((2, 4)).double()(x)
    fact, _, hint = str(caught.value).partition("\n\nHint: ")
    assert fact.startswith("HRModule: ")
    assert says in str(caught.value)
    assert hint


def check_graph(run, module):
    for size, b in (((12, 10), 9), ((7, 11), 2), ((5, 4), 1), ((1, 2), 1)):
        x = maps(2, 3, 4, size=size, b=b, dtype=torch.float32)
        torch.testing.assert_close(list(run(x)), module(x), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_list_traces_and_exports():
    module = HRModule((2, 3, 4)).eval()
    x = maps(2, 3, 4, b=9, dtype=torch.float32)
    check_graph(torch.jit.trace(module, (x,)), module)
    file, outs = io.BytesIO(), [f"{n}_out" for n in NAMES]
    axes = {name: {0: "batch", 2: "height", 3: "width"} for name in [*NAMES, *outs]}
    names = {"input_names": NAMES, "output_names": outs, "dynamic_axes": axes}
    torch.onnx.export(module, (x,), file, opset_version=17, dynamo=False, **names)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])

    def run(x):
        out = session.run(None, {n: m.numpy() for n, m in zip(NAMES, x, strict=True)})
        return map(torch.as_tensor, out)

    check_graph(run, module)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_deeper_nets_match_the_reference(training):
    case = Case("HRNet", hrnet.hr_net, {"c1": 3, "width": 4, "modules": (2, 1, 2, 3), "blocks": 2})
    module, x = case.build().train(training), case.input(2, 65, 47)
    torch.testing.assert_close(module(x), case.expected(module, x)[0], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_head_matches_the_reference(training, monkeypatch):
    monkeypatch.setitem(BLOCKS, "HRHead", HRHead)
    case = Case("HRHead", hrnet.hr_head, {"channels": (2, 4, 8, 16), "c2": 5})
    module, x = case.build().train(training), maps(2, 4, 8, 16, size=(9, 13))
    torch.testing.assert_close(module(x), case.expected(module, x)[0], atol=1e-9, rtol=1e-9)
    for layer in module.modules():
        if hasattr(layer, "fuse"):
            layer.eval().fuse()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in module.modules())


@pytest.mark.parametrize("change", [{"channels": (2, 4, 8)}, {"c2": 0}, {"channels": 8}], ids=str)
def test_the_head_refuses(change):
    with pytest.raises((TypeError, ValueError), match=r"HRHead: (?s:.*)Hint: "):
        HRHead(**{"channels": (2, 4, 8, 16), **change})


def test_widths_strides_and_size_of_the_papers_backbone():
    with torch.device("meta"):
        net = HRNet(3)
        shapes = [tuple(t.shape) for t in net(torch.empty(1, 3, 224, 224))]
    assert shapes == [(1, 18, 56, 56), (1, 36, 28, 28), (1, 72, 14, 14), (1, 144, 7, 7)]
    assert net.out_channels == [18, 36, 72, 144]
    assert len(net.stages[0]) == 4
    assert [len(stage.units) for stage in net.stages[1:]] == [1, 4, 3]


def test_width_256_needs_no_first_transition():
    with torch.device("meta"):
        net = HRNet(3, 256, (1, 1, 1, 1), 1)
        assert [t.shape[1] for t in net(torch.empty(1, 3, 64, 64))] == net.out_channels
    assert isinstance(net.stages[1].transition[0], nn.Identity)
