"""The table of blocks, and ``register()`` for other people's blocks."""

from __future__ import annotations

import functools
import importlib
import inspect
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from yolograft import blocks, roles, signatures, trial
from yolograft.blocks._row import Block
from yolograft.errors import nearest, refuse
from yolograft.roles import Role
from yolograft.ultra import STAGES

#: The pack's own blocks. The classifier is a class of Ultralytics, which is imported on first use.
OURS = (
    *blocks.BLOCKS,
    Block(
        "yolograft.host.classifier:Classifier",
        role="classifier",
        name="Classifier",
        paper="1908.07919",
        config="sknet50-cls.yaml",
    ),
)

_blocks: dict[str, Block] = {block.name: block for block in OURS}
_names: dict[str, str] = {n: b.name for b in OURS for n in (b.name, *b.aliases)}
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
    """Tell whether a name that Ultralytics knows means a block of ours.

    Entry points are not read for it, since none may take such a name: a stock model costs nothing.

    Args:
        name: A name that Ultralytics knows.
    """
    return name in _names


def names() -> list[str]:
    """Return every name and alias."""
    _entry_points.read()
    return list(_names)


def registered() -> dict[type, Block]:
    """Return the blocks of others, by class."""
    _entry_points.read()
    return {block.cls: block for block in list(_blocks.values()) if block not in OURS}


def of(cls: type) -> Block | None:
    """Return the block that a class is, or is derived from; entry points are not read for it.

    Args:
        cls: Class of a module.
    """
    known = {block.cls: block for block in list(_blocks.values())}
    return next((known[base] for base in cls.__mro__ if base in known), None)


def suggest(name: str, others: Iterable[str] = ()) -> str:
    """Return a hint for a name that is not a block.

    Args:
        name: What was given.
        others: Names that would have been right too.
    """
    return nearest(name, [*names(), *others]) or "`yolograft list` shows all blocks"


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

        @register(role="attention", aliases=("G",))
        class Gain(nn.Module): ...

    Args:
        cls: The ``nn.Module`` class. Its constructor takes the widths as ``c1, c2`` (a convolution)
            or ``c`` (a block that keeps the shape), or under another common name: ``in_channels``
            and ``out_channels``, ``inp`` and ``oup``, ``channels``, ``dim`` and the like; a block
            that keeps the shape may call its only required argument what it likes. Everything
            else needs a default, or a value in the row's mapping.
        name: Name in YAML rows; the class name when left out.
        role: One of ``conv``, ``down``, ``attention``, ``widen``, ``backbone``, ``classifier``, see
            :mod:`yolograft.roles`; read from the signature when left out.
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
    kind = roles.named(role, name) if role else _role(cls, name)
    _check_signature(cls, name, kind)
    trial.check_attributes(trial.small(cls, kind), name)
    tasks = importlib.import_module("ultralytics.nn.tasks")
    block = Block(cls, kind, name, paper, aliases)
    with _tables:
        for label in (name, *aliases):
            _check_free(label, block, tasks)
        _add(block)
    return cls


def _role(cls: type, name: str) -> Role:
    if roles.ROLES["conv"].widths(signatures.by_name(cls)):
        return roles.ROLES["conv"]
    if signatures.widths(cls, roles.ROLES["attention"]):
        return roles.ROLES["attention"]
    refuse(
        f"{name}: the signature {name}{inspect.signature(cls)} does not fit any role",
        "start it with (c1, c2, ...) for a convolution or (c, ...) for a block that keeps the "
        "shape, or name the role",
    )


def _check_signature(cls: type, name: str, role: Role) -> None:
    if signatures.widths(cls, role) is None and not signatures.passes_on(cls):
        want = ", ".join(role.prefix)
        refuse(
            f"{name}: the signature {name}{inspect.signature(cls)} does not fit role={role.name!r}",
            f"start it with ({want}, ...), or register a subclass whose constructor takes {want} "
            "and calls this one",
        )
    if "blend" in signatures.parameters(cls):
        refuse(f"{name}: an argument is named blend", "rename it; rows use the word themselves")


def _check_free(label: str, new: Block, tasks: Any) -> None:
    block = _blocks.get(_names.get(label, ""))
    if block is not None:
        # A notebook cell that is run again defines the same class again: that is not a clash.
        if block.name == new.name and block.path == new.path:
            return
        refuse(
            f"{label}: the name is taken by {block.path.replace(':', '.')}", "choose another name"
        )
    stage = label.partition("_")[0]
    if stage in STAGES and "_" in label:
        refuse(
            f"{label}: the name reads as a block inside {stage}",
            "choose a name without that prefix",
        )
    if hasattr(tasks, label):
        refuse(f"{label}: the name is taken by Ultralytics", "choose another name")


def _add(block: Block) -> None:
    """Enter a block; at no moment does another thread miss a name that stays."""
    labels = (block.name, *block.aliases)
    _blocks[block.name] = block
    _names.update(dict.fromkeys(labels, block.name))
    for label, owner in list(_names.items()):
        if owner == block.name and label not in labels:
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
                with trial.undisturbed():
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
    own = next((block for block in list(_blocks.values()) if block.cls is found), None)
    if own is None:
        register(found, name)
    elif name not in (own.name, *own.aliases):  # its module has registered it under another name
        tasks = importlib.import_module("ultralytics.nn.tasks")
        with _tables:
            _check_free(name, own, tasks)
            _add(replace(own, aliases=(*own.aliases, name)))
