"""What each block is compared with: its naive form, and the forms that public libraries have.

Every side takes a block of ours and copies its weights, so that all compute the same function. A
file here belongs to the file of the same name in ``yolograft/blocks`` and holds ``ROWS``, a
:class:`Row` by block; a new block needs no other change of the bench.
"""

from importlib import import_module
from pkgutil import iter_modules

from ._row import Function, Public, Row, load

__all__ = ["LIBRARIES", "NOT_MEASURED", "ROWS", "Function", "Public", "Row", "load"]

#: Public libraries, as packages are imported.
LIBRARIES = ("timm", "mmcv", "torchvision")

#: Blocks of the table without a row, and why.
NOT_MEASURED = {
    "HRNet": "a backbone of HRModules, which are measured",
    "Classifier": "a mean and a linear layer, which end a classification model",
}

#: By name: blocks of the table, and parts of them that are measured alone.
ROWS: dict[str, Row] = {
    name: row
    for file in iter_modules(__path__)
    if not file.name.startswith("_")
    for name, row in import_module(f"{__name__}.{file.name}").ROWS.items()
}
