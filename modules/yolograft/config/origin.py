"""Where each row of a grafted config came from: the record in its key ``graft``."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """Where a row of a grafted config came from.

    Attributes:
        row: A row of the base.
        relation: ``kept``: it is that row; ``after``: it was inserted behind it; ``for``: it took
            its place; ``in``: it is that stage with a block inside.
    """

    row: int
    relation: str = "kept"

    def __str__(self):
        return str(self.row) if self.relation == "kept" else f"{self.relation} {self.row}"

    @classmethod
    def parse(cls, value: int | str) -> Origin:
        """Read what a record holds of one row.

        Args:
            value: As in ``0``, ``"after 3"``, ``"for 5"``, ``"in 4"``.

        Raises:
            ValueError: If it is none of these.
        """
        found = re.fullmatch(r"(?:(after|for|in) )?(\d+)", str(value))
        if found is None:
            msg = f"{value!r} is not the origin of a row"
            raise ValueError(msg)
        return cls(int(found[2]), found[1] or "kept")


def origins(config: dict) -> list[Origin] | None:
    """Return the origin of each row of a config.

    Args:
        config: What a model YAML holds.

    Returns:
        One origin for each row; ``None`` where there is no record, it was broken by hand, or it
        does not fit the rows.
    """
    record = config.get("graft")
    rows = record.get("rows") if isinstance(record, dict) else None
    count = len(config.get("backbone") or ()) + len(config.get("head") or ())
    if not isinstance(rows, list) or len(rows) != count:
        return None
    try:
        found = [Origin.parse(row) for row in rows]
    except ValueError:
        return None
    stayed = [origin.row for origin in found if origin.relation != "after"]
    return found if stayed == sorted({*stayed}) else None
