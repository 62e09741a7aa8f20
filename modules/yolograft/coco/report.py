"""Count what was wrong with a data set, and say it once."""

from __future__ import annotations

from collections.abc import Iterable

#: Examples that are told of each kind of trouble.
EXAMPLES = 3


class Report:
    """Kinds of trouble, each with a count and its first examples.

    Attributes:
        dropped: Annotations that are not used: reason -> ``[count, examples]``.
        images: Images that are not used, and their count.
        notes: What was changed or is odd, with everything kept.
    """

    def __init__(self, content: dict | None = None):
        content = content or {}
        self.dropped: dict[str, list] = content.get("dropped", {})
        self.images: dict[str, list] = content.get("images", {})
        self.notes: dict[str, list] = content.get("notes", {})

    def add(self, group: str, reason: str, where: Iterable[str], count: int | None = None) -> None:
        """Count one kind of trouble.

        Args:
            group: ``"dropped"``, ``"images"`` or ``"notes"``.
            reason: What is wrong, in the plural.
            where: File and id of each, or of the first few.
            count: How many; the length of ``where`` when left out.
        """
        where = list(where)
        count = len(where) if count is None else count
        if not count:
            return
        entry = getattr(self, group).setdefault(reason, [0, []])
        entry[0] += count
        entry[1] += where[: EXAMPLES - len(entry[1])]

    def merge(self, other: Report, file: str = "") -> None:
        """Add the counts of another report.

        Args:
            other: A report.
            file: Name of the file that its examples are of, where they do not name it.
        """
        for group in ("dropped", "images", "notes"):
            for reason, (count, where) in getattr(other, group).items():
                where = [f"{file}, {one}" for one in where] if file else where
                self.add(group, reason, where, count)

    def content(self) -> dict:
        """Return plain data, from which an equal report can be made."""
        return {"dropped": self.dropped, "images": self.images, "notes": self.notes}

    def count(self, group: str) -> int:
        """Return how many there are of a group.

        Args:
            group: ``"dropped"``, ``"images"`` or ``"notes"``.
        """
        return sum(count for count, _ in getattr(self, group).values())

    def __bool__(self) -> bool:
        return bool(self.dropped or self.images or self.notes)

    def __str__(self) -> str:
        lines = []
        for group, title in (
            ("images", "images left out"),
            ("dropped", "annotations dropped"),
            ("notes", "kept, but look at them"),
        ):
            kinds = getattr(self, group)
            if kinds:
                lines.append(f"  {title}: {self.count(group)}")
            for reason, (count, where) in kinds.items():
                more = ", ..." if count > len(where) else ""
                lines.append(f"    {count} x {reason}: {'; '.join(where)}{more}")
        return "\n".join(lines)
