"""The key ``graft`` of a config: what was grafted into which base, and where each row came from.

::

    graft:
      base: yolo11.yaml
      recipe: [cbam]
      rows: [0, 1, 2, after 2, 3, in 4, for 5]
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from yolograft.config import rows, scale

#: How a row is related to a row of the base.
KEPT, AFTER, FOR, IN = "kept", "after", "for", "in"


@dataclass(frozen=True)
class Origin:
    """Where a row of a grafted config came from.

    Attributes:
        row: A row of the base.
        relation: ``kept``: it is that row; ``after``: it was inserted behind it; ``for``: it took
            its place; ``in``: it is that stage with a block inside.
    """

    row: int
    relation: str = KEPT

    def __str__(self):
        return str(self.row) if self.relation == KEPT else f"{self.relation} {self.row}"

    @property
    def inserted(self) -> bool:
        """Tell whether the row is not one of the base in any form."""
        return self.relation == AFTER

    @staticmethod
    def parse(value: object) -> Origin | None:
        """Return the origin that a record writes as a number or as words, or ``None``.

        Args:
            value: ``3``, ``after 3``, ``for 3`` or ``in 3``.
        """
        match = re.fullmatch(rf"(?:({AFTER}|{FOR}|{IN}) )?(\d+)", str(value))
        return Origin(int(match[2]), match[1] or KEPT) if match else None

    def within(self, base: Origin) -> Origin:
        """Return the origin in the first base of a row that was grafted twice.

        Args:
            base: The origin of this row's own base row.
        """
        if self.relation == AFTER:
            return Origin(base.row, AFTER)
        if self.relation == KEPT or base.relation != KEPT:
            return base
        return Origin(base.row, self.relation)


@dataclass(frozen=True)
class Record:
    """What a config says about how it was made.

    Attributes:
        base: File of the base, without the scale letter.
        recipes: Names of the recipes.
        origins: One for each row.
    """

    base: str
    recipes: list[str]
    origins: list[Origin]

    def content(self) -> dict[str, Any]:
        """Return what the key ``graft`` holds."""
        texts = [o.row if o.relation == KEPT else str(o) for o in self.origins]
        return {"base": self.base, "recipe": self.recipes, "rows": texts}


def read(config: dict[str, Any] | None) -> Record | None:
    """Return the record of a config.

    Args:
        config: What a model YAML holds, or the ``yaml`` of a model.

    Returns:
        The record; ``None`` where there is none, or where it does not fit the rows: the rows or
        the record were edited since.
    """
    held = (config or {}).get("graft")
    texts = held.get("rows") if isinstance(held, dict) else None
    if not isinstance(texts, list) or len(texts) != len(rows.raw(config)):
        return None
    origins = [Origin.parse(text) for text in texts]
    stayed = [one.row for one in origins if one and not one.inserted]
    if None in origins or stayed != sorted({*stayed}):
        return None
    recipes = held.get("recipe") or []
    recipes = recipes if isinstance(recipes, list) else [str(recipes)]  # a user may write one name
    return Record(str(held.get("base") or ""), recipes, origins)


def grafted(config: dict[str, Any], names: list[str], origins: list[Origin]) -> Record:
    """Return the record of a config after a graft.

    Args:
        config: The config before.
        names: Names of the recipes.
        origins: One for each new row, with rows of the config before.
    """
    before = read(config)
    if before is None:
        return Record(scale.file_name(config), names, origins)
    origins = [one.within(before.origins[one.row]) for one in origins]
    return Record(before.base, [*before.recipes, *names], origins)
