"""Every block as a class: ``from yolograft.blocks import SKConv``. One paper, one file.

A file that states rows of the table, in ``BLOCKS``, is found by itself; ``__init__.pyi`` lists the
names for editors.
"""

import importlib
import pkgutil

from yolograft.blocks._row import Block
from yolograft.blocks.hrnet import HRModule  # noqa: F401 (has no row)


def _stated() -> list[Block]:
    """Return the rows that the files of this folder state."""
    names = sorted(name for _, name, _ in pkgutil.iter_modules(__path__) if name[0] != "_")
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return [block for module in modules for block in getattr(module, "BLOCKS", ())]


#: The rows of all blocks of the pack.
BLOCKS = _stated()
globals().update({block.name: block.cls for block in BLOCKS})

__all__ = sorted(["HRModule", *(block.name for block in BLOCKS)])
