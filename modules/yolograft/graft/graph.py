"""A config as a graph: its rows, who reads whom, and how large each map is.

Sizes are not worked out from the names of modules: the rows are built at the narrowest scale
without memory, and an image runs through them. A new kind of downsampler or stem is thereby
understood as it is.
"""

from __future__ import annotations

import ast
import inspect
import math
from functools import cached_property
from pathlib import Path

from yolograft.config import rows, scale
from yolograft.config.check import check_evaluated
from yolograft.config.labels import split
from yolograft.graft import meta

#: Pixels of the image that is run through the rows.
IMAGE = 256


class Graph:
    """The rows of a config.

    Args:
        config: What a model YAML holds.
        name: What messages call it.

    Raises:
        ConfigError: If it is not a model, or a row is broken.
    """

    def __init__(self, config: dict, name: str = ""):
        self.config = config
        self.name = name or Path(str(config.get("yaml_file") or "the config")).name
        self.rows = rows.read(config, self.name)
        check_evaluated(config, self.name)
        self.readers: list[list[int]] = [[] for _ in self.rows]
        for row in self.rows:
            for source in dict.fromkeys(row.sources):
                if source >= 0:
                    self.readers[source].append(row.index)

    def where(self, index: int) -> str:
        """Return file, row and module, for messages."""
        return f"{self.name}, row {index} ({self.rows[index].label})"

    @property
    def image(self) -> tuple[int, int, int]:
        """Return channels, height and width of the image that is run through the rows."""
        return (rows.channels(self.config), IMAGE, IMAGE)

    @cached_property
    def shapes(self) -> list[tuple[int, int, int] | None]:
        """Return channels, height and width of each row's map; ``None`` if it is not one map."""
        given = [row.raw for row in self.rows[:-1]]
        outputs = meta.trace(self.config, given, self.name, self.image)
        return [tuple(y.shape[1:]) if hasattr(y, "shape") else None for y in outputs] + [None]

    def stride(self, index: int) -> float | None:
        """Return image pixels per pixel of a row's map, or ``None`` if it is not one map."""
        if index < 0:
            return 1
        shape = self.shapes[index]
        return IMAGE / shape[2] if shape and shape[2] else None

    def level(self, index: int) -> int | None:
        """Return n of the pyramid level Pn, or ``None`` where the stride is not a power of two."""
        stride = self.stride(index)
        level = math.log2(stride) if stride else 0.5
        return int(level) if level == int(level) else None

    def halves(self, index: int) -> bool:
        """Tell whether a row reads one map and returns it at half the size."""
        sources = self.rows[index].sources
        if len(sources) != 1 or not (stride := self.stride(index)):
            return False
        return stride == 2 * (self.stride(sources[0]) or 0)

    def keeps(self, index: int) -> bool:
        """Tell whether a row reads one map and returns one of the same shape."""
        sources = self.rows[index].sources
        before = self.shapes[sources[0]] if len(sources) == 1 and sources[0] >= 0 else None
        return before is not None and before == self.shapes[index]

    def options(self, index: int) -> dict:
        """Return the arguments of a row by name, defaults left out."""
        from torch import nn
        from ultralytics.nn import tasks

        row = self.rows[index]
        stage, block = split(row.label)
        if block is not None and not stage:
            return {"c2": row.args[0]} if block.role.takes_width else {}
        label = stage or row.label
        cls = getattr(nn, label[3:], None) if label.startswith("nn.") else vars(tasks).get(label)
        try:
            bound = inspect.signature(cls).bind(None, *row.args).arguments
        except (TypeError, ValueError):
            return {}
        return {name: _literal(value) for name, value in bound.items()}

    def width(self, index: int) -> int | None:
        """Return the number that a convolution's row has to say to be as wide as a row.

        Ultralytics scales the numbers in the rows, so a number is looked up where it is written.

        Args:
            index: A row.

        Returns:
            The number, or ``None`` where none gives that width at every scale.
        """
        shape = self.shapes[index]
        if shape is None:
            return None
        options = self.options(index)
        value = options.get("c2", options.get("out_channels"))
        if isinstance(value, int) and scale.scaled(value, scale.narrow(self.config)) == shape[0]:
            return value
        sources = self.rows[index].sources
        if len(sources) == 1 and sources[0] >= 0 and self.shapes[sources[0]] is not None:
            if self.shapes[sources[0]][0] == shape[0]:
                return self.width(sources[0])
        configs = scale.all_of(self.config)
        exact = all(scale.scaled(shape[0], config) == shape[0] for config in configs)
        return shape[0] if exact else None

    def source_shape(self, index: int) -> tuple[int, int, int] | None:
        """Return the shape of a row's map, or of the image for -1; ``None`` if it is not one map.

        Args:
            index: A row, or -1.
        """
        return self.shapes[index] if index >= 0 else self.image


def _literal(value: object) -> object:
    """Return what the stock parser makes of a string such as ``None``."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (SyntaxError, ValueError):
        return value
