"""The table of cases: a block joins every test of `test_blocks.py` by its rows here."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from yolograft import registry
from yolograft.blocks import HRModule
from yolograft.roles import ROLES

from .references import (
    acmix,
    aspp,
    cbam,
    coordatt,
    deform,
    globalcontext,
    hrnet,
    non_local,
    se,
    sk,
    spd,
    stn,
    strip,
    tools,
)

#: Largest absolute and relative difference of a value, by the dtype of the computation; for
#: bfloat16 the relative distance of whole maps.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2}


class OneMap(HRModule):
    """``HRModule`` of one map, cut into a list of views: the tests give every block one tensor."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return super().forward(hrnet.pyramid(x, self.channels))


#: Every block that the tests build, by name.
BLOCKS: dict[str, type[nn.Module]] = {
    **{b.name: b.load() for b in registry.OURS if b.role is not ROLES["classifier"]},
    "HRModule": OneMap,
}


@dataclass(frozen=True, eq=False)
class Case:
    """One block with one set of arguments.

    Attributes:
        block: Name in `BLOCKS`.
        args: Constructor arguments.
        reference: What the block computes, see `references/`.
        zoom: Factor on height and width where the coarsest map needs more than a pixel: a compiler
            takes 1 for a constant, and BatchNorm over a handful of values magnifies rounding.
    """

    block: str
    reference: Callable[..., Any]
    args: dict[str, Any] = field(default_factory=dict)
    zoom: int = 1

    def __str__(self) -> str:
        return "-".join([self.block, *(f"{k}={v}" for k, v in self.args.items())])

    def build(self, dtype: torch.dtype = torch.float64, **changes: Any) -> nn.Module:
        """Return the block with random weights and statistics, so that no term stays hidden."""
        module = BLOCKS[self.block](**deepcopy(self.args | changes))
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = tools.EPS
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var") or (name.endswith("weight") and tensor.ndim < 2):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.normal_(0, max(tensor[:1].numel(), 4) ** -0.5)
        return module.to(dtype)

    def input(self, *size: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return a random ``(B, C, H, W)`` map for a size ``B, H, W``."""
        b, h, w = size
        c = sum(self.args.get("channels", ())) or self.args.get("c1", self.args.get("c", 3))
        return torch.randn(b, c, h, w, dtype=dtype)

    def expected(self, module: nn.Module, x: Tensor) -> tuple[Any, dict[str, Tensor]]:
        """Return the reference's result, and the weights it used with the new statistics."""
        p = {n: t.detach().clone() for n, t in module.state_dict().items()}
        for name, parameter in module.named_parameters():
            p[name].requires_grad_(parameter.requires_grad)
        return self.reference(p, x, module.training, **self.args), p


#: An HRNet of one module per stage: further ones repeat it, see `test_hrnet.py`.
SHALLOW = {"modules": (1, 1, 1, 1), "blocks": 1}

CASES = [
    Case("SpaceToDepth", spd.space_to_depth),
    Case("SPDConv", spd.spd_conv, {"c1": 3, "c2": 8}),
    Case("SPDConv", spd.spd_conv, {"c1": 2, "c2": 5, "k": 1, "act": False}),
    Case("SPDConv", spd.spd_conv, {"c1": 2, "c2": 4, "k": 5, "act": nn.LeakyReLU(0.3)}),
    Case("CBAM", cbam.cbam, {"c": 32}),
    Case("CBAM", cbam.cbam, {"c": 6, "reduction": 2, "k": 3}),
    Case("CBAM", cbam.cbam, {"c": 8, "spatial": False}),
    Case("SKConv", sk.sk_conv, {"c1": 6, "c2": 8}),
    Case("SKConv", sk.sk_conv, {"c1": 6, "c2": 4, "s": 2, "branches": 3, "groups": 2}),
    Case("SKConv", sk.sk_conv, {"c1": 4, "c2": 4, "dilated": False, "min_dim": 5}),
    Case("SKConv", sk.sk_conv, {"c1": 3, "c2": 80, "k": 1, "reduction": 2, "act": None}),
    Case("SKConv", sk.sk_conv, {"c1": 4, "c2": 6, "k": 5, "act": nn.ReLU()}),
    Case("SKUnit", sk.sk_unit, {"c1": 6, "c2": 16}),
    Case("SKUnit", sk.sk_unit, {"c1": 4, "c2": 4, "c_mid": 8, "groups": 4}),
    Case("SKUnit", sk.sk_unit, {"c1": 4, "c2": 4, "s": 2, "reduction": 1, "min_dim": 1}),
    Case("HRModule", hrnet.hr_module, {"channels": (2, 3, 8)}),
    Case("HRModule", hrnet.hr_module, {"channels": (4, 16), "blocks": 2, "bottleneck": True}),
    Case("HRModule", hrnet.hr_module, {"channels": (2, 4, 5), "multi_scale": False}),
    Case("HRModule", hrnet.hr_module, {"channels": (3,)}),
    Case("HRNet", hrnet.hr_net, {"c1": 3, "width": 2, **SHALLOW}, zoom=8),
    Case("HRNet", hrnet.hr_net, {"c1": 2, "width": 3, **SHALLOW}, zoom=8),
    Case("ACmix", acmix.acmix, {"c1": 3, "c2": 8}),
    Case("ACmix", acmix.acmix, {"c1": 4, "c2": 4, "k_att": 3, "heads": 2, "s": 2}),
    Case(
        "ACmix",
        acmix.acmix,
        {"c1": 2, "c2": 4, "k_att": 5, "heads": 1, "k_conv": 5, "s": 3},
    ),
    Case("NonLocal", non_local.non_local, {"c": 8}),
    Case(
        "NonLocal",
        non_local.non_local,
        {"c": 6, "reduction": 3, "scaled": True, "subsample": True},
    ),
    Case(
        "NonLocal",
        non_local.non_local,
        {"c": 5, "reduction": 1, "subsample": True, "norm": False},
    ),
    Case("SE", se.se, {"c": 32}),
    Case("SE", se.se, {"c": 6, "reduction": 1, "bias": False}),
    Case("CoordAtt", coordatt.coord_att, {"c": 6}),
    Case("CoordAtt", coordatt.coord_att, {"c": 26, "reduction": 2}),
    Case("GlobalContext", globalcontext.global_context, {"c": 16}),
    Case(
        "GlobalContext",
        globalcontext.global_context,
        {"c": 6, "ratio": 0.7, "pooling": "avg", "fusion": ("mul", "add")},
    ),
    Case(
        "GlobalContext",
        globalcontext.global_context,
        {"c": 4, "ratio": 1, "fusion": ("mul",)},
    ),
    Case("StripPooling", strip.strip_pooling, {"c": 6}),
    Case("StripPooling", strip.strip_pooling, {"c": 3}),
    Case("MixedPooling", strip.mixed_pooling, {"c": 8}),
    Case("MixedPooling", strip.mixed_pooling, {"c": 13, "sizes": (3, 2)}),
    Case("DeformConv", deform.deform_conv, {"c1": 3, "c2": 4}),
    Case(
        "DeformConv",
        deform.deform_conv,
        {"c1": 4, "c2": 6, "s": 2, "g": 2, "d": 2, "offset_groups": 4},
    ),
    Case("DeformConv", deform.deform_conv, {"c1": 2, "c2": 5, "k": 1, "p": 2, "act": nn.ReLU()}),
    Case(
        "DeformConv",
        deform.deform_conv,
        {"c1": 2, "c2": 3, "k": 5, "modulated": False, "bias": True, "norm": False, "act": None},
    ),
    Case("ASPP", aspp.aspp, {"c1": 4, "c2": 3}),
    Case("ASPP", aspp.aspp, {"c1": 2, "c2": 4, "rates": [1, 3]}),
    Case("STN", stn.stn, {"c": 3}),
    Case("STN", stn.stn, {"c": 2, "hidden": 5, "align_corners": True}),
    Case("STN", stn.stn, {"c": 2, "hidden": 6, "size": 5}),
    Case("STN", stn.stn, {"c": 2, "hidden": 6, "size": (3, 4), "align_corners": True}),
]

#: One case per block, for what is slow and does not depend on the arguments.
FIRST = list({case.block: case for case in reversed(CASES)}.values())[::-1]

#: Arguments that a block cannot take, beyond the wrong types and sizes that follow from its
#: annotations: block, arguments that fit, then the one that does not.
REFUSALS = [
    ("ACmix", {"c1": 3, "c2": 8}, {"k_att": 4}),
    ("ACmix", {"c1": 3, "c2": 8}, {"k_conv": 2}),
    ("ACmix", {"c1": 3, "c2": 8}, {"heads": 3}),
    ("NonLocal", {"c": 4}, {"reduction": 5}),
    ("SPDConv", {"c1": 4, "c2": 4}, {"k": 2}),
    ("CBAM", {"c": 4}, {"k": 4}),
    ("SKConv", {"c1": 6, "c2": 4}, {"k": 6}),
    ("SKConv", {"c1": 6, "c2": 4}, {"branches": 1}),
    ("SKConv", {"c1": 6, "c2": 4}, {"groups": 3}),
    ("SKConv", {"c1": 6, "c2": 4}, {"groups": 4}),
    ("SKConv", {"c1": 6, "c2": 4}, {"groups": 8}),
    ("SKUnit", {"c1": 6, "c2": 4}, {"c_mid": 0}),
    ("HRModule", {"channels": (2, 4)}, {"channels": ()}),
    ("HRModule", {"channels": (2, 4)}, {"channels": (2, 0)}),
    ("HRModule", {"channels": (4, 8), "bottleneck": True}, {"channels": (4, 6)}),
    ("HRNet", {"c1": 3}, {"modules": (1, 1, 4)}),
    ("HRNet", {"c1": 3}, {"modules": (1, 1, 0, 3)}),
    ("GlobalContext", {"c": 4}, {"ratio": float("nan")}),
    ("GlobalContext", {"c": 4}, {"ratio": float("inf")}),
    ("GlobalContext", {"c": 4}, {"pooling": "max"}),
    ("GlobalContext", {"c": 4}, {"fusion": ()}),
    ("GlobalContext", {"c": 4}, {"fusion": ("add", "sub")}),
    ("GlobalContext", {"c": 4}, {"fusion": ("add", "add")}),
    ("MixedPooling", {"c": 4}, {"c": 3}),
    ("MixedPooling", {"c": 4}, {"sizes": (12,)}),
    ("MixedPooling", {"c": 4}, {"sizes": (20, 12, 6)}),
    ("MixedPooling", {"c": 4}, {"sizes": (20, 0)}),
    ("DeformConv", {"c1": 6, "c2": 4}, {"k": 2}),
    ("DeformConv", {"c1": 6, "c2": 4}, {"p": -1}),
    ("DeformConv", {"c1": 6, "c2": 4}, {"g": 3}),
    ("DeformConv", {"c1": 6, "c2": 4}, {"offset_groups": 4}),
    ("ASPP", {"c1": 4, "c2": 4}, {"rates": ()}),
    ("ASPP", {"c1": 4, "c2": 4}, {"rates": (6, 0)}),
    ("STN", {"c": 4}, {"size": 0}),
    ("STN", {"c": 4}, {"size": (4,)}),
    ("STN", {"c": 4}, {"size": (4, 0)}),
]
