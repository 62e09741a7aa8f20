"""A config as a graph: its rows, who reads whom, and how large each map is.

Sizes are not worked out from the names of modules: the stock parser builds the rows at the
narrowest scale without memory (on the meta device), and a picture runs through them. A new kind of
downsampler or stem is thereby understood as it is.
"""

from __future__ import annotations

import ast
import inspect
import math
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from yolograft import registry
from yolograft.errors import ConfigError, refuse
from yolograft.registry import Block

#: Pixels of the picture that is run through the rows.
IMAGE = 256

#: Layers that read texts beside the map, and those that return texts instead of a map.
_GUIDED = ("C2fAttn",)
_TEXTUAL = ("ImagePoolingAttn",)


@dataclass(frozen=True)
class Row:
    """One row of a config.

    Attributes:
        index: Its number.
        section: ``backbone``, ``neck`` or ``head``, the last row.
        raw: The row as the config holds it.
        sources: Numbers of the rows that it reads; -1 is the picture.
    """

    index: int
    section: str
    raw: list = field(hash=False)
    sources: tuple[int, ...]

    @property
    def label(self) -> str:
        """Return the name of the module."""
        return self.raw[2]

    @property
    def args(self) -> list:
        """Return the arguments."""
        return self.raw[3]

    @property
    def block(self) -> Block | None:
        """Return the block of ours, alone or inside a stage, or ``None``."""
        return split(self.label)[1]


class Graph:
    """The rows of a config.

    Args:
        config: What a model YAML holds.
        name: What messages call it.

    Raises:
        ConfigError: If it is no model, or a row is broken.
    """

    def __init__(self, config: dict, name: str = ""):
        from yolograft.hooks.configs import check_evaluated  # which imports this room

        self.config = config
        self.name = name or Path(str(config.get("yaml_file") or "the config")).name
        for key in ("backbone", "head"):
            if not isinstance(config.get(key), list):
                refuse(
                    f"{self.name}: the key {key!r} is missing or no list of rows",
                    "a model YAML has `backbone:` and `head:`, each a list of rows",
                )
        raws = [*config["backbone"], *config["head"]]
        if len(raws) < 2:
            refuse(f"{self.name}: {len(raws)} rows are no model", "write a backbone and a head")
        split_at, last = len(config["backbone"]), len(raws) - 1
        self.rows = [
            self._row(i, "head" if i == last else "backbone" if i < split_at else "neck", raw)
            for i, raw in enumerate(raws)
        ]
        check_evaluated(config, self.name)
        self.readers: list[list[int]] = [[] for _ in raws]
        for row in self.rows:
            for source in dict.fromkeys(row.sources):
                if source >= 0:
                    self.readers[source].append(row.index)

    def _row(self, index: int, section: str, raw: object) -> Row:
        where = f"{self.name}, row {index} ({section})"
        if not (
            isinstance(raw, list | tuple)
            and len(raw) == 4
            and isinstance(raw[2], str)
            and isinstance(raw[3], list | tuple)
        ):
            refuse(f"{where}: {raw!r} is no row", "write [from, repeats, module, arguments]")
        given = raw[0] if isinstance(raw[0], list | tuple) else [raw[0]]
        sources = []
        for source in given:
            if not isinstance(source, int) or isinstance(source, bool):
                refuse(f"{where}: from={source!r} is no row number", "write -1 or a row")
            absolute = source if source >= 0 else index + source
            if not (0 <= absolute < index or (index == 0 and source == -1)):
                last = f"-1, or a row from 0 to {index - 1}" if index else "-1"
                refuse(f"{where}: from={source} does not exist", f"use {last}")
            sources.append(absolute)
        return Row(index, section, list(raw), tuple(sources))

    def where(self, index: int) -> str:
        """Return file, row and module, for messages."""
        return f"{self.name}, row {index} ({self.rows[index].label})"

    @property
    def picture(self) -> tuple[int, int, int]:
        """Return channels, height and width of the picture that is run through the rows."""
        return (self.config.get("channels", self.config.get("ch", 3)), IMAGE, IMAGE)

    @cached_property
    def shapes(self) -> list[tuple[int, int, int] | None]:
        """Return channels, height and width of each row's map; ``None`` if it is not one map."""
        rows = [row.raw for row in self.rows[:-1]]
        outputs = trace(self.config, rows, self.name, self.picture)
        return [tuple(y.shape[1:]) if hasattr(y, "shape") else None for y in outputs] + [None]

    def stride(self, index: int) -> float | None:
        """Return picture pixels per pixel of a row's map, or ``None`` if it is not one map."""
        if index < 0:
            return 1
        shape = self.shapes[index]
        return IMAGE / shape[2] if shape and shape[2] else None

    def level(self, index: int) -> int | None:
        """Return n of the pyramid level Pn, or ``None`` where the stride is no power of two."""
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
        host, block = split(row.label)
        if block is not None and not host:
            return {"c2": row.args[0]} if block.role in ("conv", "down") else {}
        label = host or row.label
        cls = getattr(nn, label[3:], None) if label.startswith("nn.") else vars(tasks).get(label)
        try:
            bound = inspect.signature(cls).bind(None, *row.args).arguments
        except (TypeError, ValueError):
            return {}
        return {name: _literal(value) for name, value in bound.items()}

    def width(self, index: int) -> int | None:
        """Return the number that a convolution's row has to say to be as wide as a row.

        The host scales widths as they are written, so the number is looked up where it is written.

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
        if isinstance(value, int) and self._scaled(value, narrow(self.config)) == shape[0]:
            return value
        sources = self.rows[index].sources
        if len(sources) == 1 and sources[0] >= 0 and self.shapes[sources[0]] is not None:
            if self.shapes[sources[0]][0] == shape[0]:
                return self.width(sources[0])
        scales = self.config.get("scales") or {}
        configs = [{**self.config, "scale": scale} for scale in scales] or [self.config]
        exact = all(self._scaled(shape[0], config) == shape[0] for config in configs)
        return shape[0] if exact else None

    @staticmethod
    def _scaled(value: int, config: dict) -> int:
        scales = config.get("scales")
        width, most = config.get("width_multiple", 1.0), math.inf
        if scales:
            _, width, most = scales[config.get("scale") or next(iter(scales))]
        return math.ceil(min(value, most) * width / 8) * 8


def split(label: str) -> tuple[str, Block | None]:
    """Return host (may be empty) and block of a row's module name.

    Args:
        label: As in a row: ``Conv``, ``CBAM``, ``C2f_SK``.
    """
    block = registry.find(label)
    host, _, inner = label.partition("_")
    if block is None and inner and host in registry.HOSTS:
        return host, registry.find(inner)
    return "", block


def narrow(config: dict) -> dict:
    """Return a config at its narrowest scale, with the fewest repeats.

    Args:
        config: What a model YAML holds.
    """
    config = {**config, "depth_multiple": 0.0, "activation": None}
    if scales := config.get("scales"):
        _, width, most = min(scales.values(), key=lambda scale: scale[1])
        config |= {"scales": {"n": [0.0, width, most]}, "scale": "n"}
    return config


def trace(config: dict, rows: list, name: str, shape: tuple[int, int, int]) -> list:
    """Return what each row makes of an empty picture or map; ``None`` for rows that return texts.

    Args:
        config: The config that the rows are from, for its scales.
        rows: The rows.
        name: What messages call the config.
        shape: Channels, height and width of the input.

    Raises:
        ConfigError: If the rows cannot be built, or cannot be run.
    """
    try:
        return _run(_build(config, rows, name, shape[0], "meta"), shape, "meta")
    except ConfigError:
        raise
    except Exception:  # a layer that wants real memory gets it
        try:
            return _run(_build(config, rows, name, shape[0], "cpu"), shape, "cpu")
        except ConfigError:
            raise
        except Exception as error:
            msg = f"{name}: it cannot be built ({type(error).__name__}: {error})"
            raise ConfigError(msg) from error


def probe(config: dict, row: list, shape: tuple[int, int, int], run: bool) -> tuple | None:
    """Return the shape that a row makes of a map, at the narrowest scale of a config.

    Args:
        config: The config, for its scales.
        row: Repeats, module and arguments.
        shape: Channels, height and width of the map that it reads.
        run: Whether to run it; else it is built only.

    Raises:
        ConfigError: If it cannot be built, or cannot be run.
    """
    name = "probe"
    try:
        if not run:
            _build(config, [[-1, *row]], name, shape[0], "meta")
            return None
        return tuple(trace(config, [[-1, *row]], name, shape)[0].shape[1:])
    except ConfigError as error:
        text = str(error).removeprefix(f"{name}, row 0 (backbone): ").removeprefix(f"{name}: ")
        raise ConfigError(text) from error


def build(config: dict, rows: list, name: str, ch: int):
    """Return the layers that the stock parser builds from rows, at the narrowest scale of a config.

    Args:
        config: The config that the rows are from, for its scales.
        rows: The rows.
        name: What messages call the config.
        ch: Channels of the map that they read.
    """
    from ultralytics.nn import tasks

    rows = [_lighter(row) for row in rows]
    small = {**narrow(config), "backbone": rows, "head": [], "yaml_file": name}
    return tasks.parse_model(small, ch, False)[0]


def _build(config: dict, rows: list, name: str, ch: int, device: str):
    """Build rows, ready to be run for their shapes."""
    import torch
    from torch import nn

    with torch.device(device):
        layers = build(config, rows, name, ch)
    plain = (nn.BatchNorm2d, nn.SiLU, nn.ReLU, nn.GELU)
    for module in layers.modules():
        for key, child in module.named_children():
            if isinstance(child, plain):
                module._modules[key] = nn.Identity()
            elif type(child) is nn.Conv2d and not isinstance(child.padding, str):
                child.forward = _hollow(child)
    return layers.eval()


def without_weights(row: list) -> list:
    """Return a copy of a row that downloads no weights when it is built.

    Args:
        row: A row of a config.
    """
    row = deepcopy(list(row))
    if row[2] == "TorchVision" and len(row[3]) > 2:
        row[3][2] = None
    return row


def _lighter(row: list) -> list:
    """Return a copy of a row with the same shape, that is quicker to build."""
    source, repeats, label, args = without_weights(row)
    if label.startswith("RepNCSPELAN4") and len(args) > 3 and isinstance(args[3], int):
        args[3] = 1  # its repeats, which depth does not reach
    return [source, repeats, label, args]


def _hollow(conv):
    """Return a forward that gives a map of a convolution's shape, and computes nothing."""

    def forward(x):
        size = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(
                x.shape[2:], conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True
            )
        ]
        return x.new_zeros(x.shape[0], conv.out_channels, *size)

    return forward


def _run(layers, shape: tuple[int, int, int], device: str) -> list:
    import torch

    outputs = []
    x, texts = torch.zeros(1, *shape, device=device), torch.zeros(1, 80, 512, device=device)
    with torch.no_grad():
        for layer in layers:
            f = layer.f
            if f != -1:
                x = outputs[f] if isinstance(f, int) else [x if j == -1 else outputs[j] for j in f]
            kind = type(layer).__name__
            if kind in _TEXTUAL:
                outputs.append(None)
                continue
            if not _is_gate(layer):
                x = layer(x, texts) if kind in _GUIDED else layer(x)
            outputs.append(x)
    return outputs


def _is_gate(layer) -> bool:
    """Tell whether a layer is a block of ours that keeps the shape: it need not run."""
    label = str(layer.type).rpartition(".")[2]
    block = registry.find(label) if "[" not in label else None
    return block is not None and block.role == "gate"


def _literal(value: object) -> object:
    """Return what the stock parser makes of a string such as ``None``."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (SyntaxError, ValueError):
        return value
