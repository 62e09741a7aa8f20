from collections.abc import Callable
from typing import TypeVar, overload

from torch import nn

from yolograft import blocks as blocks
from yolograft.api import graft_config as graft_config
from yolograft.api import graft_model as graft_model
from yolograft.api import patch as patch
from yolograft.api import recipes as recipes
from yolograft.blocks._row import Block as Block
from yolograft.cost import count as count
from yolograft.errors import ConfigError as ConfigError

__version__: str
__all__ = [
    "Block",
    "ConfigError",
    "blocks",
    "count",
    "graft_config",
    "graft_model",
    "patch",
    "recipes",
    "register",
]

_Module = TypeVar("_Module", bound=type[nn.Module])

@overload
def register(
    cls: _Module,
    name: str | None = None,
    *,
    role: str | None = None,
    aliases: tuple[str, ...] = (),
    paper: str = "",
) -> _Module: ...
@overload
def register(
    cls: None = None,
    name: str | None = None,
    *,
    role: str | None = None,
    aliases: tuple[str, ...] = (),
    paper: str = "",
) -> Callable[[_Module], _Module]: ...
