"""A picture of what a graft changes: the model before and after, as an SVG.

Rows stand in their order from top to bottom, in one column for each level of the pyramid. A row and
what became of it stand at the same height, so that an inserted row leaves a gap on the left, and a
removed one on the right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from xml.sax.saxutils import escape

from yolograft.config import origin
from yolograft.config.write import flow
from yolograft.graft.graph import Graph
from yolograft.graft.make import Graft

#: What a box can be: fill, outline, and words for the legend.
KINDS = {
    "kept": ("#f1f3f5", "#868e96", "unchanged"),
    "inserted": ("#b2f2bb", "#2b8a3e", "inserted"),
    "changed": ("#ffd8a8", "#d9480f", "changed"),
    "removed": ("#ffc9c9", "#c92a2a", "removed"),
}

_FONT = 12
_CHAR = 6.9  # width of a letter, generously
_BOX, _GAP = 20, 10  # height of a box, and what is between two
_LANE = 5  # between two lines side by side
_MARGIN, _TOP, _BETWEEN = 16, 66, 44


@dataclass(frozen=True)
class Box:
    """A row: its number, place and kind; ``note`` is shown where a mouse rests on it."""

    row: int
    kind: str
    text: str
    note: str
    column: int
    x: float
    y: float
    width: float


@dataclass
class Panel:
    """One of the two models: its title, columns (level and left edge), boxes, and lines."""

    title: str
    columns: list[tuple[str, float]]
    boxes: list[Box]
    left: float
    right: float
    lines: list[list[tuple[float, float]]] = field(default_factory=list)


def svg(result: Graft) -> str:
    """Return an SVG of a model before and after.

    Args:
        result: What :func:`yolograft.graft.graft` returned.

    Raises:
        ConfigError: If the rows of the new config cannot be built.
    """
    panels = layout(result)
    width = panels[-1].right + _MARGIN
    bottom = max(box.y + _BOX for panel in panels for box in panel.boxes)
    height = bottom + 44
    kinds = [kind for kind in KINDS if any(b.kind == kind for p in panels for b in p.boxes)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" '
        f'font-family="-apple-system, Segoe UI, Helvetica, Arial, sans-serif" '
        f'font-size="{_FONT}">',
        f"<title>{escape(' and '.join(panel.title for panel in panels))}</title>",
        '<rect width="100%" height="100%" rx="8" fill="#ffffff"/>',
    ]
    for panel in panels:
        parts += _drawn(panel, bottom)
    parts += _legend(kinds, bottom + 18)
    return "\n".join([*parts, "</svg>", ""])


def _drawn(panel: Panel, bottom: float) -> list[str]:
    parts = [_text(panel.left, 26, panel.title, size=16, weight="bold")]
    for (name, x), (_, after) in pairwise([*panel.columns, ("", panel.right)]):
        parts.append(
            f'<rect x="{x - 6:g}" y="40" width="{after - x - 2:g}" height="{bottom - 32:g}" '
            'rx="6" fill="#f8f9fa"/>'
        )
        parts.append(_text(x, 56, name, fill="#495057", weight="bold"))
    for line in panel.lines:
        points = " ".join(f"{x:g},{y:g}" for x, y in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="#adb5bd"/>')
    for box in panel.boxes:
        fill, edge, _ = KINDS[box.kind]
        dashed = ' stroke-dasharray="4 3"' if box.kind == "removed" else ""
        parts.append(
            f'<g class="{box.kind}"><title>{escape(box.note)}</title>'
            f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{_BOX}" rx="4" '
            f'fill="{fill}" stroke="{edge}"{dashed}/>'
            f"{_text(box.x + 6, box.y + 14, box.text)}</g>"
        )
    return parts


def _text(x: float, y: float, text: str, size: int = _FONT, fill="#212529", weight="normal") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" '
        f'fill="{fill}">{escape(text)}</text>'
    )


def _legend(kinds: list[str], y: float) -> list[str]:
    parts, x = [], float(_MARGIN)
    for kind in kinds:
        fill, edge, words = KINDS[kind]
        parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="14" height="14" rx="3" fill="{fill}" '
            f'stroke="{edge}"/>'
        )
        parts.append(_text(x + 20, y + 11, words))
        x += 40 + _CHAR * len(words)
    return parts


# ----------------------------------------------------------------------------------------- layout


def layout(result: Graft) -> list[Panel]:
    """Return the two panels, every box and line in its place.

    Args:
        result: What :func:`yolograft.graft.graft` returned.
    """
    slots = _slots(result)
    names = " + ".join(one.name for one in result.recipes)
    changed = {"after": "inserted", "kept": "kept"}
    new = [changed.get(one.relation, "changed") for one in result.origins]
    old = {
        one.row: kind for one, kind in zip(result.origins, new, strict=True) if kind != "inserted"
    }
    kinds = [old.get(row.index, "removed") for row in result.base.rows]
    after = Graph(result.config, result.base.name)
    first = _panel(result.base, result.base.name, kinds, [a for a, _ in slots], _MARGIN)
    second = _panel(after, f"+ {names}", new, [b for _, b in slots], first.right + _BETWEEN)
    return [first, second]


def _slots(result: Graft) -> list[tuple[int | None, int | None]]:
    """Return the rows before and after that stand at the same height, from top to bottom."""
    entries = [((one.row, i), i, one) for i, one in enumerate(result.origins)]
    there = {one.row for one in result.origins if one.relation != origin.AFTER}
    gone = [((row.index, -1), row.index) for row in result.base.rows if row.index not in there]
    found = [(at, None if one.inserted else one.row, i) for at, i, one in entries]
    found += [(at, row, None) for at, row in gone]
    return [(before, after) for _, before, after in sorted(found, key=lambda one: one[0])]


def _panel(
    graph: Graph, title: str, kinds: list[str], slots: list[int | None], left: float
) -> Panel:
    strides = [graph.stride(row.index) for row in graph.rows]
    levels = sorted({stride for stride in strides if stride})
    columns = [levels.index(stride) if stride else 0 for stride in strides]
    for row in graph.rows[:-1]:  # not one map: where its first source stands
        if strides[row.index] is None and row.sources[0] >= 0:
            columns[row.index] = columns[row.sources[0]]
    texts = [f"{row.index}  {row.label}" for row in graph.rows]
    heights = {
        row: _TOP + slot * (_BOX + _GAP) for slot, row in enumerate(slots) if row is not None
    }
    head = len(graph.rows) - 1
    lanes, taken = _lanes(graph, columns)
    widths, edges, x = [], [], left + 6
    for column in range(len(levels)):
        inside = [len(texts[i]) for i in range(head) if columns[i] == column]
        widths.append(max(12 + _CHAR * max(inside, default=6), 64))
        edges.append(x)
        x += widths[-1] + 14 + _LANE * taken[column]
    right = max(x, left + 12 + 8.8 * len(title))
    boxes = []
    for row in graph.rows:
        i, column = row.index, columns[row.index]
        place = (edges[0], right - 12 - edges[0]) if i == head else (edges[column], widths[column])
        note = f"row {i}: {row.label} {flow(row.args)}"
        boxes.append(Box(i, kinds[i], texts[i], note, column, place[0], heights[i], place[1]))
    names = [_level(stride) for stride in levels]
    panel = Panel(title, list(zip(names, edges, strict=True)), boxes, left, right)
    for target, source, lane in lanes:
        panel.lines.append(_line(boxes[source], boxes[target], lane, target == head, widths))
    return panel


def _level(stride: float) -> str:
    level = math.log2(stride)
    return f"P{level:g}" if level == int(level) else f"1/{stride:g}"


def _lanes(graph: Graph, columns: list[int]) -> tuple[list[tuple[int, int, int | None]], list[int]]:
    """Return target, source and lane of each line, and how many lanes lie beside each column.

    A line to the next row needs no lane; others run down beside the column of their source, each
    source in a lane that no other needs at that height.
    """
    free: list[list[int]] = [[] for _ in range(max(columns) + 1)]  # last row of each lane
    lanes: dict[int, int] = {}
    found = []
    head = len(graph.rows) - 1
    for row in graph.rows:
        for other in graph.readers[row.index]:
            if other == row.index + 1 and (other != head or len(graph.rows[head].sources) == 1):
                found.append((other, row.index, None))
                continue
            if row.index not in lanes:
                last = max(graph.readers[row.index])
                ends = free[columns[row.index]]
                lane = next((k for k, end in enumerate(ends) if end < row.index), len(ends))
                ends[lane : lane + 1] = [last]
                lanes[row.index] = lane
            found.append((other, row.index, lanes[row.index]))
    return found, [len(ends) for ends in free]


def _line(
    source: Box, target: Box, lane: int | None, head: bool, widths: list[float]
) -> list[tuple[float, float]]:
    """Return the corners of a line from the box that is read to the one that reads it."""
    down = source.y + _BOX
    if lane is None:
        start = source.x + source.width / 2
        end = start if head else target.x + target.width / 2
        turn = target.y - _GAP / 2
        return [(start, down), (start, turn), (end, turn), (end, target.y)]
    x = source.x + widths[source.column] + 6 + _LANE * lane
    middle = source.y + _BOX / 2
    if head:
        return [(source.x + source.width, middle), (x, middle), (x, target.y)]
    side = target.x if target.x > x else target.x + target.width
    height = target.y + _BOX / 2
    return [(source.x + source.width, middle), (x, middle), (x, height), (side, height)]
