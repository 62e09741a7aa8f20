"""yolograft: published blocks for any Ultralytics YOLO.

Importing the package makes Ultralytics know the blocks. Nothing heavy is imported here: Python runs
this file at every start, so everything else is loaded when it is first asked for.
"""

from yolograft import _startup

__version__ = "0.1.0"

_LAZY = {
    "Block": "yolograft.blocks._row",
    "ConfigError": "yolograft.errors",
    "blocks": "yolograft",
    "count": "yolograft.cost",
    "graft_config": "yolograft.api",
    "graft_model": "yolograft.api",
    "patch": "yolograft.api",
    "recipes": "yolograft.api",
    "register": "yolograft.registry",
}
__all__ = [*_LAZY]


def __getattr__(name):
    if name == "blocks":
        return __import__("yolograft.blocks").blocks
    if name in _LAZY:
        return getattr(__import__(_LAZY[name], fromlist=[name]), name)
    msg = f"module 'yolograft' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__():
    return sorted({*globals(), *__all__})


_startup.start()
