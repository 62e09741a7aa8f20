"""Rows of a model config: ``[from, repeats, module, arguments]``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolograft.blocks._row import Block
from yolograft.config.labels import split
from yolograft.errors import refuse

#: The keys of a config that hold rows.
PARTS = ("backbone", "head")


@dataclass(frozen=True)
class Row:
    """One row of a config.

    Attributes:
        index: Its number.
        section: ``backbone``, ``neck`` or ``head``, the last row.
        raw: The row as the config holds it.
        sources: Numbers of the rows that it reads; -1 is the image.
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


def raw(config: dict[str, Any]) -> list[Any]:
    """Return the rows of backbone and head, as a config holds them; none if there are none.

    Args:
        config: What a model YAML holds.
    """
    return [row for part in PARTS for row in config.get(part) or ()]


def with_rows(config: dict[str, Any], rows: list[Any], split_at: int) -> dict[str, Any]:
    """Return a config with other rows.

    Args:
        config: The config.
        rows: The rows.
        split_at: How many of them are the backbone.
    """
    return {**config, "backbone": rows[:split_at], "head": rows[split_at:]}


def name(config: dict[str, Any]) -> str:
    """Return what messages call a config: its file.

    Args:
        config: What a model YAML holds.
    """
    return str(config.get("yaml_file") or "model config")


def where(config: dict[str, Any], index: int, file: str = "") -> str:
    """Return file, row and section, for messages.

    Args:
        config: What a model YAML holds.
        index: Number of the row.
        file: What to call the config; its file when left out.
    """
    section = "backbone" if index < len(config["backbone"]) else "head"
    return f"{file or name(config)}, row {index} ({section})"


def channels(config: dict[str, Any]) -> int:
    """Return the image channels of a config; older releases of Ultralytics wrote another key.

    Args:
        config: What a model YAML holds, or the ``yaml`` of a model.
    """
    return config.get("channels", config.get("ch", 3))


def as_list(source: int | list[int]) -> list[int]:
    """Return what a row reads as a list.

    Args:
        source: The first part of a row.
    """
    return list(source) if isinstance(source, list | tuple) else [source]


def absolute(source: int, index: int) -> int:
    """Return the number of the row that a row reads; -1 is the image.

    Args:
        source: As the row has it: negative numbers count back.
        index: Number of the row.
    """
    return source if source >= 0 else index + source


def check_sections(config: dict[str, Any], file: str) -> None:
    """Refuse a config without rows.

    Args:
        config: What a model YAML holds.
        file: Name of the file, for the message.

    Raises:
        ConfigError: If ``backbone`` or ``head`` is missing, or not a list.
    """
    for key in PARTS:
        if not isinstance(config.get(key), list):
            refuse(
                f"{file}: the key {key!r} is missing"
                if key not in config
                else f"{file}: {key!r} is {config[key]!r}, not a list of rows",
                "a model YAML has `backbone:` and `head:`, each a list of rows",
            )


def check_shape(row: object, place: str) -> None:
    """Refuse a row that does not have its four parts.

    Args:
        row: As the config holds it.
        place: File, row and section.

    Raises:
        ConfigError: If a part is missing, or of another kind.
    """
    if not (
        isinstance(row, list | tuple)
        and len(row) == 4
        and isinstance(row[2], str)
        and isinstance(row[3], list | tuple)
    ):
        refuse(f"{place}: {row!r} is not a row", "write [from, repeats, module, arguments]")


def check_source(source: object, index: int, place: str) -> None:
    """Refuse a row that reads a row that is not there.

    Args:
        source: As the row has it.
        index: Number of the row.
        place: File, row and section; may end in the module.

    Raises:
        ConfigError: If the source is not the number of an earlier row.
    """
    if not isinstance(source, int) or isinstance(source, bool):
        refuse(f"{place}: from={source!r} is not a row number", "write -1 or the number of a row")
    if not -max(index, 1) <= source < index:
        last = f"-1, or a row from 0 to {index - 1}" if index else "-1"
        refuse(f"{place}: from={source} does not exist", f"use {last}")


def read(config: dict[str, Any], file: str = "") -> list[Row]:
    """Return the rows of a config, checked.

    Args:
        config: What a model YAML holds.
        file: What messages call it; its file when left out.

    Raises:
        ConfigError: If there are no rows, or one of them is broken.
    """
    file = file or Path(name(config)).name
    check_sections(config, file)
    all_rows, split_at = raw(config), len(config["backbone"])
    if len(all_rows) < 2:
        refuse(f"{file}: {len(all_rows)} rows are not a model", "write a backbone and a head")
    found = []
    for i, row in enumerate(all_rows):
        place = where(config, i, file)
        check_shape(row, place)
        given = as_list(row[0])
        for source in given:
            check_source(source, i, place)
        section = "head" if i == len(all_rows) - 1 else "backbone" if i < split_at else "neck"
        sources = tuple(absolute(source, i) for source in given)
        found.append(Row(i, section, list(row), sources))
    return found
