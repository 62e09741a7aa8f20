"""The table of blocks, and ``register()`` for other people's blocks."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from yolograft.errors import nearest, refuse

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

#: What other people's constructors call the width that comes in, the one that goes out, the one
#: that stays, and the number of classes; small letters, underscores left out.
_CH = "(?:c|ch|chs|chn|chans?|channels?|planes?|dims?|feats?|features?|filters?|nc)"
_WIDTHS = {
    "in": rf"c1|inp|inputs?|nin|in(?:put)?{_CH}|{_CH}in(?:put)?",
    "out": rf"c2|oup|ouc|outp?|outputs?|nout|out(?:put)?{_CH}|{_CH}out(?:put)?",
    "same": rf"(?:n|num|gate|embed|model)?{_CH}|{_CH}num|dmodel|nf",
    "classes": "c2|nc|(?:n|num)?class(?:es)?|out(?:put)?(?:features|channels|dim)",
}
#: What is certainly no width, so that the only argument without a default is not taken for one.
_SETTING = r"kernel|size|stride|pad|dilat|group|head|ratio|reduc|act|norm|drop|depth|\b[ksdgp]\b"

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


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
#: Held while the tables change, never while code of others runs.
_tables = threading.Lock()


def table() -> Iterator[Block]:
    """Yield every block, the pack's first, then registered ones and those of entry points."""
    _entry_points.read()
    yield from list(_blocks.values())


def find(name: str) -> Block | None:
    """Return the block of a name or alias, or ``None``."""
    if name not in _names:
        _entry_points.read()
    return _blocks.get(_names.get(name, ""))


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
    _entry_points.read()
    return list(_names)


def registered() -> dict[type, Block]:
    """Return the blocks of others, by class."""
    _entry_points.read()
    return {cls: _blocks[name] for name, cls in list(_classes.items())}


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
    return [p.name for p in _signature(cls) if p.kind not in _VARIADIC]


def takes_any(cls: type) -> bool:
    """Tell whether a constructor takes arguments of any name (``**kwargs``).

    Args:
        cls: A block.
    """
    return any(p.kind is p.VAR_KEYWORD for p in _signature(cls))


def widths(cls: type, role: str) -> tuple[str, ...] | None:
    """Return the arguments of a constructor that take the widths of its role.

    A backbone's second argument, its own width, is counted in; a gate may take its width twice, or
    not at all.

    Args:
        cls: A block.
        role: One of :data:`ROLES`.

    Returns:
        The names in the order of the role, or ``None`` if they fit no role's.
    """
    names = _by_name(cls, role)
    required = _required(cls)
    if names is None:
        variadic = [p for p in _signature(cls) if p.kind in _VARIADIC]
        if not _by_name(cls, "gate") and len(required) == len(ROLES[role]):
            names = None if re.search(_SETTING, " ".join(required).lower()) else tuple(required)
        elif role == "gate" and not required and not variadic:
            names = ()
    if names and role == "backbone":
        names += tuple(n for n in parameters(cls) if n not in names)[:1]
    return names


def _by_name(cls: type, role: str) -> tuple[str, ...] | None:
    """Return the arguments that take the widths, as far as their names say so."""
    found = {
        kind: next(
            (n for n in parameters(cls) if re.fullmatch(words, n.lower().replace("_", ""))), None
        )
        for kind, words in _WIDTHS.items()
    }
    first = found["in"] or found["same"]
    last = found["classes" if role == "classifier" else "out"]
    if role != "classifier" and found["in"] and found["same"] in _required(cls):
        last = last or found["same"]  # (inplanes, planes)
    if role == "gate":
        names = (first, last or first)[: 1 + (last is not None)]
    else:
        names = (first, last)[: len(ROLES[role])]
    return None if None in names or len({*names}) < len(names) else names


def build(cls: type, role: str, channels: tuple, named: dict[str, Any]) -> Any:
    """Build a block from its widths and its other arguments.

    Args:
        cls: A block.
        role: What the block does to channels and size.
        channels: The widths, in the order of the role.
        named: The other arguments.
    """
    names = widths(cls, role)
    if names is None:  # (*args, **kwargs)
        return cls(*channels, **named)
    channels = channels * len(names) if role == "gate" else channels
    first = [p.name for p in _signature(cls) if p.kind is not p.KEYWORD_ONLY][: len(channels)]
    if list(names[: len(channels)]) == first:
        return cls(*channels, **named)
    return cls(**dict(zip(names, channels, strict=False)), **named)


def register(
    cls: type | None = None,
    name: str | None = None,
    *,
    role: str | None = None,
    aliases: tuple[str, ...] = (),
    paper: str = "",
) -> Any:
    """Add your own module to the table, so that YAML rows can name it.

    It is also a decorator, with arguments or without::

        @register(role="gate", aliases=("G",))
        class Gain(nn.Module): ...

    Args:
        cls: The ``nn.Module`` class. Its constructor takes the widths as ``c1, c2`` (a convolution)
            or ``c`` (a block that keeps the shape), or under another common name: ``in_channels``
            and ``out_channels``, ``inp`` and ``oup``, ``channels``, ``dim`` and the like; a block
            that keeps the shape may call its only required argument what it likes. Everything
            else needs a default, or a value in the row's mapping.
        name: Name in YAML rows; the class name when left out.
        role: One of ``conv``, ``down``, ``gate``, ``widen``, ``backbone``, ``classifier``; read off
            the signature when left out.
        aliases: Other names in YAML rows.
        paper: arXiv number or link, shown by ``yolograft list``.

    Returns:
        ``cls``; without it, a decorator that takes it.

    Raises:
        ConfigError: If the name is taken, the signature fits no role, or the module owns one of the
            attributes ``i``, ``f``, ``type``, ``np`` that Ultralytics sets on every layer.
    """
    if cls is None:
        return functools.partial(register, name=name, role=role, aliases=aliases, paper=paper)
    from torch import nn

    name = name or getattr(cls, "__name__", str(cls))
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        refuse(f"{name}: {cls!r} is not a subclass of torch.nn.Module")
    aliases = (aliases,) if isinstance(aliases, str) else tuple(aliases)
    role = role or _role(cls, name)
    _check_signature(cls, name, role)
    check_attributes(trial(cls, role), name)
    tasks = importlib.import_module("ultralytics.nn.tasks")
    with _tables:
        for label in (name, *aliases):
            _check_free(label, name, cls, tasks)
        _add(Block(name, _path(cls), role, paper, aliases), cls)
    return cls


def trial(cls: type, role: str) -> Any | None:
    """Return a small block of a class, or ``None`` if it needs arguments or other widths.

    Args:
        cls: A block.
        role: What the block does to channels and size.
    """
    try:
        with undisturbed():
            return build(cls, role, (64,) * len(ROLES[role]), {})
    except Exception:  # the parser checks what it builds
        return None


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the random state of Python, NumPy and PyTorch as it was before."""
    import random

    import numpy as np
    import torch

    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(list(devices)):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


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


def _signature(cls: type) -> list[inspect.Parameter]:
    from torch import nn

    if cls.__init__ is nn.Module.__init__:  # (*args, **kwargs), but it refuses any
        return []
    return list(inspect.signature(cls).parameters.values())


def _required(cls: type) -> list[str]:
    return [p.name for p in _signature(cls) if p.default is p.empty and p.kind not in _VARIADIC]


def _path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _role(cls: type, name: str) -> str:
    if _by_name(cls, "conv"):
        return "conv"
    if widths(cls, "gate"):
        return "gate"
    refuse(
        f"{name}: the signature {name}{inspect.signature(cls)} fits no role",
        "start it with (c1, c2, ...) for a convolution or (c, ...) for a block that keeps the "
        "shape, or name the role",
    )


def _check_signature(cls: type, name: str, role: str) -> None:
    if role not in ROLES:
        refuse(f"{name}: role={role!r} is unknown", f"use one of {', '.join(ROLES)}")
    passes_on = any(p.kind is p.VAR_POSITIONAL for p in _signature(cls))
    if widths(cls, role) is None and not passes_on:
        want = ", ".join(ROLES[role])
        refuse(
            f"{name}: the signature {name}{inspect.signature(cls)} does not fit role={role!r}",
            f"start it with ({want}, ...), or register a subclass whose constructor takes {want} "
            "and calls this one",
        )
    if "blend" in parameters(cls):
        refuse(f"{name}: an argument is named blend", "rename it; rows use the word themselves")


def _check_free(label: str, name: str, cls: type, tasks: Any) -> None:
    block = _blocks.get(_names.get(label, ""))
    if block is not None:
        # A notebook cell that is run again defines the same class anew: that is no clash.
        if block.name == name and block.path == _path(cls):
            return
        refuse(
            f"{label}: the name is taken by {block.path.replace(':', '.')}", "choose another name"
        )
    if label.partition("_")[0] in HOSTS and "_" in label:
        refuse(
            f"{label}: the name reads as a block inside {label.partition('_')[0]}",
            "choose a name without that prefix",
        )
    if hasattr(tasks, label):
        refuse(f"{label}: the name is taken by Ultralytics", "choose another name")


def _add(block: Block, cls: type) -> None:
    """Enter a block; at no moment does another thread miss a name that stays."""
    labels = (block.name, *block.aliases)
    _blocks[block.name], _classes[block.name] = block, cls
    _names.update(dict.fromkeys(labels, block.name))
    _forget(block.name, labels)


def _forget(name: str, kept: tuple[str, ...] = ()) -> None:
    for label, owner in list(_names.items()):
        if owner == name and label not in kept:
            del _names[label]


class _EntryPoints:
    """The blocks that installed packages offer, read once and completely.

    Other threads wait until all are read. The thread that reads them may come back here, through
    code of the packages, and then sees what is registered so far.
    """

    def __init__(self):
        self._lock = threading.RLock()
        self._read = self._reading = False

    def read(self) -> None:
        """Register the blocks of all entry points, unless that is done."""
        if self._read:
            return
        with self._lock:
            if self._read or self._reading:
                return
            self._reading = True
            try:
                with undisturbed():
                    self._register()
                self._read = True
            finally:
                self._reading = False

    @staticmethod
    def _register() -> None:
        from importlib.metadata import entry_points

        for point in entry_points(group="yolograft.blocks"):
            try:
                _register_point(point.name, point.load())
            except Exception as error:
                import warnings

                warnings.warn(
                    f"yolograft: entry point {point.name} = {point.value} was left out: {error}",
                    stacklevel=4,
                )


_entry_points = _EntryPoints()


def _register_point(name: str, found: Any) -> None:
    """Register what an entry point names: a class, or a function that registers some."""
    if not isinstance(found, type):
        if not callable(found):
            refuse(f"{found!r} is neither a class nor a function", "name one of them")
        found()
        return
    own = next((_blocks[n] for n, cls in list(_classes.items()) if cls is found), None)
    if own is None:
        register(found, name)
    elif name not in (own.name, *own.aliases):  # its module has registered it under another name
        tasks = importlib.import_module("ultralytics.nn.tasks")
        with _tables:
            _check_free(name, own.name, found, tasks)
            _add(replace(own, aliases=(*own.aliases, name)), found)
