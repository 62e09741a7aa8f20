"""New rows from old ones: every reference is renumbered, and each row's origin noted."""

from __future__ import annotations

from copy import deepcopy

from yolograft.config import origin, rows
from yolograft.config.origin import Origin
from yolograft.graft.edits import Edits
from yolograft.graft.graph import Graph


def splice(graph: Graph, edits: Edits) -> tuple[list[list], list[Origin]]:
    """Return the new rows, with every reference renumbered, and the origin of each.

    A reference that counted back from its own row still does; one that named a row still does.

    Args:
        graph: The base.
        edits: What to do.
    """
    new_rows, origins = [], []
    own: dict[int, int] = {-1: -1}  # base row -> new row
    to_all: dict[int, int] = {-1: -1}  # base row -> new row that its readers read instead
    to_next: dict[int, int] = {-1: -1}  # the same for the row right behind it
    for row in graph.rows:
        i = row.index
        if i in edits.gone:
            own[i] = to_all[i] = to_all[row.sources[0]]
            to_next[i] = to_next[row.sources[0]] if row.sources[0] == i - 1 else to_all[i]
            continue
        tail, relation = edits.become.get(i, (row.raw[1:], origin.KEPT))
        sources = []
        for written, source in zip(rows.as_list(row.raw[0]), row.sources, strict=True):
            new = (to_next if source == i - 1 else to_all)[source]
            relative = written < 0 and source != -1
            sources.append(new - len(new_rows) if relative else new)
        one = sources if isinstance(row.raw[0], list | tuple) else sources[0]
        own[i] = to_all[i] = len(new_rows)
        new_rows.append([one, *deepcopy(tail)])
        origins.append(Origin(i, relation))
        for new, rewire in sorted(edits.follow.get(i, []), key=lambda f: f[1] == "next"):
            if rewire == "all":
                to_all[i] = len(new_rows)
            new_rows.append([-1, *deepcopy(new)])
            origins.append(Origin(i, origin.AFTER))
        to_next[i] = len(new_rows) - 1
    return new_rows, origins
