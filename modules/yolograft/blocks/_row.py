"""The row that a block states about itself, in the table of blocks."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from yolograft import roles
from yolograft.roles import Role


@dataclass(frozen=True)
class NoGradient:
    """A parameter of a block that never gets a gradient.

    Attributes:
        parameter: Its name.
        why: The reason.
        when: Arguments of the block with which it is so; empty for all.
    """

    parameter: str
    why: str
    when: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Block:
    """One row of the table of blocks.

    Attributes:
        cls: The module, or ``"module:Class"`` where it is imported when it is first used.
        role: What the block does to channels and size; its name is accepted.
        name: Name in a YAML row; that of the class when left out.
        paper: arXiv number.
        aliases: Other names in a YAML row.
        config: The model YAML of the pack that shows the block.
        take_over: Called with a block and the convolution (``conv``, ``bn``, ``act``) whose place
            it takes in a trained model; returns the tensors that the block starts with, see
            :class:`yolograft.blocks._carry.Carried`.
        drifts: Why training takes a block that starts exactly as the convolution did to other
            weights than the convolution's training would. With ``warm: exact`` such a block still
            gets a residual gate.
        nondeterministic: Why the gradient on CUDA is not deterministic.
        no_gradient: Parameters that never get a gradient.
    """

    cls: type | str
    role: Role
    name: str = ""
    paper: str = ""
    aliases: tuple[str, ...] = ()
    config: str = ""
    take_over: Callable[..., Any] | None = None
    drifts: str = ""
    nondeterministic: str = ""
    no_gradient: tuple[NoGradient, ...] = ()

    def __post_init__(self):
        name = self.name or self.path.rpartition(":")[2].rpartition(".")[2]
        object.__setattr__(self, "name", name)
        if isinstance(self.role, str):
            object.__setattr__(self, "role", roles.named(self.role, name))

    @property
    def path(self) -> str:
        """Return ``"module:Class"``."""
        if isinstance(self.cls, str):
            return self.cls
        return f"{self.cls.__module__}:{self.cls.__qualname__}"

    @property
    def limits(self) -> dict[str, str]:
        """Return what the block cannot do, by condition, each with its reason."""
        found = {}
        if self.nondeterministic:
            found["deterministic training on CUDA"] = self.nondeterministic
        for one in self.no_gradient:
            when = ", ".join(f"{key}={value}" for key, value in one.when.items())
            found[f"no gradient for {one.parameter}" + (f" ({when})" if when else "")] = one.why
        return found

    def load(self) -> type:
        """Return the class."""
        if not isinstance(self.cls, str):
            return self.cls
        module, _, name = self.cls.partition(":")
        return getattr(importlib.import_module(module), name)
