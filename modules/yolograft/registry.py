"""The table of blocks, and ``register()`` for other people's blocks."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import NoReturn

#: Stock stages that hold bottlenecks with a 3x3 second convolution: `C2f_SK` and the like.
HOSTS = ("C2", "C2f", "C3", "C3k2", "BottleneckCSP", "RepNCSPELAN4")

#: Ultralytics attaches these to every layer, so a block cannot own them.
RESERVED = ("i", "f", "type", "np")

#: How the constructor of each role starts.
ROLES = {
    "conv": ("c1", "c2"),
    "down": ("c1", "c2"),
    "gate": ("c",),
    "widen": (),
    "backbone": ("c1",),
    "classifier": ("c1", "c2"),
}


class ConfigError(ValueError):
    """A model or data YAML, COCO JSON, or a block offered, that cannot be used as it stands."""


def refuse(fact: str, hint: str = "") -> NoReturn:
    """Raise a :class:`ConfigError` that says what is wrong, then what to do.

    Args:
        fact: File, row, block and value.
        hint: The remedy.

    Raises:
        ConfigError: Always.
    """
    msg = f"{fact}\n\nHint: {hint}" if hint else fact
    raise ConfigError(msg)


@dataclass(frozen=True)
class Block:
    """One row of the table.

    Attributes:
        name: Name in a YAML row.
        path: ``"module:Class"``, imported when the block is first used.
        role: What the block does to channels and size. ``conv`` takes ``c1`` to ``c2``, ``down``
            does so and halves the map, ``gate`` keeps the shape, ``widen`` takes ``c`` to ``4c``
            and halves the map, ``backbone`` returns a list of maps (its instances name their
            widths in ``out_channels``), ``classifier`` ends the model and reads one map or several
            (``c1`` is then a list).
        paper: arXiv number.
        aliases: Other names in a YAML row.
        config: The pack's model YAML that shows the block.
        limits: What the block cannot do, by condition, each with its reason.
    """

    name: str
    path: str
    role: str
    paper: str = ""
    aliases: tuple[str, ...] = ()
    config: str = ""
    limits: dict[str, str] = field(default_factory=dict, hash=False)

    def load(self) -> type:
        """Import and return the class."""
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)


_BUILT_IN = (
    Block(
        "SKConv",
        "yolograft.blocks.sk:SKConv",
        role="conv",
        paper="1903.06586",
        aliases=("SK",),
        config="yolov8-sk.yaml",
    ),
    Block(
        "SKUnit",
        "yolograft.blocks.sk:SKUnit",
        role="conv",
        paper="1903.06586",
        config="sknet50-cls.yaml",
    ),
    Block(
        "SPDConv",
        "yolograft.blocks.spd:SPDConv",
        role="down",
        paper="2208.03641",
        aliases=("SPD",),
        config="yolov8-spd.yaml",
    ),
    Block(
        "SpaceToDepth",
        "yolograft.blocks.spd:SpaceToDepth",
        role="widen",
        paper="2208.03641",
    ),
    Block(
        "DeformConv",
        "yolograft.blocks.deform:DeformConv",
        role="conv",
        paper="1811.11168",
        aliases=("DCN",),
        config="yolov8-dcn.yaml",
        limits={
            "deterministic training on CUDA": "the gradient of deform_conv2d adds up in any order"
        },
    ),
    Block(
        "ACmix",
        "yolograft.blocks.acmix:ACmix",
        role="conv",
        paper="2111.14556",
        config="yolov8-acmix.yaml",
        limits={
            "no gradient for attention.position.bias": "softmax over the window is blind to it"
        },
    ),
    Block(
        "ASPP",
        "yolograft.blocks.aspp:ASPP",
        role="conv",
        paper="1706.05587",
        config="yolov8-aspp.yaml",
    ),
    Block(
        "CBAM",
        "yolograft.blocks.cbam:CBAM",
        role="gate",
        paper="1807.06521",
        config="yolov8-cbam.yaml",
    ),
    Block(
        "CoordAtt",
        "yolograft.blocks.coordatt:CoordAtt",
        role="gate",
        paper="2103.02907",
        aliases=("CA",),
        config="yolov8-ca.yaml",
        limits={"no gradient for mix.conv.bias": "BatchNorm takes it away again in training"},
    ),
    Block(
        "SE",
        "yolograft.blocks.se:SE",
        role="gate",
        paper="1709.01507",
        config="yolov8-se.yaml",
    ),
    Block(
        "GlobalContext",
        "yolograft.blocks.globalcontext:GlobalContext",
        role="gate",
        paper="1904.11492",
        aliases=("GC",),
        config="yolov8-gc.yaml",
        limits={"no gradient for mask.bias": "softmax over positions is blind to it"},
    ),
    Block(
        "NonLocal",
        "yolograft.blocks.non_local:NonLocal",
        role="gate",
        paper="1711.07971",
        aliases=("NL",),
        config="yolov8-nl.yaml",
        limits={
            "no gradient for phi.bias": "softmax over positions is blind to it",
            "no gradient for out.conv.bias": "BatchNorm takes it away again in training",
            "no gradient for g.bias (norm=True)": "it adds a constant, which BatchNorm takes away",
        },
    ),
    Block(
        "StripPooling",
        "yolograft.blocks.strip:StripPooling",
        role="gate",
        paper="2003.13328",
        aliases=("SPM",),
        config="yolov8-spm.yaml",
    ),
    Block(
        "MixedPooling",
        "yolograft.blocks.strip:MixedPooling",
        role="gate",
        paper="2003.13328",
        aliases=("MPM",),
        config="yolov8-mpm.yaml",
    ),
    Block(
        "STN",
        "yolograft.blocks.stn:STN",
        role="gate",
        paper="1506.02025",
        config="yolov8-stn.yaml",
        limits={
            "deterministic training on CUDA": "the gradient of grid_sample adds up in any order"
        },
    ),
    Block(
        "HRNet",
        "yolograft.blocks.hrnet:HRNet",
        role="backbone",
        paper="1908.07919",
        config="yolov8-hrnet.yaml",
    ),
    Block(
        "Classifier",
        "yolograft.host.classifier:Classifier",
        role="classifier",
        paper="1908.07919",
        config="sknet50-cls.yaml",
    ),
)

_blocks: dict[str, Block] = {block.name: block for block in _BUILT_IN}
_names: dict[str, str] = {n: b.name for b in _BUILT_IN for n in (b.name, *b.aliases)}
#: Classes given as objects; a class in a notebook or script has no path to import it from.
_classes: dict[str, type] = {}
_entry_points_read = False


def table() -> Iterator[Block]:
    """Yield every block, the pack's first, then registered ones and those of entry points."""
    _load_entry_points()
    yield from _blocks.values()


def find(name: str) -> Block | None:
    """Return the block of a name or alias, or ``None``."""
    if name not in _names:
        _load_entry_points()
    return _blocks[_names[name]] if name in _names else None


def owns(name: str) -> bool:
    """Tell whether a name of Ultralytics means a block of ours.

    Entry points are not read for it, since none may take such a name: a stock model costs nothing.

    Args:
        name: A name that Ultralytics knows.
    """
    return name in _names


def load(block: Block) -> type:
    """Return the class of a block of the table."""
    return _classes.get(block.name) or block.load()


def names() -> list[str]:
    """Return every name and alias."""
    _load_entry_points()
    return list(_names)


def nearest(name: str, candidates: Iterator[str] | list[str]) -> str:
    """Return ``did you mean X?`` for the nearest candidate, or an empty string."""
    by_lower = {c.lower(): c for c in candidates}
    match = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f"did you mean {by_lower[match[0]]}?" if match else ""


def suggest(name: str, others: list[str] | None = None) -> str:
    """Return a hint for a name that is no block.

    Args:
        name: What was given.
        others: Names that would have been right too.
    """
    return nearest(name, [*names(), *(others or [])]) or "`yolograft list` shows all blocks"


def parameters(cls: type) -> list[str]:
    """Return the names of a constructor's arguments.

    Args:
        cls: A block.
    """
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in inspect.signature(cls).parameters.values() if p.kind not in variadic]


def register(
    cls: type,
    name: str | None = None,
    *,
    role: str | None = None,
    aliases: tuple[str, ...] = (),
    paper: str = "",
) -> type:
    """Add your own module to the table, so that YAML rows can name it.

    Args:
        cls: The ``nn.Module`` class. Its constructor starts with ``c1, c2`` (a convolution) or
            ``c`` (a block that keeps the shape); everything after that needs a default, or a value
            in the row's mapping.
        name: Name in YAML rows; the class name when left out.
        role: One of ``conv``, ``down``, ``gate``, ``widen``, ``backbone``, ``classifier``; read off
            the signature when left out.
        aliases: Other names in YAML rows.
        paper: arXiv number or link, shown by ``yolograft list``.

    Returns:
        ``cls``, so that the function also serves as a decorator.

    Raises:
        ConfigError: If the name is taken, the signature fits no role, or the module owns one of the
            attributes ``i``, ``f``, ``type``, ``np`` that Ultralytics sets on every layer.
    """
    from torch import nn

    name = name or getattr(cls, "__name__", str(cls))
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        refuse(f"{name}: {cls!r} is not a subclass of torch.nn.Module")
    role = role or _role(cls, name)
    _check_signature(cls, name, role)
    for label in (name, *aliases):
        _check_free(label, name, cls)
    check_attributes(_trial(cls, role), name)
    _forget(name)
    _blocks[name] = Block(name, f"{cls.__module__}:{cls.__qualname__}", role, paper, tuple(aliases))
    _names.update(dict.fromkeys((name, *aliases), name))
    _classes[name] = cls
    allow_safe_load(cls)
    return cls


def check_attributes(module: object, name: str) -> None:
    """Refuse a module that owns an attribute which Ultralytics sets on every layer.

    Args:
        module: The built block, or ``None`` when it could not be built.
        name: Name of the block, for the message.

    Raises:
        ConfigError: If the module owns ``i``, ``f``, ``type`` or ``np``.
    """
    if module is None:
        return
    own = {*vars(module), *module._modules, *module._parameters, *module._buffers}
    taken = own.intersection(RESERVED)
    if taken:
        refuse(
            f"{name}: self.{min(taken)} is an attribute that Ultralytics sets on every layer",
            "rename it; i, f, type and np are reserved",
        )


def allow_safe_load(cls: type) -> None:
    """Let ``torch.load(weights_only=True)`` rebuild the modules of the file that holds ``cls``.

    ``ULTRALYTICS_SAFE_LOAD=1`` reads checkpoints that way.

    Args:
        cls: A block.
    """
    import torch

    modules = [
        obj
        for obj in vars(sys.modules[cls.__module__]).values()
        if isinstance(obj, type)
        and issubclass(obj, torch.nn.Module)
        and obj.__module__ == cls.__module__
    ]
    torch.serialization.add_safe_globals([*modules, cls])


def _role(cls: type, name: str) -> str:
    first = parameters(cls)[:2]
    if first == ["c1", "c2"]:
        return "conv"
    if first[:1] == ["c"]:
        return "gate"
    refuse(
        f"{name}: the signature {name}{inspect.signature(cls)} fits no role",
        "start it with (c1, c2, ...) for a convolution or (c, ...) for a block that keeps the "
        "shape, or name the role",
    )


def _check_signature(cls: type, name: str, role: str) -> None:
    if role not in ROLES:
        refuse(f"{name}: role={role!r} is unknown", f"use one of {', '.join(ROLES)}")
    want = ROLES[role]
    if tuple(parameters(cls)[: len(want)]) != want:
        refuse(
            f"{name}: the signature {name}{inspect.signature(cls)} does not fit role={role!r}",
            f"start it with ({', '.join([*want, '...'])})",
        )
    if "blend" in parameters(cls):
        refuse(f"{name}: an argument is named blend", "rename it; rows use the word themselves")


def _check_free(label: str, name: str, cls: type) -> None:
    block = find(label)
    if block is not None:
        # A notebook cell that is run again defines the same class anew: that is no clash.
        if block.name == name and block.path == f"{cls.__module__}:{cls.__qualname__}":
            return
        refuse(
            f"{label}: the name is taken by {block.path.replace(':', '.')}", "choose another name"
        )
    if label.partition("_")[0] in HOSTS and "_" in label:
        refuse(
            f"{label}: the name reads as a block inside {label.partition('_')[0]}",
            "choose a name without that prefix",
        )
    tasks = importlib.import_module("ultralytics.nn.tasks")
    if hasattr(tasks, label):
        refuse(f"{label}: the name is taken by Ultralytics", "choose another name")


def _trial(cls: type, role: str) -> object | None:
    try:
        return cls(*[64] * len(ROLES[role]))
    except Exception:  # needs arguments or other widths: the parser checks what it builds
        return None


def _forget(name: str) -> None:
    for label in [label for label, owner in _names.items() if owner == name]:
        del _names[label]


def _load_entry_points() -> None:
    global _entry_points_read
    if _entry_points_read:
        return
    _entry_points_read = True  # first: register() asks for names, which leads here again
    from importlib.metadata import entry_points

    for point in entry_points(group="yolograft.blocks"):
        try:
            register(point.load(), point.name)
        except Exception as error:
            import warnings

            warnings.warn(
                f"yolograft: entry point {point.name} = {point.value} was left out: {error}",
                stacklevel=2,
            )
