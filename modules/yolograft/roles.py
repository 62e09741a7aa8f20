"""What a block does to channels and size: one class per role.

Whoever handles a block asks its role: the registry, how the constructor starts; the parser, which
stock row stands in for a row of the block and with which widths the block is built; recipes, what
may be done with it; the check of other people's blocks, what shape comes out. A new role is a class
here, an entry of :data:`ROLES`, and a test.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from yolograft.errors import refuse

if TYPE_CHECKING:
    from torch import nn

#: Ultralytics sets these on every layer of a model, so a block cannot own them.
RESERVED = ("i", "f", "type", "np")

#: A stand-in that returns its map unchanged, and learns its width: the loop of Ultralytics' parser
#: replaces a string that names one of its variables (as `nc` in the row of a head), and ``ch``
#: lists the widths so far.
UNCHANGED = ["Concat", ["ch"]]


@dataclass
class BlockRow:
    """One row of a block, read and checked.

    Attributes:
        where: File, row and section, for messages.
        label: The module name, as the row has it.
        index: Number of the row.
        source: What it reads, as the row has it.
        sources: The same as a list.
        repeats: How often the block is repeated.
        positional: Arguments without a name. Inside a stage they are the stage's own.
        named: The block's arguments with a name.
        stage: The stage that the block stands in, or ``""``.
        blend: What ``blend:`` says: false, true, or module and arguments of the layer before.
        config: The model config.
    """

    where: str
    label: str
    index: int
    source: int | list[int]
    sources: list[int]
    repeats: int
    positional: list[Any]
    named: dict[str, Any]
    stage: str
    blend: bool | list[Any]
    config: dict[str, Any]

    @property
    def unscaled(self) -> bool:
        """Return whether the model's scale multiplies widths by 1."""
        raise NotImplementedError

    def refuse(self, fact: str, hint: str = "") -> None:
        """Raise a :class:`ConfigError` about this row."""
        refuse(f"{self.where}: {self.label}: {fact}", hint)


@dataclass(frozen=True)
class Promise:
    """The shape that a role promises: in words, channels, and height and width where it says."""

    text: str
    channels: int
    size: tuple[int, int] | None


@dataclass(frozen=True)
class Widths:
    """What the arguments of a constructor are called that may take widths; empty where none may.

    Attributes:
        entering: The width that comes in, under a name of its own (``c1``, ``in_channels``).
        leaving: The width that goes out (``c2``, ``out_channels``).
        same: A width that stays (``c``, ``channels``, ``dim``).
        classes: The number of classes.
        required: The arguments without a default.
    """

    entering: str = ""
    leaving: str = ""
    same: str = ""
    classes: str = ""
    required: tuple[str, ...] = ()

    @property
    def first(self) -> str:
        """Return the argument that takes the width that comes in."""
        return self.entering or self.same

    @property
    def last(self) -> str:
        """Return the one for the width that goes out; of ``(inplanes, planes)``, the second."""
        second = self.entering and self.same in self.required and self.same
        return self.leaving or second or ""


def take_place(new: nn.Module, old: nn.Module) -> None:
    """Give a module what Ultralytics has set on the one in whose place it is put.

    Args:
        new: The module that is put there.
        old: The one that was there; if it is no layer of a model, nothing was set on it.
    """
    for name in RESERVED:
        if name in vars(old):
            setattr(new, name, vars(old)[name])


class Role:
    """What a block does to channels and size.

    Attributes:
        name: Its name, in ``register(role=...)`` and ``yolograft list``.
        about: One line.
        prefix: How the constructor starts.
        actions: What a recipe may do with such a block.
        inside: What the block does inside a stage: ``replace`` the second 3x3 convolution of each
            bottleneck, ``follow`` it, or ``""`` if it cannot stand there.
        can_blend: Whether a residual gate may lead from the layer before to the block.
        takes_width: Whether a row has to give the width that goes out.
        keeps_shape: Whether the map keeps its channels and its size.
        halves: Whether the map is half the size afterwards, whatever the arguments.
        reads_many: Whether a row may read several rows.
        one_map: Whether one map comes out.
        several_maps: Whether a list of maps comes out, whose widths are in ``out_channels``.
        takes_classes: Whether a row has to give the number of classes, and nothing else.
        once: Why a row cannot repeat the block, and what to do instead.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    prefix: ClassVar[tuple[str, ...]] = ()
    actions: ClassVar[tuple[str, ...]] = ()
    inside: ClassVar[str] = ""
    can_blend: ClassVar[bool] = False
    takes_width: ClassVar[bool] = False
    keeps_shape: ClassVar[bool] = False
    halves: ClassVar[bool] = False
    reads_many: ClassVar[bool] = False
    one_map: ClassVar[bool] = True
    several_maps: ClassVar[bool] = False
    takes_classes: ClassVar[bool] = False
    once: ClassVar[tuple[str, str]] = ("", "")

    def __str__(self):
        return self.name

    # -------------------------------------------------------------------------------- constructor

    def widths(self, found: Widths) -> tuple[str, ...] | None:
        """Return the arguments that take the widths of this role, ``None`` if some are missing.

        Args:
            found: What the constructor's arguments are called.
        """
        names = (found.first, found.last)[: len(self.prefix)]
        return names if all(names) and len({*names}) == len(names) else None

    def spread(self, channels: tuple, names: tuple[str, ...]) -> tuple:
        """Return a width for each of the arguments that take one."""
        return channels

    # ---------------------------------------------------------------------------------------- rows

    def positional(self, names: tuple[str, ...], others: list[str]) -> tuple[str, ...]:
        """Return the arguments that a row may give without a name.

        Args:
            names: Those that take widths.
            others: All others.
        """
        return ()

    def check_row(self, row: BlockRow) -> None:
        """Refuse arguments of a row that no block of this role can have."""

    def stand_in(self, row: BlockRow) -> list:
        """Return the stock row that treats channels as the block does."""
        raise NotImplementedError

    def channels(self, row: BlockRow, unit: nn.Module) -> tuple:
        """Return the widths that the block is built with.

        Args:
            row: The row.
            unit: What the stock parser built from its stand-in; of several repeats, the first.
        """
        raise NotImplementedError

    def repeated(self, channels: tuple) -> tuple:
        """Return the widths of all repeats but the first."""
        return channels

    def promise(self, channels: tuple, size: tuple[int, int]) -> Promise | None:
        """Return the shape that comes out of the block.

        Args:
            channels: The widths that it was built with.
            size: Height and width of the map that it reads, which has the first of the channels.

        Returns:
            The shape, or ``None`` where none is promised.
        """
        return None


class Attention(Role):
    """Keeps channels and size: attention, pooling with a shortcut, a spatial transformer."""

    name = "attention"
    about = "keeps channels and size"
    prefix = ("c",)
    actions = ("insert", "replace", "swap")
    inside = "follow"
    can_blend = True
    keeps_shape = True

    def widths(self, found: Widths) -> tuple[str, ...] | None:
        """Return one argument, or two where the constructor asks for its width twice."""
        first, last = found.first, found.last
        names = (first, last) if last and last != first else (first,)
        return names if first else None

    def spread(self, channels: tuple, names: tuple[str, ...]) -> tuple:
        """Return the one width as often as it is asked for."""
        return channels * len(names)

    def stand_in(self, row: BlockRow) -> list:
        """Return a row that changes nothing."""
        return [row.sources, row.repeats, *deepcopy(UNCHANGED)]

    def channels(self, row: BlockRow, unit: nn.Module) -> tuple:
        """Return the width of the map that is read."""
        return tuple(_widths_read(row, unit))

    def promise(self, channels: tuple, size: tuple[int, int]) -> Promise:
        """Return the shape that is read."""
        return Promise("keeps the shape", channels[0], size)


class Conv(Role):
    """Takes ``c1`` channels to ``c2``, as a convolution does; a stride is its own argument."""

    name = "conv"
    about = "takes c1 channels to c2"
    prefix = ("c1", "c2")
    actions = ("insert", "replace", "swap")
    inside = "replace"
    can_blend = True
    takes_width = True

    def positional(self, names: tuple[str, ...], others: list[str]) -> tuple[str, ...]:
        """Return the width that goes out, then kernel and stride where they come first."""
        first = others[:2] in (["k", "s"], ["kernel_size", "stride"])
        return ("c2", *others[:2]) if first else ("c2",)

    def check_row(self, row: BlockRow) -> None:
        """Refuse a row without the width that goes out."""
        if not row.positional:
            row.refuse("the output channels are missing", f"write {row.label}, [256]")

    def stand_in(self, row: BlockRow) -> list:
        """Return a convolution of the same width."""
        return [row.source, row.repeats, "Conv", [row.positional[0], 1]]

    def channels(self, row: BlockRow, unit: nn.Module) -> tuple:
        """Return the widths of the stand-in."""
        return unit.conv.in_channels, unit.conv.out_channels

    def repeated(self, channels: tuple) -> tuple:
        """Return the width that goes out, twice."""
        return channels[-1], channels[-1]

    def promise(self, channels: tuple, size: tuple[int, int]) -> Promise:
        """Return the width that goes out; the size is the block's own affair."""
        return Promise(f"returns {channels[-1]} channels", channels[-1], None)


def _half(promise: Promise, size: tuple[int, int]) -> Promise:
    """Return a promise of half the size, where the size is even: odd ones may round either way."""
    height, width = size
    if height % 2 or width % 2:
        return promise
    return Promise(f"{promise.text} at half the size", promise.channels, (height // 2, width // 2))


class Down(Conv):
    """Takes ``c1`` channels to ``c2`` and halves the map."""

    name = "down"
    about = "takes c1 channels to c2 at half the size"
    actions = ("replace",)
    inside = ""
    halves = True
    once = (
        "the block changes the size of the map",
        "use 1, and one row for each further block",
    )

    def promise(self, channels: tuple, size: tuple[int, int]) -> Promise:
        """Return the width that goes out, at half the size."""
        return _half(super().promise(channels, size), size)


class Widen(Role):
    """Takes ``c`` channels to ``4c`` and halves the map: space-to-depth."""

    name = "widen"
    about = "takes c channels to 4c at half the size"
    halves = True
    once = Down.once

    def stand_in(self, row: BlockRow) -> list:
        """Return the map four times over."""
        return [row.sources * 4, 1, "Concat", [1]]

    def channels(self, row: BlockRow, unit: nn.Module) -> tuple:
        """Return none: the block needs no width."""
        return ()

    def promise(self, channels: tuple, size: tuple[int, int]) -> Promise:
        """Return four times the width that is read, at half the size."""
        width = 4 * (channels[0] if channels else 8)
        return _half(Promise(f"returns {width} channels", width, None), size)


class Backbone(Role):
    """Returns a list of maps, which ``Index`` rows read; ``out_channels`` has their widths."""

    name = "backbone"
    about = "returns several maps, read by Index rows"
    prefix = ("c1",)
    one_map = False
    several_maps = True
    once = Down.once

    def positional(self, names: tuple[str, ...], others: list[str]) -> tuple[str, ...]:
        """Return the block's own width, its second argument."""
        return names[1:]

    def stand_in(self, row: BlockRow) -> list:
        """Return a convolution of the block's own width, so that the width is scaled."""
        return [row.source, 1, "Conv", [row.positional[0] if row.positional else 8, 1]]

    def channels(self, row: BlockRow, unit: nn.Module) -> tuple:
        """Return the width that is read, and the block's own where the row gives it."""
        width = unit.conv.out_channels
        own = [min(width, w) if row.unscaled else width for w in row.positional]
        return (unit.conv.in_channels, *own)


class Classifier(Role):
    """Ends a classification net: reads one map or several, returns a score per class."""

    name = "classifier"
    about = "ends a classification net; reads one map or several"
    prefix = ("c1", "c2")
    reads_many = True
    takes_classes = True
    one_map = False
    once = ("a model has one classifier", "use 1")

    def widths(self, found: Widths) -> tuple[str, ...] | None:
        """Return the arguments for the width, or the widths, and the number of classes."""
        names = (found.first, found.classes)
        return names if all(names) and names[0] != names[1] else None

    def check_row(self, row: BlockRow) -> None:
        """Refuse anything but the number of classes."""
        if row.positional != ["nc"]:
            row.refuse(
                f"the arguments {row.positional!r} are not the number of classes",
                f"write {row.label}, [nc]",
            )

    def stand_in(self, row: BlockRow) -> list:
        """Return a row that changes nothing: a stock classifier would add a convolution."""
        return [row.sources, 1, *deepcopy(UNCHANGED)]

    def channels(self, row: BlockRow, unit: nn.Module) -> tuple:
        """Return the width of the map, or a list of them, and the number of classes."""
        widths = _widths_read(row, unit)
        return (widths if isinstance(row.source, list) else widths[0], row.config.get("nc"))


def _widths_read(row: BlockRow, stand_in: nn.Module) -> list[int]:
    """Return the channels of the rows that a stand-in has read."""
    widths = stand_in.d  # of all rows, as Ultralytics' loop left it; of the image for row 0
    return [widths[s % row.index if row.index else 0] for s in row.sources]


#: Every role by its name. Later ones (upsample, fusion, stage, pyramid) get their place here.
ROLES: dict[str, Role] = {
    role.name: role for role in (Conv(), Down(), Attention(), Widen(), Backbone(), Classifier())
}

#: Names of 0.1.0.
_RENAMED = {"gate": "attention"}


def named(name: str, block: str) -> Role:
    """Return the role of a name.

    Args:
        name: One of :data:`ROLES`, or its name in 0.1.0.
        block: Who asks, for the message.

    Raises:
        ConfigError: If there is no such role.
    """
    role = ROLES.get(_RENAMED.get(name, name))
    if role is None:
        refuse(f"{block}: role={name!r} is unknown", f"use one of {', '.join(ROLES)}")
    return role
