"""The table of cases: a block joins every test of `test_blocks.py` by its rows here."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from yolograft import registry

from .references import cbam, sk, spd, tools

#: Largest absolute and relative difference of a value, by the dtype of the computation; for
#: bfloat16 the relative distance of whole maps.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2}


@dataclass(frozen=True, eq=False)
class Case:
    """One block with one set of arguments.

    Attributes:
        block: Name in the registry.
        args: Constructor arguments.
        reference: What the block computes, see `references/`.
        skip: Tests that mathematics forbids, by name, each with its reason.
    """

    block: str
    reference: Callable[..., Any]
    args: dict[str, Any] = field(default_factory=dict)
    skip: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.block, *(f"{k}={v}" for k, v in self.args.items())])

    def build(self, dtype: torch.dtype = torch.float64, **changes: Any) -> nn.Module:
        """Return the block with random weights and statistics, so that no term stays hidden."""
        module = registry.find(self.block).load()(**deepcopy(self.args | changes))
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
        return torch.randn(b, self.args.get("c1", self.args.get("c", 3)), h, w, dtype=dtype)

    def expected(self, module: nn.Module, x: Tensor) -> tuple[Any, dict[str, Tensor]]:
        """Return the reference's result, and the weights it used with the new statistics."""
        p = {n: t.detach().clone() for n, t in module.state_dict().items()}
        for name, parameter in module.named_parameters():
            p[name].requires_grad_(parameter.requires_grad)
        return self.reference(p, x, module.training, **self.args), p


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
]

#: One case per block, for what is slow and does not depend on the arguments.
FIRST = list({case.block: case for case in reversed(CASES)}.values())[::-1]

#: Arguments that a block cannot take, beyond the wrong types and sizes that follow from its
#: annotations: block, arguments that fit, then the one that does not.
REFUSALS = [
    ("SPDConv", {"c1": 4, "c2": 4}, {"k": 2}),
    ("CBAM", {"c": 4}, {"k": 4}),
    ("SKConv", {"c1": 6, "c2": 4}, {"k": 6}),
    ("SKConv", {"c1": 6, "c2": 4}, {"branches": 1}),
    ("SKConv", {"c1": 6, "c2": 4}, {"groups": 3}),
    ("SKConv", {"c1": 6, "c2": 4}, {"groups": 4}),
    ("SKConv", {"c1": 6, "c2": 4}, {"groups": 8}),
]
