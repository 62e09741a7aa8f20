"""The figures of a comparison, drawn once by Matplotlib: PNG for a paper, SVG for the page.

On the page, each mark belongs to a variant, which can be singled out, and has a text that is shown
when the mouse is over it.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from yolograft.compare.results import Row

#: Distinguishable with most kinds of colour vision (Okabe and Ito).
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a0522d", "#6a3d9a")
BASE, CONTROL = "#767676", "#111111"

#: Where the colours are used a second time, marks and lines differ.
_ROUNDS = (("o", "-"), ("P", ":"), ("X", "-."))
_KINDS = {"base": ("s", "-"), "control": ("D", "--")}

#: Points of a learning curve that say their value on the page, at most.
_POINTS = 25

_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e8e8e4",
    "svg.fonttype": "none",
}
_SVG = "http://www.w3.org/2000/svg"


def color(row: Row, index: int) -> str:
    """Return the colour of a variant.

    Args:
        row: Its results.
        index: Its place among the rows.
    """
    kinds = {"base": BASE, "control": CONTROL}
    return kinds.get(row.variant.kind, COLORS[(index - 1) % len(COLORS)])


def _mark(row: Row, index: int) -> tuple[str, str]:
    """Return mark and line of a variant."""
    return _KINDS.get(row.variant.kind) or _ROUNDS[(index - 1) // len(COLORS) % len(_ROUNDS)]


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other one beats in both cost and AP, cheapest first.

    Args:
        points: Pairs of cost and AP.
    """
    best, kept = -math.inf, []
    for x, y in sorted(points, key=lambda p: (p[0], -p[1])):
        if y > best:
            best = y
            kept.append((x, y))
    return kept


def bands(row: Row, key: str) -> list[tuple[int, float, float, float]]:
    """Return epoch, mean, least and most over the seeds.

    Args:
        row: The results of a variant.
        key: ``AP``, ``train_loss`` or ``val_loss``.
    """
    by_epoch: dict[int, list[float]] = {}
    for run in row.runs:
        for point in run.curve:
            if (value := getattr(point, key)) is not None:
                by_epoch.setdefault(point.epoch, []).append(value)
    return [(e, sum(v) / len(v), min(v), max(v)) for e, v in sorted(by_epoch.items())]


# --------------------------------------------------------------------------------------- a figure


@dataclass
class Drawing:
    """A figure, and what its marks belong to and say on the page.

    Attributes:
        name: Of its file.
        figure: Matplotlib's.
        notes: For each marked part: number of its variant; one text, or one for each point.
    """

    name: str
    figure: Any
    notes: list[tuple[int, list[str]]] = field(default_factory=list)

    def note(self, parts: Iterable[Any], variant: int, *texts: str) -> None:
        """Mark parts of the figure as a variant's.

        Args:
            parts: Matplotlib's artists.
            variant: Number of its row.
            *texts: What they say; several for the points of one part.
        """
        for part in parts:
            part.set_gid(f"note{len(self.notes)}")
        self.notes.append((variant, list(texts)))

    def png(self) -> bytes:
        """Return the figure as PNG, of 256 colours: a third of the size."""
        from PIL import Image

        streams = io.BytesIO(), io.BytesIO()
        self.figure.savefig(streams[0], format="png", dpi=150)
        image = Image.open(streams[0]).convert("RGB")
        image.quantize(256).save(streams[1], "PNG", optimize=True)
        return streams[1].getvalue()

    def svg(self) -> str:
        """Return the figure as an SVG element; marks have ``data-v`` and ``data-tip``."""
        from matplotlib import rc_context

        stream = io.BytesIO()
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": f"yolograft {self.name}"}):
            self.figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
        ElementTree.register_namespace("", _SVG)
        ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
        root = ElementTree.fromstring(stream.getvalue())
        root.remove(root.find(f"{{{_SVG}}}metadata"))
        for part in root.iter():
            for key in {"d", "x", "y"} & {*part.keys()}:
                part.set(key, re.sub(r"(\.\d\d)\d+", r"\1", part.get(key)))
        for group in root.iter(f"{{{_SVG}}}g"):
            name = group.attrib.pop("id", "")
            if name.startswith("note"):
                self._tell(group, *self.notes[int(name.removeprefix("note"))])
        return ElementTree.tostring(root, encoding="unicode")

    def _tell(self, group: ElementTree.Element, variant: int, texts: list[str]) -> None:
        group.set("data-v", str(variant))
        marks = [group] if len(texts) == 1 else group.iter(f"{{{_SVG}}}use")
        for mark, text in zip(marks, texts, strict=False):
            mark.set("data-tip", text)

    def legend(self, rows: list[Row], lines: dict[str, Any]) -> None:
        """Name the variants above the figure.

        Args:
            rows: The results.
            lines: What stands for each variant, by its name.
        """
        legend = self.figure.legend(
            lines.values(),
            lines,
            loc="outside upper center",
            frameon=False,
            ncols=6,
            fontsize=8,
        )
        kept = [i for i, row in enumerate(rows) if row.name in lines]
        for i, line, text in zip(kept, legend.legend_handles, legend.get_texts(), strict=True):
            self.note([line, text], i, text.get_text())


def draw(rows: list[Row]) -> dict[str, Drawing]:
    """Return the figures of a report by name.

    Args:
        rows: The results.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    found = {}
    with rc_context(_STYLE):
        for name, fill, height in (
            ("pareto", _pareto, 3.2 + 0.05 * len(rows)),
            ("differences", _differences, 1 + 0.28 * len(rows)),
            ("curves", _curves, 3.4 + 0.05 * len(rows)),
        ):
            drawing = Drawing(name, Figure(figsize=(9, height), layout="constrained"))
            fill(drawing, rows)
            found[name] = drawing
    return found


def _latency(row: Row) -> float | None:
    return row.timing["1"].milliseconds if row.timing else None


#: What AP is drawn over, each with the cost of a variant, in this unit.
_COSTS: dict[str, Callable[[Row], float | None]] = {
    "latency, ms per image": _latency,
    "GFLOPs": lambda row: row.variant.gflops,
    "parameters, millions": lambda row: row.variant.params / 1e6,
}


def _pareto(drawing: Drawing, rows: list[Row]) -> None:
    all_axes, lines = drawing.figure.subplots(1, len(_COSTS), sharey=True), {}
    for axes, (title, cost) in zip(all_axes, _COSTS.items(), strict=True):
        points = []
        for i, row in enumerate(rows):
            x, total = cost(row), row.total["AP"]
            if x is None or not total.n:
                continue
            points.append((x, total.mean))
            reach = 0 if math.isnan(row.reach) else row.reach
            marker, shade = _mark(row, i)[0], color(row, i)
            lines[row.name] = bar = axes.errorbar(
                x, total.mean, reach, fmt=marker, color=shade, capsize=2.5, ms=5, elinewidth=0.8
            )
            text = f"{row.name}: AP {total.mean:.4f} ± {reach:.4f}, {title}: {x:.4g}"
            drawing.note(bar.get_children(), i, text)
        if line := front(points):
            axes.step(*zip(*line, strict=True), where="post", ls=":", c="#999", zorder=0)
        axes.set_xlabel(title)
        axes.margins(x=0.1)
    all_axes[0].set_ylabel("AP")
    drawing.legend(rows, lines)


def _differences(drawing: Drawing, rows: list[Row]) -> None:
    axes = drawing.figure.subplots()
    shown = [(i, row) for i, row in enumerate(rows) if row.paired and row.paired.differences]
    for y, (i, row) in enumerate(reversed(shown)):
        pair, shade = row.paired, color(row, i)
        parts = axes.plot(pair.mean, y, "|", color=shade, ms=14, mew=2)
        if pair.interval:
            parts += axes.plot([pair.low, pair.high], [y, y], color=shade, lw=1.5)
        text = f"{row.name}: mean {pair.mean:+.4f}, {pair.interval or 'no interval'}"
        drawing.note(parts, i, text)
        for seed, value in pair.differences.items():
            dot = axes.plot(value, y, "o", color=shade, alpha=0.6, ms=5)
            drawing.note(dot, i, f"{row.name}, seed {seed}: {value:+.4f}")
    axes.axvline(0, color=BASE, lw=1)
    axes.set_yticks(range(len(shown)), [row.name for _, row in reversed(shown)])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlabel("AP minus the base's AP, same seed")


def _curves(drawing: Drawing, rows: list[Row]) -> None:
    titles = {"AP": "AP on the validation split", "train_loss": "training loss"}
    all_axes, lines = drawing.figure.subplots(1, len(titles)), {}
    for axes, (key, title) in zip(all_axes, titles.items(), strict=True):
        for i, row in enumerate(rows):
            if not (band := bands(row, key)):
                continue
            epochs, mean, low, high = zip(*band, strict=True)
            shade = color(row, i)
            (line,) = axes.plot(epochs, mean, _mark(row, i)[1], color=shade, lw=1.5)
            area = axes.fill_between(epochs, low, high, color=shade, alpha=0.1, lw=0)
            drawing.note([line, area], i, row.name)
            lines[row.name] = line
            some = band[:: -(-len(band) // _POINTS)]
            points = axes.plot([b[0] for b in some], [b[1] for b in some], "o", color=shade, ms=2.5)
            texts = [f"{row.name}, epoch {b[0]}: {b[1]:.4f}" for b in some]
            drawing.note(points, i, *texts)
        axes.set_xlabel("epoch")
        axes.set_ylabel(title)
    drawing.legend(rows, lines)
