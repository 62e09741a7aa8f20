"""The counter against counts written out by hand."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import DeformConv2d
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.torch_utils import get_flops

from yolograft.blocks import CBAM, ACmix, NonLocal, SKConv, SpaceToDepth, SPDConv
from yolograft.cost import count

B, H, W = 2, 12, 10
N = H * W


class Lambda(nn.Module):
    """A module of one function, for work that no submodule shows."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Deform(nn.Module):
    """The operator with its offset branch, in place of a stock ``Conv``."""

    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        self.mask = nn.Conv2d(c1, k * k, k, s, k // 2)
        self.offset = nn.Conv2d(c1, 2 * k * k, k, s, k // 2)
        self.conv = DeformConv2d(c1, c2, k, s, k // 2, bias=False)

    def forward(self, x):
        return self.conv(x, self.offset(x), self.mask(x).sigmoid())


def flops(module, *shape):
    return count(module, inputs=torch.zeros(*shape)).flops


def test_convolution():
    cost = count(nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=4), inputs=torch.zeros(B, 8, H, W))
    macs = B * 12 * (H // 2) * (W // 2) * 3 * 3 * (8 // 4)
    assert (cost.macs, cost.flops) == (macs, 2 * macs)
    assert cost.params == 12 * (8 // 4) * 9 + 12
    assert cost.gflops == cost.flops / 1e9


@pytest.mark.parametrize("lead", [(B,), (B, 5)])
def test_linear(lead):
    assert flops(nn.Linear(8, 12), *lead, 8) == 2 * torch.Size(lead).numel() * 8 * 12


def test_vector_products():
    assert flops(Lambda(lambda x: x @ x[0]), H, W) == 2 * H * W
    assert flops(Lambda(lambda x: x @ x), N) == 2 * N


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_deformable_convolution(masked, groups):
    conv = DeformConv2d(8, 12, 3, padding=1, groups=groups)
    offset, mask = torch.zeros(B, 18, H, W), torch.ones(B, 9, H, W)
    products = 2 * B * N * 12 * 9 * (8 // groups)
    bilinear = B * N * 9 * 8 * (4 + 4)  # per tap and channel: four products, four additions
    modulated = B * N * 9 * 8 if masked else 0
    module = Lambda(lambda x: conv(x, offset, mask if masked else None))
    assert flops(module, B, 8, H, W) == products + bilinear + modulated


@pytest.mark.parametrize("masked", [False, True])
def test_attention(masked):
    heads, queries, keys, c = 4, 30, 20, 16
    k, v = torch.zeros(B, heads, keys, c), torch.zeros(B, heads, keys, c)
    mask = torch.zeros(queries, keys) if masked else None
    module = Lambda(lambda q: F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    assert flops(module, B, heads, queries, c) == 2 * B * heads * queries * keys * (c + c)


def test_multi_head_attention_is_not_hidden_by_its_fast_path():
    attention = nn.MultiheadAttention(16, 4, bias=False, batch_first=True)
    projections = 2 * B * N * 16 * 16 * 4
    products = 2 * B * N * N * (16 + 16)
    found = flops(Lambda(lambda x: attention(x, x, x, need_weights=False)[0]), B, N, 16)
    assert found == projections + products
    assert torch.backends.mha.get_fastpath_enabled()


def test_window_attention_of_products_and_sums():
    """As neighbourhood attention is written without an unfold: a loop over the window's shifts."""
    c, k = 8, 3

    def attend(x):
        padded = F.pad(x, (k // 2,) * 4)
        shifts = [padded[:, :, i : i + H, j : j + W] for i in range(k) for j in range(k)]
        logits = torch.stack([(x * key).sum(1, keepdim=True) for key in shifts])
        out = torch.zeros_like(x)
        for weight, value in zip(logits.softmax(0), shifts, strict=True):
            out = torch.addcmul(out, weight, value)
        return out

    logit, output = c + c, 2 * c  # per shift: products and their sum; multiply-accumulates
    assert flops(Lambda(attend), B, c, H, W) == B * N * k * k * (logit + output)


def test_gate_of_a_pooled_product():
    c, hidden = 8, 2
    fc1, fc2 = nn.Linear(c, hidden), nn.Linear(hidden, c)
    gate = Lambda(lambda x: x * fc2(fc1(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None])
    pool, mlp, product = c * N, 2 * 2 * c * hidden, c * N
    assert flops(gate, B, c, H, W) == B * (pool + mlp + product)


@pytest.mark.parametrize(
    ("module", "per_image"),
    [
        (nn.AdaptiveAvgPool2d(1), 8 * N),
        (nn.AdaptiveMaxPool2d(1), 8 * N),
        (nn.AvgPool2d(2), 8 * N),
        (nn.MaxPool2d(5, 1, 2), 8 * N * 25),
        (nn.Upsample(scale_factor=2), 0),
        (nn.Upsample(scale_factor=2, mode="bilinear"), 8 * 4 * N * 8),
        (
            Lambda(lambda x: F.grid_sample(x, x[:, :2].movedim(1, -1), align_corners=False)),
            8 * N * 8,
        ),
        (Lambda(lambda x: x.max(1).values), 8 * N),
        (Lambda(lambda x: 2 * x - x / 3), 3 * 8 * N),
        (Lambda(lambda x: torch.lerp(x, x.relu(), 0.5)), 3 * 8 * N),
        (Lambda(lambda x: x.mul_(x[:, :1]).add_(1)), 2 * 8 * N),
        (Lambda(lambda x: torch.cat((x, x), 1).softmax(1)), 0),
        (nn.Sequential(nn.BatchNorm2d(8), nn.SiLU()), 0),
    ],
)
def test_operation(module, per_image):
    assert flops(module, B, 8, H, W) == B * per_image


def test_skconv():
    c1, c2, hidden = 8, 16, 32
    cost = count(SKConv(c1, c2), inputs=torch.zeros(B, c1, H, W))
    convs = 2 * (c1 * c2 * 9) * N
    gate = c2 * hidden + hidden * 2 * c2
    assert cost.macs == B * (convs + gate)
    pool = 2 * c2 * N + 2 * c2  # two means, added to 0 and to each other
    mix = c2 * N + 2 * c2 * N  # a product, then a multiply-accumulate
    assert cost.flops == B * (2 * (convs + gate) + pool + mix)
    norms = 2 * (2 * c2) + 2 * hidden
    assert cost.params == 2 * c1 * c2 * 9 + gate + norms


def test_cbam():
    c, hidden = 32, 2
    mlp = 2 * (2 * 2 * c * hidden) + c  # applied to mean and maximum; their sum
    pool = 2 * c * N
    channel, spatial = c * N, 2 * (2 * 49) * N + c * N
    assert flops(CBAM(c), B, c, H, W) == B * (pool + mlp + channel + pool + spatial)


def test_acmix():
    c1, c2, heads, k = 8, 16, 4, 7
    block, d = ACmix(c1, c2, k, heads), c2 // heads
    # Coordinates, scaled and shifted; two products, the bias, which drops out, and the sum.
    code = 2 * (H + W) + d * (W + H) + d * (1 + W) + d * N
    shifts = k * k * N * (c2 + c2 + 2 * c2)  # as above
    attention = B * (c2 * N + c2 * N + shifts)  # the keys without, the queries scaled
    heads_of_map = Lambda(lambda x: block.attention(x, x, x))
    assert flops(heads_of_map, B, heads, d, H, W) == code + attention
    projections = 3 * c1 * c2 * N
    kernel = 9 * 3 * heads * (c2 * 9)  # of mixing and shifting in one
    convolution = c2 * 3 * heads * 9 * N
    cost = count(block, inputs=torch.zeros(B, c1, H, W))
    assert cost.macs == B * (projections + convolution) + kernel
    assert cost.flops == 2 * cost.macs + c2 * 3 * heads * 9 + code + attention + B * 2 * c2 * N
    assert cost.params == 2 + 3 * (c1 * c2 + c2) + 3 * d + 9 * 3 * heads + c2 * 9 * 9


@pytest.mark.parametrize("subsample", [False, True])
def test_non_local(subsample):
    c, inter = 8, 4
    keys, pool = (N // 4, 2 * inter * N) if subsample else (N, 0)
    convs = 4 * c * inter * N
    products = 2 * N * keys * inter
    cost = count(NonLocal(c, subsample=subsample), inputs=torch.zeros(B, c, H, W))
    assert cost.macs == B * (convs + products)
    assert cost.flops == B * (2 * (convs + products) + pool + c * N)


def test_spdconv():
    assert flops(SpaceToDepth(), B, 8, H, W) == 0
    assert flops(SPDConv(8, 12), B, 8, H, W) == 2 * B * (4 * 8 * 12 * 9) * N // 4


def test_a_list_of_maps():
    maps = [torch.zeros(B, 8, H, W), torch.zeros(B, 8, H, W)]
    assert count(Lambda(lambda x: x[0] + x[1]), inputs=maps).flops == B * 8 * N


def test_stock_model():
    model = YOLO("yolov8n.yaml")
    cost = count(model)
    assert cost == count(model.model)
    assert cost.gflops == pytest.approx(8.7, rel=0.01)  # as published
    assert cost.params == sum(p.numel() for p in model.model.parameters())
    fused = deepcopy(model.model).fuse(verbose=False)
    assert count(fused).flops == cost.flops
    assert cost.gflops == pytest.approx(
        get_flops(fused), rel=0.002
    )  # which has no BatchNorm to add
    assert count(model, (320, 640)).flops == pytest.approx(cost.flops / 2, rel=1e-6)


def test_channels():
    model = DetectionModel("yolov8n.yaml", ch=1, verbose=False)
    stem = 2 * 2 * 16 * 9 * 32 * 32  # of two channels
    stock = DetectionModel("yolov8n.yaml", verbose=False)
    assert count(model, 64).flops == count(stock, 64).flops - stem


def test_deformable_convolutions_do_not_lower_the_figure():
    stock = DetectionModel("yolov8n.yaml", verbose=False)
    model = deepcopy(stock)
    for i in (1, 3, 5, 7, 16):
        old = model.model[i]
        conv = old.conv
        new = Deform(conv.in_channels, conv.out_channels, 3, conv.stride[0])
        new.i, new.f, new.type, new.np = old.i, old.f, old.type, old.np
        model.model[i] = new
    assert count(model, 64).flops > count(stock, 64).flops


def test_counting_leaves_the_model_as_it_is():
    model = DetectionModel("yolov8n.yaml", verbose=False)
    model.train()
    model.model[3].eval()
    weights = deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    detect = dict(vars(model.model[-1]))
    grads = [p.requires_grad for p in model.parameters()]
    count(model, 64)
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == grads
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert vars(model.model[-1]) == detect
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_cpu():
    model = DetectionModel("yolov8n.yaml", verbose=False)
    assert count(deepcopy(model).cuda()).flops == count(model).flops


def test_bare_module_without_inputs():
    with pytest.raises(
        ValueError, match=r"count: SKConv is not an Ultralytics model.*\n\nHint: .*inputs="
    ):
        count(SKConv(8, 8))


@pytest.mark.parametrize(
    ("imgsz", "hint"), [(650, "use 672"), (0, "use 32"), ((64, 100), r"use \(64, 128\)")]
)
def test_size_that_does_not_fit(imgsz, hint):
    with pytest.raises(
        ValueError, match=f"not a multiple of DetectionModel's stride 32\n\nHint: {hint}"
    ):
        count(DetectionModel("yolov8n.yaml", verbose=False), imgsz)
