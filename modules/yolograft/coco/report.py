"""Count the issues of a data set, and report each kind once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

#: Examples that are shown of each kind of issue.
EXAMPLES = 3

_TITLES = {
    "images": "images left out",
    "dropped": "annotations dropped",
    "notes": "kept, but check them",
}


@dataclass
class Report:
    """Kinds of issues, each with a count and its first examples: reason -> ``[count, examples]``.

    Attributes:
        dropped: Annotations that are not used.
        images: Images that are not used.
        notes: What was changed or is odd, with everything kept.
    """

    dropped: dict[str, list] = field(default_factory=dict)
    images: dict[str, list] = field(default_factory=dict)
    notes: dict[str, list] = field(default_factory=dict)

    def add(self, group: str, reason: str, where: Iterable[str], count: int | None = None) -> None:
        """Count one kind of issue.

        Args:
            group: ``"dropped"``, ``"images"`` or ``"notes"``.
            reason: What is wrong, in the plural.
            where: File and id of each, or of the first few.
            count: How many; the length of ``where`` when left out.
        """
        where = list(where)
        count = len(where) if count is None else count
        if count:
            entry = getattr(self, group).setdefault(reason, [0, []])
            entry[0] += count
            entry[1] += where[: EXAMPLES - len(entry[1])]

    def merge(self, other: Report, file: str = "") -> None:
        """Add the counts of another report.

        Args:
            other: A report.
            file: Name of the file that its examples are of, where they do not name it.
        """
        for group, kinds in other.content().items():
            for reason, (count, where) in kinds.items():
                self.add(group, reason, [f"{file}, {one}" if file else one for one in where], count)

    def content(self) -> dict[str, dict[str, list]]:
        """Return plain data, from which ``Report(**content)`` makes an equal report."""
        return dict(vars(self))

    def count(self, group: str) -> int:
        """Return how many there are of a group.

        Args:
            group: ``"dropped"``, ``"images"`` or ``"notes"``.
        """
        return sum(count for count, _ in getattr(self, group).values())

    def __bool__(self) -> bool:
        return any(self.content().values())

    def __str__(self) -> str:
        lines = []
        for group, title in _TITLES.items():
            kinds = getattr(self, group)
            lines += [f"  {title}: {self.count(group)}"] if kinds else []
            for reason, (count, where) in kinds.items():
                more = ", ..." if count > len(where) else ""
                lines.append(f"    {count} x {reason}: {'; '.join(where)}{more}")
        return "\n".join(lines)
