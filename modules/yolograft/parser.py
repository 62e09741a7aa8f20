"""Wrap ``parse_model``: rows of ours go in as stand-ins and come out as our modules.

A stand-in is a stock row that treats channels as our block does. The stock parser runs on the
stand-ins and works out channels, width, depth and the savelist; then each stand-in is replaced by
our module, built from the channels that the stand-in ended up with.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from traceback import walk_tb
from types import ModuleType

import torch
from torch import nn

from yolograft import registry, trial
from yolograft.blocks.blend import Blend
from yolograft.errors import ConfigError, nearest, refuse
from yolograft.hooks.configs import check_evaluated, is_layer
from yolograft.registry import Block
from yolograft.ultra import with_globals

#: A row of the table that the stock parser prints.
_LINE = re.compile(
    r"\s*(?P<i>\d+)\s+(?:\[.*?\]|-?\d+)\s+(?P<n>\d+)\s+\d+\s+(?P<type>\S+)\s+(?P<args>.*)"
)

#: A stand-in that takes any map as it is, and learns its width: the host's loop replaces a string
#: that names one of its variables (as `nc` in a head's row), and ``ch`` lists the widths so far.
_AS_IT_IS = ["Concat", ["ch"]]


@dataclass
class _Row:
    """One row of ours, read and checked."""

    where: str
    index: int
    source: int | list[int]
    sources: list[int]
    repeats: int
    block: Block
    cls: type
    host: str
    positional: list
    named: dict
    blend: bool | list


def make(tasks: ModuleType, original: Callable) -> Callable:
    """Return a ``parse_model`` that builds rows of the pack's blocks.

    Args:
        tasks: ``ultralytics.nn.tasks``.
        original: The function to wrap.
    """

    def parse_model(d, ch, verbose=True):
        rows = [*d["backbone"], *d["head"]]
        ours = {i: row for i in range(len(rows)) if (row := _read(tasks, d, rows, i))}
        if not ours:
            return original(d, ch, verbose)
        check_evaluated(d)
        act = tasks.Conv.default_act
        try:
            return build(d, ch, verbose, rows, ours)
        finally:
            if d.get("activation"):  # releases before 8.4.190 leave it set
                tasks.Conv.default_act = act

    def build(d, ch, verbose, rows, ours):
        planned = [_stand_in(ours[i]) if i in ours else rows[i] for i in range(len(rows))]
        built = _build_backbones(original, d, ch, rows, ours, planned)
        table, texts = _Table(tasks.LOGGER), dict.fromkeys(ours, ())
        parse = table.of(original) if verbose else original
        try:
            model, save = parse(_config(d, planned), ch, verbose)
            for i, row in ours.items():
                layer, type_, args = built.get(i) or _build(parse_model, d, row, model[i])
                layer.np = sum(p.numel() for p in layer.parameters())
                layer.i, layer.f, layer.type = i, row.source, type_
                model[i] = layer
                texts[i] = (row.source, layer.np, type_, args)
        finally:
            table.print(texts)
        return model, save

    return parse_model


# ------------------------------------------------------------------------------------ reading rows


def _read(tasks: ModuleType, d: dict, rows: list, index: int) -> _Row | None:
    """Return row ``index`` checked, or ``None`` if it is none of ours."""
    raw = rows[index]
    where = _where(d, index)
    if not isinstance(raw, list | tuple):
        return None
    label = next((x for x in raw if isinstance(x, str)), None)
    if label is None or (_is_stock(tasks, label) and not registry.owns(label)):
        return None
    host, block = _resolve(tasks, where, label)
    if len(raw) != 4 or raw[2] != label:
        refuse(f"{where}: {raw!r} is no row", "write [from, repeats, module, arguments]")
    source, repeats, _, args = raw
    sources = source if block.role == "classifier" and isinstance(source, list) else [source]
    for one in sources or [source]:  # an empty list is refused as it is
        _check_source(where, label, one, index)
    if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
        refuse(f"{where}: {label}: repeats={repeats!r} is no whole number of 1 or more")
    if not isinstance(args, list | tuple):
        refuse(f"{where}: {label}: the arguments {args!r} are no list", "write [256]")
    if repeats > 1 and block.role in ("down", "widen", "backbone"):
        refuse(
            f"{where}: {label}: repeats={repeats}, but the block changes the size of the map",
            "use 1, and a row for every further one",
        )
    if repeats > 1 and block.role == "classifier":
        refuse(f"{where}: {label}: repeats={repeats}, but a model has one classifier", "use 1")
    positional = list(args)
    named = dict(positional.pop()) if positional and isinstance(positional[-1], dict) else {}
    blend, cls = named.pop("blend", False), registry.load(block)
    row = _Row(where, index, source, sources, repeats, block, cls, host, positional, named, blend)
    _check_arguments(row, label)
    _check_blend(row, label)
    return row


def _where(d: dict, index: int) -> str:
    section = "backbone" if index < len(d["backbone"]) else "head"
    return f"{d.get('yaml_file') or 'model config'}, row {index} ({section})"


def _is_stock(tasks: ModuleType, label: str) -> bool:
    return label.startswith(("nn.", "torchvision.ops.")) or hasattr(tasks, label)


def _resolve(tasks: ModuleType, where: str, label: str) -> tuple[str, Block]:
    """Return host (may be empty) and block of a row's module name."""
    block = registry.find(label)
    if block is not None:
        if hasattr(tasks, label):
            _warn_once(tasks, label)
        return "", block
    host, _, inner = label.partition("_")
    block = registry.find(inner) if inner else None
    if inner and host in registry.HOSTS and block is None:
        refuse(f"{where}: {label}: unknown block {inner!r}", registry.suggest(inner))
    if block is not None:
        if host not in registry.HOSTS:
            refuse(
                f"{where}: {label}: {host} holds no bottleneck with a 3x3 second convolution",
                f"use one of {', '.join(registry.HOSTS)}",
            )
        if block.role not in ("conv", "gate"):
            refuse(
                f"{where}: {label}: {block.name} changes the size of the map, so it cannot stand "
                "inside a stage",
                f"give it a row of its own: [-1, 1, {block.name}, ...]",
            )
        return host, block
    refuse(f"{where}: unknown block {label!r}", registry.suggest(label, _stock_names(tasks)))


def _stock_names(tasks: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(tasks).items()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and value.__module__.startswith("ultralytics.nn.modules")
    ]


_warned: set[str] = set()


def _warn_once(tasks: ModuleType, label: str) -> None:
    if label not in _warned:
        _warned.add(label)
        tasks.LOGGER.warning(
            f"yolograft: Ultralytics has a class named {label} too; rows named {label} mean "
            "yolograft's, as they did when your checkpoints were trained."
        )


def _check_source(where: str, label: str, source: object, index: int) -> None:
    if not isinstance(source, int) or isinstance(source, bool):
        refuse(
            f"{where}: {label}: from={source!r}, but the block reads one layer", "write -1 or a row"
        )
    if not -max(index, 1) <= source < index:
        last = f"-1, or a row from 0 to {index - 1}" if index else "-1"
        refuse(f"{where}: {label}: from={source} does not exist", f"use {last}")


def _check_arguments(row: _Row, label: str) -> None:
    """Refuse arguments that the block does not have, or that have to be named."""
    role, given = row.block.role, row.positional
    derived = registry.widths(row.cls, role) or ()
    parameters = [p for p in registry.parameters(row.cls) if p not in derived]
    if row.host:
        pass  # positional arguments are the stage's own
    elif role in ("conv", "down"):
        if not given:
            refuse(
                f"{row.where}: {label}: the output channels are missing", f"write {label}, [256]"
            )
        _check_count(row, label, "c2", given[0])
        extra = parameters[:2] if parameters[:2] in (["k", "s"], ["kernel_size", "stride"]) else []
        if len(given) > 1 + len(extra):
            _refuse_positional(row, label, given[1 + len(extra)], ["c2", *extra], parameters)
        for name, value in zip(extra, given[1:], strict=False):
            if name in row.named:
                refuse(f"{row.where}: {label}: {name} is given twice")
            row.named[name] = value
    elif role == "backbone":
        width, derived = derived[1:], derived[: 1 + len(given)]
        if len(given) > len(width):
            _refuse_positional(row, label, given[-1], list(width), parameters)
        if given:
            _check_count(row, label, width[0], given[0])
        else:
            parameters = [*width, *parameters]
    elif role == "classifier":
        if given != ["nc"]:
            refuse(
                f"{row.where}: {label}: the arguments {given!r} are not the number of classes",
                f"write {label}, [nc]",
            )
    elif given:
        _refuse_positional(row, label, given[0], [], parameters)
    for name in row.named:
        if name in derived or (name not in parameters and not registry.takes_any(row.cls)):
            hint = nearest(str(name), parameters) or (
                f"{row.block.name} has {', '.join(parameters)}" if parameters else "it takes none"
            )
            if name in derived:
                hint = "the channels come from the layers around the block"
            refuse(f"{row.where}: {label}: no argument {name!r} to give", hint)


def _check_blend(row: _Row, label: str) -> None:
    """Refuse a ``blend:`` that is neither true nor a layer, or that the block cannot have."""
    blend = row.blend
    if not isinstance(blend, bool) and not (
        isinstance(blend, list | tuple)
        and len(blend) == 2
        and isinstance(blend[0], str)
        and is_layer(blend[0])
        and isinstance(blend[1], list | tuple)
    ):
        refuse(
            f"{row.where}: {label}: blend={blend!r} names no layer",
            "write true, or module and arguments of the layer before, as in [Conv, [256, 3, 2]]",
        )
    if blend and row.block.role not in ("gate", "conv", "down"):
        refuse(f"{row.where}: {label}: a {row.block.role} block cannot be blended", "drop blend")
    if row.host and not isinstance(blend, bool):
        refuse(
            f"{row.where}: {label}: blend={blend!r}, but inside a stage the layer before is known",
            "write true",
        )
    if blend is True and row.block.role == "down":
        refuse(
            f"{row.where}: {label}: blend=True, but the block halves the map",
            "name the layer before, as in {blend: [Conv, [256, 3, 2]]}",
        )


def _check_count(row: _Row, label: str, name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        refuse(
            f"{row.where}: {label}: {name}={value!r} is no whole number of 1 or more",
            f"write {label}, [256]",
        )


def _refuse_positional(
    row: _Row, label: str, value: object, allowed: list[str], parameters: list[str]
) -> None:
    names = [p for p in parameters if p not in allowed]
    takes = f"only {', '.join(allowed)} may stand" if allowed else "none may stand"
    example = f"; name it in a trailing mapping, as in {{{names[0]}: {value}}}" if names else ""
    refuse(
        f"{row.where}: {label}: positional argument {value!r} is one too many",
        f"{takes} without a name{example}",
    )


# ------------------------------------------------------------------------------ stand-ins and back


def _config(d: dict, rows: list) -> dict:
    """Return ``d`` with other rows; the stock parser concatenates backbone and head anyway."""
    split = len(d["backbone"])
    return {**d, "backbone": rows[:split], "head": rows[split:]}


def _alone(d: dict, rows: list) -> dict:
    """Return a config of other rows alone, at the scale of ``d``."""
    config = {**d, "backbone": deepcopy(rows), "head": []}
    if d.get("scales") and not d.get("scale"):
        config["scale"] = next(iter(d["scales"]))  # the host warns of it when it builds them all
    return config


def _stand_in(row: _Row) -> list:
    if row.host:
        return [row.source, row.repeats, row.host, row.positional]
    if row.block.role in ("gate", "classifier"):
        return [row.sources, row.repeats, *deepcopy(_AS_IT_IS)]
    if row.block.role == "widen":
        return [row.sources * 4, 1, "Concat", [1]]
    width = row.positional[0] if row.positional else 8
    return [row.source, row.repeats, "Conv", [width, 1]]


def _widths(row: _Row, stand_in: nn.Module) -> list[int]:
    """Return the channels of the rows that a stand-in has read."""
    widths = stand_in.d  # of all rows, as the host's loop has left it; of the image for row 0
    return [widths[s % row.index if row.index else 0] for s in row.sources]


def _build_backbones(
    original: Callable, d: dict, ch: int, rows: list, ours: dict[int, _Row], planned: list
) -> dict[int, tuple]:
    """Build blocks that return several maps, and write their true widths into the Index rows.

    The stock parser wants those widths before it builds anything, so it first runs on the rows up
    to each such block.
    """
    built = {}
    for i, row in ours.items():
        if row.block.role != "backbone":
            continue
        stand_in = original(_alone(d, planned[: i + 1]), ch, False)[0][i]
        built[i] = _build(original, d, row, stand_in)
        widths = list(built[i][0].out_channels)
        for j in range(i + 1, len(rows)):
            source, repeats, name, args = rows[j]
            sources = [
                s if s >= 0 else s + j for s in (source if isinstance(source, list) else [source])
            ]
            if i not in sources:
                continue
            if name != "Index":
                refuse(
                    f"{_where(d, j)}: {name} reads row {i}, {row.block.name}, which returns "
                    f"{len(widths)} maps",
                    f"read one of them through a row [{i}, 1, Index, [{widths[0]}, 0]]",
                )
            if not (
                len(args) == 2
                and isinstance(args[1], int)
                and -len(widths) <= args[1] < len(widths)
            ):
                refuse(
                    f"{_where(d, j)}: Index {args!r} names no map of row {i}",
                    f"write [{i}, 1, Index, [channels, map]], map from 0 to {len(widths) - 1}",
                )
            planned[j] = [source, repeats, "Index", [widths[args[1]], args[1]]]
    return built


def _build_old(parse_model: Callable, d: dict, row: _Row, c1: int, c2: int) -> nn.Module:
    """Build the layer that a row blends from.

    Args:
        parse_model: Ours, since such a layer may be a block too.
        d: The config.
        row: The row.
        c1: Channels that it reads.
        c2: Channels that it has to return.
    """
    name = f"{row.where}: {row.block.name}: blend={row.blend!r}"
    alone = _alone(d, [[-1, row.repeats, *row.blend], [[-1], 1, *_AS_IT_IS]])
    try:
        old, after = parse_model(alone, c1, False)[0]
    except Exception as error:
        if is_memory(error):
            raise
        text = str(error) if isinstance(error, ConfigError) else told(error)
        fact = f"{name} cannot be built: {text.removeprefix(f'{_where(alone, 0)}: ')}"
    else:
        if after.d[0] == c2:
            return old
        fact = f"{name} returns {after.d[0]} channels, but the block returns {c2}"
    raise ConfigError(fact)


def _is_unscaled(d: dict) -> bool:
    """Tell whether the stock parser multiplies widths by 1; it rounds them up to eights even so."""
    scales = d.get("scales")
    if not scales:
        return d.get("width_multiple", 1.0) == 1
    return scales[d.get("scale") or next(iter(scales))][1] == 1


def _build(
    parse_model: Callable, d: dict, row: _Row, stand_in: nn.Module
) -> tuple[nn.Module, str, str]:
    """Return the layer that takes the stand-in's place, its type and its arguments as text.

    Args:
        parse_model: Builds the layer that a row blends from.
        d: The config.
        row: What it says of this layer.
        stand_in: What the stock parser built.
    """
    if row.host:
        return _graft_inside(row, stand_in)
    units = [*stand_in] if isinstance(stand_in, nn.Sequential) else [stand_in]
    named = dict(row.named)
    role = row.block.role
    if role == "gate":
        channels = [tuple(_widths(row, units[0]))] * len(units)
    elif role == "widen":
        channels = [()]
    elif role == "backbone":
        conv, exact = units[0].conv, _is_unscaled(d)
        width = [min(conv.out_channels, w) if exact else conv.out_channels for w in row.positional]
        channels = [(conv.in_channels, *width)]
    elif role == "classifier":
        widths = _widths(row, units[0])
        channels = [(widths if isinstance(row.source, list) else widths[0], d.get("nc"))]
    else:
        c1, c2 = units[0].conv.in_channels, units[0].conv.out_channels
        channels = [(c1, c2), *[(c2, c2)] * (len(units) - 1)]
    act = getattr(units[0], "act", None)
    layers = [_construct(row, channels[0], named, act)]
    for c in channels[1:]:  # the stride is spent by the first
        rest = {k: v for k, v in named.items() if k not in ("s", "stride")}
        layers.append(_construct(row, c, rest, act))
    layer = nn.Sequential(*layers) if len(layers) > 1 else layers[0]
    if row.blend:
        old, stride = nn.Identity(), named.get("s", named.get("stride", 1))
        if row.blend is not True:
            old = _build_old(parse_model, d, row, channels[0][0], channels[0][-1])
        elif channels[0][0] != channels[0][-1] or stride != 1:
            refuse(
                f"{row.where}: {row.block.name}: blend=True, but the block changes the shape",
                "name the layer before, as in {blend: [Conv, [256, 3, 2]]}",
            )
        layer = Blend(layer, old, channels[0][-1])
        named["blend"] = row.blend
    text = str([*channels[0], *([named] if named else [])])
    return layer, f"{row.cls.__module__}.{row.cls.__qualname__}", text


def _graft_inside(row: _Row, stage: nn.Module) -> tuple[nn.Module, str, str]:
    """Put the block in place of the second 3x3 convolution of every bottleneck.

    A gate follows that convolution instead, before the shortcut is added.
    """
    from ultralytics.nn.modules.block import Bottleneck

    hosts = [
        m for m in stage.modules() if isinstance(m, Bottleneck) and m.cv2.conv.kernel_size == (3, 3)
    ]
    if not hosts:
        refuse(f"{row.where}: {row.host} holds no bottleneck with a 3x3 second convolution here")
    for bottleneck in hosts:
        old = bottleneck.cv2
        conv = old.conv
        width = conv.out_channels
        if row.block.role == "gate":
            gate = _construct(row, (width,), row.named, old.act)
            if row.blend:
                gate = Blend(gate, nn.Identity(), width)
            bottleneck.cv2 = nn.Sequential(old, gate)
            continue
        named = dict(row.named)
        if conv.groups != 1:
            key = next((g for g in ("groups", "g") if g in registry.parameters(row.cls)), "")
            if not key:
                refuse(
                    f"{row.where}: {row.host}_{row.block.name}: the stage has "
                    f"groups={conv.groups}, {row.block.name} knows no groups",
                    "leave the stage's groups at 1",
                )
            named.setdefault(key, conv.groups)
        block = _construct(row, (conv.in_channels, width), named, old.act)
        bottleneck.cv2 = Blend(block, old, width) if row.blend else block
    name = f"{type(stage).__module__}.{row.host}[{row.cls.__name__}]"
    shown = {**row.named, **({"blend": True} if row.blend else {})}
    return stage, name, str(shown) if shown else ""


def _construct(row: _Row, channels: tuple, named: dict, act: nn.Module | None) -> nn.Module:
    """Build one block; what its constructor refuses is told with file, row and block."""
    own = inspect.signature(row.cls).parameters.get("act")
    if own and act is not None and named.get("act", own.default) is True:
        named = {**named, "act": deepcopy(act)}
    try:
        module = registry.build(row.cls, row.block.role, channels, named)
        registry.check_attributes(module, row.block.name)
    except Exception as error:
        if is_memory(error):
            raise
        fact = f"{row.where}: {blamed(row.block.name, error)}"
    else:
        trial.check_maps(module, row.block, channels, row.where, inside=bool(row.host))
        return module
    raise ConfigError(fact)


# ------------------------------------------------------------------------------- blocks that raise


def is_memory(error: Exception) -> bool:
    """Tell whether memory ran out, which is no fault of a config or a block."""
    return (
        isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
        or "out of memory" in str(error).lower()
    )


def blamed(name: str, error: Exception) -> str:
    """Return what to say of a block that raised, its name first.

    Args:
        name: Of the block.
        error: What it raised. A message that begins with the name, or has a hint, stands as it is.
    """
    text = str(error)
    written = text.startswith(f"{name}: ") or "\n\nHint: " in text
    if not isinstance(error, TypeError | ValueError) or not written:
        text = text if isinstance(error, ConfigError) else told(error)
    return text if text.startswith(f"{name}: ") else f"{name}: {text}"


def told(error: Exception) -> str:
    """Return type and message of an exception, and the line of someone's code that it came from."""
    hosts = ("torch", "torchvision", "ultralytics", "yolograft")
    places = [
        f" ({frame.f_code.co_filename}, line {line})"
        for frame, line in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in hosts
    ]
    text = f": {error}" if str(error) else ""
    return f"{type(error).__name__}{text}{places[-1] if places else ''}"


# ------------------------------------------------------------------------------ the printed table


class _Table(logging.Logger):
    """What the stock parser prints, until the rows of ours can be printed as they are.

    The host's logger belongs to all threads, so the parser is called with this one in its place.

    Args:
        logger: The host's.
    """

    def __init__(self, logger: logging.Logger):
        super().__init__(logger.name, logger.getEffectiveLevel())
        self.logger = logger
        self.records: list[logging.LogRecord] = []

    def handle(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)

    def of(self, parse_model: Callable) -> Callable:
        """Return the stock parser with this logger; one that others have wrapped, as it is."""
        if "LOGGER" not in parse_model.__code__.co_names:
            return parse_model
        return with_globals(parse_model, LOGGER=self)

    def print(self, texts: dict[int, tuple]) -> None:
        """Print what was kept; ``texts`` has what to say of our rows, nothing if not built."""
        for record in self.records:
            match = _LINE.match(record.getMessage())
            if match and int(match["i"]) in texts:
                if not texts[int(match["i"])]:
                    continue
                source, params, type_, args = texts[int(match["i"])]
                if "[" in type_:  # a stage with a block inside: its own arguments, then the block's
                    args = f"{match['args'].strip()} {args}".strip()
                record.args = ()
                record.msg = (
                    f"{match['i']:>3}{source!s:>20}{match['n']:>3}{params:10.0f}  "
                    f"{type_:<45}{args:<30}"
                )
            self.logger.handle(record)
