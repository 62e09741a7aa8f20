"""Rows of ours go in as stand-ins and come out as our modules.

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
from typing import Any

from torch import nn

from yolograft import failures, registry, signatures, trial, ultra
from yolograft.blocks._row import Block
from yolograft.blocks.blend import Blend
from yolograft.config import rows, scale
from yolograft.config.check import check_evaluated
from yolograft.config.labels import split
from yolograft.errors import ConfigError, nearest, refuse
from yolograft.roles import UNCHANGED, BlockRow, Role

#: A row of the table that the stock parser prints.
_LINE = re.compile(
    r"\s*(?P<i>\d+)\s+(?:\[.*?\]|-?\d+)\s+(?P<n>\d+)\s+\d+\s+(?P<type>\S+)\s+(?P<args>.*)"
)

#: A layer, its type, and its arguments as text.
Built = tuple[nn.Module, str, str]


def parse(config: dict[str, Any], ch: int, verbose: bool = True) -> tuple[nn.Sequential, list[int]]:
    """Do as Ultralytics' ``parse_model``, with rows of blocks.

    Args:
        config: What a model YAML holds.
        ch: Channels of the image.
        verbose: Whether to print the table of layers.

    Returns:
        The layers, and the numbers of those whose maps are kept for later rows.

    Raises:
        ConfigError: If a row of a block is wrong, or the block cannot be built.
    """
    from ultralytics.nn import tasks

    stock = ultra.original("ultralytics.nn.tasks:parse_model")
    given = rows.raw(config)
    ours = {i: row for i in range(len(given)) if (row := _read(config, given[i], i))}
    if not ours:
        return stock(config, ch, verbose)
    check_evaluated(config)
    act = tasks.Conv.default_act
    try:
        return _parse(stock, config, ch, verbose, given, ours)
    finally:
        if config.get("activation"):  # releases before 8.4.190 leave it set
            tasks.Conv.default_act = act


def _parse(
    stock: Callable, config: dict, ch: int, verbose: bool, given: list, ours: dict[int, _Row]
) -> tuple[nn.Sequential, list[int]]:
    from ultralytics.nn import tasks

    planned = [_stand_in(ours[i]) if i in ours else row for i, row in enumerate(given)]
    built = _build_backbones(stock, config, ch, given, ours, planned)
    table, texts = _Table(tasks.LOGGER), dict.fromkeys(ours, ())
    try:
        run = table.of(stock) if verbose else stock
        model, save = run(rows.with_rows(config, planned, len(config["backbone"])), ch, verbose)
        for i, row in ours.items():
            layer, type_, args = built.get(i) or _build(config, row, model[i])
            layer.np = sum(p.numel() for p in layer.parameters())
            layer.i, layer.f, layer.type = i, row.source, type_
            model[i] = layer
            texts[i] = (row.source, layer.np, type_, args)
    finally:
        table.print(texts)
    return model, save


# ------------------------------------------------------------------------------------ reading rows


@dataclass
class _Row(BlockRow):
    """A row of a block, with the block and its class."""

    block: Block
    cls: type

    @property
    def role(self) -> Role:
        return self.block.role

    @property
    def unscaled(self) -> bool:
        return scale.is_unscaled(self.config)


def _read(config: dict, raw: Any, index: int) -> _Row | None:
    """Return row ``index`` checked, or ``None`` if it is not a block's."""
    if not isinstance(raw, list | tuple):
        return None
    label = next((x for x in raw if isinstance(x, str)), None)
    if label is None or (ultra.is_stock(label) and not registry.owns(label)):
        return None
    where = rows.where(config, index)
    stage, block = _resolve(where, label)
    if len(raw) != 4 or raw[2] != label:
        refuse(f"{where}: {raw!r} is not a row", "write [from, repeats, module, arguments]")
    source, repeats, _, args = raw
    role = block.role
    sources = source if role.reads_many and isinstance(source, list) else [source]
    for one in sources or [source]:  # an empty list is refused as it is
        _check_source(one, index, f"{where}: {label}", role)
    if not isinstance(args, list | tuple):
        refuse(f"{where}: {label}: the arguments {args!r} are not a list", "write [256]")
    positional = list(args)
    named = dict(positional.pop()) if positional and isinstance(positional[-1], dict) else {}
    blend = named.pop("blend", False)
    parts = where, label, index, source, sources, repeats, positional, named, stage, blend
    row = _Row(*parts, config, block, block.load())
    _check_count(row, "repeats", repeats)
    if repeats > 1 and role.once[0]:
        row.refuse(f"repeats={repeats}, but {role.once[0]}", role.once[1])
    _check_arguments(row)
    _check_blend(row)
    return row


def _check_source(source: object, index: int, place: str, role: Role) -> None:
    if isinstance(source, list) and not role.reads_many:
        refuse(f"{place}: from={source!r}, but the block reads one layer", "write -1 or a row")
    rows.check_source(source, index, place)


def _resolve(where: str, label: str) -> tuple[str, Block]:
    """Return stage (may be empty) and block of a row's module name."""
    stage, block = split(label)
    if block is not None and not stage:
        if ultra.is_stock(label):
            _warn_once(label)
        return "", block
    outer, _, inner = label.partition("_")
    if stage and block is None:
        refuse(f"{where}: {label}: unknown block {inner!r}", registry.suggest(inner))
    if block is None and inner and registry.find(inner):
        refuse(
            f"{where}: {label}: {outer} has no bottleneck with a 3x3 second convolution",
            f"use one of {', '.join(ultra.STAGES)}",
        )
    if block is None:
        refuse(f"{where}: unknown block {label!r}", registry.suggest(label, ultra.stock_names()))
    if not block.role.inside:
        refuse(
            f"{where}: {label}: {block.name} changes the size of the map, so it cannot stand "
            "inside a stage",
            f"give it a row of its own: [-1, 1, {block.name}, ...]",
        )
    return stage, block


_warned: set[str] = set()


def _warn_once(label: str) -> None:
    from ultralytics.utils import LOGGER

    if label not in _warned:
        _warned.add(label)
        LOGGER.warning(
            f"yolograft: Ultralytics has a class named {label} too; rows named {label} mean "
            "yolograft's, as they did when your checkpoints were trained."
        )


def _check_count(row: _Row, name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        hint = "" if name == "repeats" else f"write {row.label}, [256]"
        row.refuse(f"{name}={value!r} must be a positive integer", hint)


def _check_arguments(row: _Row) -> None:
    """Refuse arguments that the block does not have, or that have to be named.

    Kernel and stride, which a row may give without a name, are among the named ones afterwards.
    """
    derived = signatures.widths(row.cls, row.role) or ()
    others = [p for p in signatures.parameters(row.cls) if p not in derived]
    if not row.stage:  # there, they are the stage's own
        row.role.check_row(row)
        allowed = row.role.positional(derived, others)
        if not row.role.takes_classes:
            width, *rest = row.positional or [None]
            if len(row.positional) > len(allowed):
                extra = row.positional[len(allowed)]
                _refuse_positional(row, extra, allowed, others)
            if row.positional:
                _check_count(row, allowed[0], width)
            for name, value in zip(allowed[1:], rest, strict=False):
                if name in row.named:
                    row.refuse(f"{name} is given twice")
                row.named[name] = value
            row.positional = row.positional[:1]
        if allowed and not row.positional:  # the block's own width, under its name
            derived, others = tuple(n for n in derived if n not in allowed), [*allowed, *others]
    for name in row.named:
        if name in derived:
            row.refuse(
                f"the argument {name!r} cannot be given",
                "the channels come from the layers around the block",
            )
        if name not in others and not signatures.takes_any(row.cls):
            hint = f"{row.block.name} has {', '.join(others)}" if others else "it takes none"
            row.refuse(f"the argument {name!r} does not exist", nearest(str(name), others) or hint)


def _refuse_positional(row: _Row, value: object, allowed: tuple[str, ...], others: list) -> None:
    names = [p for p in others if p not in allowed]
    takes = f"only {', '.join(allowed)} may stand" if allowed else "none may stand"
    example = f"; name it in a trailing mapping, as in {{{names[0]}: {value}}}" if names else ""
    row.refuse(f"positional argument {value!r} is one too many", f"{takes} without a name{example}")


def _check_blend(row: _Row) -> None:
    """Refuse a ``blend:`` that is neither true nor a layer, or that the block cannot have."""
    blend = row.blend
    if not isinstance(blend, bool) and not (
        isinstance(blend, list | tuple)
        and len(blend) == 2
        and isinstance(blend[0], str)
        and ultra.is_layer(blend[0])
        and isinstance(blend[1], list | tuple)
    ):
        row.refuse(
            f"blend={blend!r} does not name a layer",
            "write true, or module and arguments of the layer before, as in [Conv, [256, 3, 2]]",
        )
    if blend and not row.role.can_blend:
        row.refuse(f"a block of the role {row.role} cannot be blended", "remove blend")
    if row.stage and not isinstance(blend, bool):
        row.refuse(f"blend={blend!r}, but inside a stage the layer before is known", "write true")
    if blend is True and row.role.halves:
        row.refuse(
            "blend=True, but the block halves the map",
            "name the layer before, as in {blend: [Conv, [256, 3, 2]]}",
        )


# ------------------------------------------------------------------------------ stand-ins and back


def _stand_in(row: _Row) -> list:
    if row.stage:
        return [row.source, row.repeats, row.stage, row.positional]
    return row.role.stand_in(row)


def _build_backbones(
    stock: Callable, config: dict, ch: int, given: list, ours: dict[int, _Row], planned: list
) -> dict[int, Built]:
    """Build blocks that return several maps, and write their true widths into the Index rows.

    The stock parser wants those widths before it builds anything, so it first runs on the rows up
    to each such block.
    """
    built = {}
    for i, row in ours.items():
        if not row.role.several_maps:
            continue
        first = scale.alone(config, deepcopy(planned[: i + 1]))
        built[i] = _build(config, row, stock(first, ch, False)[0][i])
        widths = list(built[i][0].out_channels)
        for j in range(i + 1, len(given)):
            source, repeats, name, args = given[j]
            if i in [rows.absolute(s, j) for s in rows.as_list(source)]:
                _check_index(config, j, name, args, row, widths)
                planned[j] = [source, repeats, name, [widths[args[1]], args[1]]]
    return built


def _check_index(
    config: dict, index: int, name: str, args: list, row: _Row, widths: list[int]
) -> None:
    """Refuse a row that reads a block with several maps, but does not say which of them."""
    place = rows.where(config, index)
    if name != "Index":
        refuse(
            f"{place}: {name} reads row {row.index}, {row.block.name}, which returns "
            f"{len(widths)} maps",
            f"read one of them through a row [{row.index}, 1, Index, [{widths[0]}, 0]]",
        )
    if not (len(args) == 2 and isinstance(args[1], int) and -len(widths) <= args[1] < len(widths)):
        refuse(
            f"{place}: Index {args!r} does not name a map of row {row.index}",
            f"write [{row.index}, 1, Index, [channels, map]], map from 0 to {len(widths) - 1}",
        )


def _build(config: dict, row: _Row, stand_in: nn.Module) -> Built:
    """Return the layer that takes the stand-in's place, its type and its arguments as text.

    Args:
        config: The config.
        row: What it says of this layer.
        stand_in: What the stock parser built.
    """
    if row.stage:
        return _put_inside(row, stand_in)
    units = [*stand_in] if isinstance(stand_in, nn.Sequential) else [stand_in]
    channels = row.role.channels(row, units[0])
    act = getattr(units[0], "act", None)
    layers = [_construct(row, channels, row.named, act)]
    rest = {k: v for k, v in row.named.items() if k not in ("s", "stride")}  # spent by the first
    for _ in units[1:]:
        layers.append(_construct(row, row.role.repeated(channels), rest, act))
    layer = nn.Sequential(*layers) if len(layers) > 1 else layers[0]
    shown = dict(row.named)
    if row.blend:
        layer = Blend(layer, _old(config, row, channels), channels[-1])
        shown["blend"] = row.blend
    text = str([*channels, *([shown] if shown else [])])
    return layer, f"{row.cls.__module__}.{row.cls.__qualname__}", text


def _old(config: dict, row: _Row, channels: tuple) -> nn.Module:
    """Return the layer that a row blends from."""
    c1, c2 = channels[0], channels[-1]
    if row.blend is True:
        if c1 != c2 or row.named.get("s", row.named.get("stride", 1)) != 1:
            refuse(
                f"{row.where}: {row.block.name}: blend=True, but the block changes the shape",
                "name the layer before, as in {blend: [Conv, [256, 3, 2]]}",
            )
        return nn.Identity()
    name = f"{row.where}: {row.block.name}: blend={row.blend!r}"
    layer, after = [-1, row.repeats, *row.blend], [[-1], 1, *UNCHANGED]
    alone = scale.alone(config, deepcopy([layer, after]))
    try:
        old, after = parse(alone, c1, False)[0]
    except Exception as error:
        if failures.is_memory(error):
            raise
        text = str(error) if isinstance(error, ConfigError) else failures.described(error)
        fact = f"{name} cannot be built: {text.removeprefix(f'{rows.where(alone, 0)}: ')}"
    else:
        if after.d[0] == c2:
            return old
        fact = f"{name} returns {after.d[0]} channels, but the block returns {c2}"
    raise ConfigError(fact)


def _put_inside(row: _Row, stage: nn.Module) -> Built:
    """Put the block in place of the second 3x3 convolution of every bottleneck, or behind it.

    An attention block stands behind it, before the shortcut is added.
    """
    from ultralytics.nn.modules.block import Bottleneck

    found = [
        m for m in stage.modules() if isinstance(m, Bottleneck) and m.cv2.conv.kernel_size == (3, 3)
    ]
    if not found:
        refuse(f"{row.where}: {row.stage} has no bottleneck with a 3x3 second convolution here")
    for bottleneck in found:
        old = bottleneck.cv2
        width = old.conv.out_channels
        if row.role.inside == "follow":
            block = _construct(row, (width,), row.named, old.act)
            block = Blend(block, nn.Identity(), width) if row.blend else block
            bottleneck.cv2 = nn.Sequential(old, block)
        else:
            named = {**row.named, **_groups(row, old.conv.groups)}
            block = _construct(row, (old.conv.in_channels, width), named, old.act)
            bottleneck.cv2 = Blend(block, old, width) if row.blend else block
    name = f"{type(stage).__module__}.{row.stage}[{row.cls.__name__}]"
    shown = {**row.named, **({"blend": True} if row.blend else {})}
    return stage, name, str(shown) if shown else ""


def _groups(row: _Row, groups: int) -> dict[str, int]:
    """Return the argument that gives a block the groups of the convolution that it replaces."""
    if groups == 1:
        return {}
    key = next((g for g in ("groups", "g") if g in signatures.parameters(row.cls)), "")
    if not key:
        row.refuse(
            f"the stage has groups={groups}, but {row.block.name} does not know groups",
            "leave the stage's groups at 1",
        )
    return {} if key in row.named else {key: groups}


def _construct(row: _Row, channels: tuple, named: dict, act: nn.Module | None) -> nn.Module:
    """Build one block; an error of its constructor is reported with file, row and block."""
    own = inspect.signature(row.cls).parameters.get("act")
    if own and act is not None and named.get("act", own.default) is True:
        named = {**named, "act": deepcopy(act)}
    try:
        module = signatures.build(row.cls, row.role, channels, named)
        trial.check_attributes(module, row.block.name)
    except Exception as error:
        if failures.is_memory(error):
            raise
        fact = f"{row.where}: {failures.blamed(row.block.name, error)}"
    else:
        trial.check_maps(module, row.block, channels, row.where, inside=bool(row.stage))
        return module
    raise ConfigError(fact)


# ------------------------------------------------------------------------------ the printed table


class _Table(logging.Logger):
    """What the stock parser prints, until the rows of ours can be printed as they are.

    Ultralytics' logger belongs to all threads, so the parser is called with this one in its place.

    Args:
        logger: Ultralytics' logger.
    """

    def __init__(self, logger: logging.Logger):
        super().__init__(logger.name, logger.getEffectiveLevel())
        self.logger = logger
        self.records: list[logging.LogRecord] = []

    def handle(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)

    def of(self, stock: Callable) -> Callable:
        """Return the stock parser with this logger; one that others have wrapped, as it is."""
        if "LOGGER" not in stock.__code__.co_names:
            return stock
        return ultra.with_globals(stock, LOGGER=self)

    def print(self, texts: dict[int, tuple]) -> None:
        """Print what was kept; ``texts`` has what our rows show, nothing if they are not built."""
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
