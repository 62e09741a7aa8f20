"""The blocks as public libraries have them: what ``bench.py --against`` measures.

Each function takes one of the pack's blocks and returns the library's module with equal
hyper-parameters and the block's weights, so that both compute the same function.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Form:
    """A library's form of a block.

    Attributes:
        name: Import path of the library's class.
        build: Returns its module for a block of ours.
        note: What the module is apart from the class.
    """

    name: str
    build: Callable[[nn.Module], nn.Module]
    note: str = ""


def version(library: str) -> str | None:
    """Return the version of a library, or ``None`` where it is not installed."""
    try:
        return importlib.import_module(library).__version__
    except ImportError:
        return None


def load(module: nn.Module, *parts: nn.Module | Tensor) -> nn.Module:
    """Give a module the weights and statistics of ours, in the order of its own.

    Args:
        module: What to fill.
        *parts: Modules and tensors of ours. Shapes may differ in dimensions of size 1.

    Raises:
        ValueError: If the numbers or the shapes of the tensors differ.
    """
    found = [p.state_dict().values() if isinstance(p, nn.Module) else [p] for p in parts]
    sources = [tensor for tensors in found for tensor in tensors]
    targets = module.state_dict()
    shapes = [[[n for n in t.shape if n > 1] for t in ts] for ts in (sources, targets.values())]
    if shapes[0] != shapes[1]:
        msg = f"{type(module).__name__}: its weights do not fit: {shapes[0]}, not {shapes[1]}"
        raise ValueError(msg)
    with torch.no_grad():
        for target, source in zip(targets.values(), sources, strict=True):
            target.copy_(source.reshape(target.shape))
    return module


def _timm_se(block: nn.Module) -> nn.Module:
    from timm.layers import SEModule

    hidden, c = block.squeeze.weight.shape[:2]
    return load(SEModule(c, rd_channels=hidden), block)


def _torchvision_se(block: nn.Module) -> nn.Module:
    from torchvision.ops import SqueezeExcitation

    hidden, c = block.squeeze.weight.shape[:2]
    return load(SqueezeExcitation(c, hidden), block)


def _timm_cbam(block: nn.Module) -> nn.Module:
    from timm.layers.cbam import CbamModule

    hidden, c = block.mlp[0].weight.shape
    module = CbamModule(c, rd_channels=hidden, mlp_bias=True)
    # its gate per position reads [mean, max], not [max, mean]
    return load(module, block.mlp, block.spatial.conv.weight.flip(1), block.spatial.bn)


def _timm_coordatt(block: nn.Module) -> nn.Module:
    from timm.layers.coord_attn import CoordAttn

    hidden, c = block.mix.conv.weight.shape[:2]
    return load(CoordAttn(c, rd_channels=hidden, bias=True), block)


def _timm_globalcontext(block: nn.Module) -> nn.Module:
    from timm.layers import GlobalContext

    hidden, c = block.add[0].weight.shape[:2]
    module = GlobalContext(c, fuse_add=True, fuse_scale=False, rd_channels=hidden)
    module.mlp_add.norm.eps = block.add[1].eps
    return load(module, block)


def _mmcv_globalcontext(block: nn.Module) -> nn.Module:
    from mmcv.cnn.bricks import ContextBlock

    hidden, c = block.add[0].weight.shape[:2]
    return load(ContextBlock(c, hidden / c), block)


def _timm_nonlocal(block: nn.Module) -> nn.Module:
    from timm.layers import NonLocalAttn

    inter, c = block.theta.weight.shape[:2]
    return load(NonLocalAttn(c, use_scale=False, rd_channels=inter), block)


def _mmcv_nonlocal(block: nn.Module) -> nn.Module:
    from mmcv.cnn.bricks import NonLocal2d

    inter, c = block.theta.weight.shape[:2]
    module = NonLocal2d(c, reduction=c // inter, use_scale=False, norm_cfg={"type": "BN"})
    out = block.out.conv
    load(module, block.g, out.weight, block.out.bn, block.theta, block.phi)
    module.conv_out.bn.running_mean -= out.bias.detach()  # it has none before BatchNorm
    return module


class _TimmSpaceToDepth(nn.Module):
    """The order of the phases is no matter of cost, so it is set right only for comparison."""

    def __init__(self):
        from timm.layers.space_to_depth import SpaceToDepth

        super().__init__()
        self.layer = SpaceToDepth(4)
        self.layer.bs = 2  # the only size it allows is 4

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def align(self, y: Tensor) -> Tensor:
        """Return an output with its phases in our order."""
        a, b, c, d = y.chunk(4, 1)
        return torch.cat((a, c, b, d), 1)


def _timm_sk(block: nn.Module) -> nn.Module:
    from timm.layers import SelectiveKernel

    conv = block.branches[0].conv
    module = SelectiveKernel(
        conv.in_channels,
        conv.out_channels,
        split_input=False,
        rd_channels=block.squeeze.conv.out_channels,
        act_layer=type(block.branches[0].act),
    )
    return load(module, block)


class _TorchvisionDeform(nn.Module):
    """Two convolutions for offsets and masks, the library's layer, BatchNorm, activation."""

    def __init__(self, block: nn.Module):
        from torchvision.ops import DeformConv2d

        super().__init__()
        conv, offset = block.conv, block.conv.offset
        shape = {k: getattr(conv, k) for k in ("kernel_size", "stride", "padding", "dilation")}
        weights, biases = (t.split(conv.split) for t in (offset.weight, offset.bias))

        def part(which: int) -> nn.Module:
            module = nn.Conv2d(conv.in_channels, len(biases[which]), **shape)
            return load(module, weights[which], biases[which])

        self.offset = part(0)
        self.mask = part(1)
        self.conv = DeformConv2d(conv.in_channels, conv.out_channels, **shape, bias=False)
        load(self.conv, conv.weight)
        self.bn = deepcopy(block.bn)
        self.act = deepcopy(block.act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x, self.offset(x), self.mask(x).sigmoid())))


def _timm_skunit(block: nn.Module) -> nn.Module:
    from timm.models.sknet import SelectiveKernelBottleneck

    c, inter = block.leave.conv.weight.shape[:2]
    groups = block.sk.branches[0].conv.groups
    module = SelectiveKernelBottleneck(
        block.enter.conv.in_channels,
        c // SelectiveKernelBottleneck.expansion,
        cardinality=groups,
        base_width=64 * inter * SelectiveKernelBottleneck.expansion // (groups * c),
        sk_kwargs={"split_input": False, "rd_channels": block.sk.squeeze.conv.out_channels},
    )
    return load(module, block)


def _timm_hrmodule(block: nn.Module) -> nn.Module:
    from timm.models.hrnet import HighResolutionModule
    from timm.models.resnet import BasicBlock

    n, units = len(block.channels), len(block.branches[0])
    channels = block.channels
    module = HighResolutionModule(n, BasicBlock, [units] * n, list(channels), channels, "SUM")
    return load(module, block)


def _torchvision_aspp(block: nn.Module) -> nn.Module:
    from torchvision.models.segmentation.deeplabv3 import ASPP

    conv = block.branches[0].conv
    rates = [branch.conv.dilation[0] for branch in block.branches[1:]]
    module = ASPP(conv.in_channels, rates, conv.out_channels)
    module.project[3] = nn.Identity()
    return load(module, block)


FORMS = {
    "timm": {
        "CBAM": Form("timm.layers.cbam.CbamModule", _timm_cbam),
        "CoordAtt": Form("timm.layers.coord_attn.CoordAttn", _timm_coordatt),
        "GlobalContext": Form("timm.layers.GlobalContext", _timm_globalcontext),
        "HRModule": Form("timm.models.hrnet.HighResolutionModule", _timm_hrmodule),
        "NonLocal": Form("timm.layers.NonLocalAttn", _timm_nonlocal),
        "SE": Form("timm.layers.SEModule", _timm_se),
        "SKConv": Form("timm.layers.SelectiveKernel", _timm_sk),
        "SKUnit": Form("timm.models.sknet.SelectiveKernelBottleneck", _timm_skunit),
        "SpaceToDepth": Form(
            "timm.layers.space_to_depth.SpaceToDepth",
            lambda block: _TimmSpaceToDepth(),
            "block size set to 2; its phases stand in another order",
        ),
    },
    "mmcv": {
        "GlobalContext": Form("mmcv.cnn.bricks.ContextBlock", _mmcv_globalcontext),
        "NonLocal": Form("mmcv.cnn.bricks.NonLocal2d", _mmcv_nonlocal),
    },
    "torchvision": {
        "ASPP": Form(
            "torchvision.models.segmentation.deeplabv3.ASPP",
            _torchvision_aspp,
            "without its dropout",
        ),
        "DeformConv": Form(
            "torchvision.ops.DeformConv2d",
            _TorchvisionDeform,
            "with convolutions for offsets and masks before it, BatchNorm and activation behind",
        ),
        "SE": Form("torchvision.ops.SqueezeExcitation", _torchvision_se),
    },
}
