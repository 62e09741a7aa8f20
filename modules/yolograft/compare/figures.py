"""The figures of a comparison: for the page as Plotly reads them, for a paper by Matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

#: Told apart by most kinds of colour vision (Okabe and Ito); the base is grey, the control black.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a0522d", "#6a3d9a")
BASE, CONTROL = "#767676", "#111111"

#: Where colours come round again, the marks and lines differ: by Plotly's names, by Matplotlib's.
_ROUNDS = (("circle", "o", "solid", "-"), ("cross", "P", "dot", ":"), ("x", "X", "dashdot", "-."))
_KINDS = {"base": ("square", "s", "solid", "-"), "control": ("diamond", "D", "dash", "--")}

#: Rows up to which figures go side by side on the page.
FEW = 9

_SIDES = ("top left", "top right", "bottom right", "top center", "bottom left", "bottom center")

#: What AP is drawn over: key of a row, axis title.
COSTS = {
    "latency": "latency, ms per image",
    "gflops": "GFLOPs",
    "params": "parameters, millions",
}


def color(row: dict[str, Any], index: int) -> str:
    """Return the colour of a variant.

    Args:
        row: From :func:`yolograft.compare.report.read`.
        index: Its place among the rows.
    """
    return {"base": BASE, "control": CONTROL}.get(row["kind"], COLORS[(index - 1) % len(COLORS)])


def _mark(row: dict[str, Any], index: int) -> tuple[str, str, str, str]:
    """Return mark and line of a variant, each as Plotly and as Matplotlib call it."""
    return _KINDS.get(row["kind"]) or _ROUNDS[(index - 1) // len(COLORS) % len(_ROUNDS)]


def cost(row: dict[str, Any], key: str) -> float | None:
    """Return what a variant costs, in the unit of :data:`COSTS`."""
    if key == "latency":
        return row["speed"]["1"]["milliseconds"] if row["speed"] else None
    return row["params"] / 1e6 if key == "params" else row["gflops"]


def front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
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


# ------------------------------------------------------------------------------------------ plotly


def _layout(**more: Any) -> dict[str, Any]:
    axis = {"gridcolor": "#e8e8e4", "zerolinecolor": "#e8e8e4", "automargin": True}
    layout = {
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#222"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 50, "r": 14, "t": 12, "b": 46},
        "height": 340,
        "showlegend": False,
        "hovermode": "closest",
        "xaxis": {**axis, **more.pop("xaxis", {})},
        "yaxis": {**axis, **more.pop("yaxis", {})},
    }
    return {**layout, **more}


def page(rows: list[dict[str, Any]], classes: list[str]) -> dict[str, dict[str, Any]]:
    """Return the page's figures by the id of their place.

    Args:
        rows: From :func:`yolograft.compare.report.read`.
        classes: Names, in the order of the data.
    """
    figures = {f"pareto-{key}": _pareto(rows, key, title) for key, title in COSTS.items()}
    figures["differences"] = _differences(rows)
    figures["curve-ap"] = _curves(rows, "AP", "AP on the validation split")
    figures["curve-loss"] = _curves(rows, "train_loss", "training loss")
    figures["classes"] = _classes(rows, classes)
    return figures


def _pareto(rows: list[dict[str, Any]], key: str, title: str) -> dict[str, Any]:
    traces, points = [], []
    for i, row in enumerate(rows):
        x, total = cost(row, key), row["total"]["AP"]
        if x is None or not total.n:
            continue
        points.append((x, total.mean))
        reach = row["reach"] if not math.isnan(row["reach"]) else 0
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "x": [x],
                "y": [total.mean],
                "text": [row["name"]],
                "textposition": _SIDES[i % len(_SIDES)],  # names of near points do not collide
                "textfont": {"size": 11},
                "cliponaxis": False,
                "error_y": {
                    "type": "data",
                    "array": [reach],
                    "width": 4,
                    "thickness": 1.2,
                    "color": _faint(color(row, i), 0.45),
                },
                "marker": {
                    "size": 11,
                    "color": color(row, i),
                    "symbol": _mark(row, i)[0],
                },
                "hovertemplate": f"{row['name']}<br>AP %{{y:.4f}} ± {reach:.4f}<br>"
                f"{title}: %{{x:.3f}}<extra></extra>",
            }
        )
    line = front(points)
    traces.insert(
        0,
        {
            "type": "scatter",
            "mode": "lines",
            "x": [p[0] for p in line],
            "y": [p[1] for p in line],
            "line": {"color": "#bbb", "width": 1.5, "dash": "dot", "shape": "hv"},
            "hoverinfo": "skip",
        },
    )
    wide = max((p[0] for p in points), default=1) - min((p[0] for p in points), default=0) or 1
    span = [min((p[0] for p in points), default=0) - 0.3 * wide]  # room for the first name
    span.append(max((p[0] for p in points), default=1) + 0.15 * wide)
    axes = {"xaxis": {"title": {"text": title}, "range": span}, "yaxis": {"title": {"text": "AP"}}}
    axes["yaxis"]["rangemode"] = "nonnegative"
    return {"data": traces, "layout": _layout(**axes, height=320 if len(rows) <= FEW else 420)}


def _differences(rows: list[dict[str, Any]]) -> dict[str, Any]:
    traces, names = [], []
    for i, row in enumerate(rows):
        pair = row["paired"]
        if not pair or not pair.differences:
            continue
        names.append(row["name"])
        shade = color(row, i)
        has = not math.isnan(pair.low)
        arm = {"array": [pair.high - pair.mean], "arrayminus": [pair.mean - pair.low]}
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [pair.mean],
                "y": [row["name"]],
                "error_x": {"type": "data", **arm, "width": 6} if has else {},
                "marker": {"symbol": "line-ns", "size": 20, "line": {"width": 3, "color": shade}},
                "line": {"color": shade},
                "hovertemplate": f"{row['name']}<br>mean %{{x:+.4f}}<br>{_interval(pair)}"
                "<extra></extra>",
            }
        )
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": list(pair.differences.values()),
                "y": [row["name"]] * len(pair.differences),
                "customdata": list(pair.differences),
                "marker": {"size": 9, "color": shade, "opacity": 0.65},
                "hovertemplate": f"{row['name']}, seed %{{customdata}}<br>%{{x:+.4f}}"
                "<extra></extra>",
            }
        )
    zero = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1}
    return {
        "data": traces,
        "layout": _layout(
            height=90 + 46 * max(1, len(names)),
            xaxis={"title": {"text": "AP minus the base's"}, "tickformat": "+.3f"},
            yaxis={"categoryorder": "array", "categoryarray": names[::-1], "type": "category"},
            shapes=[{**zero, "line": {"color": BASE, "width": 1.5}}],
        ),
    }


def _interval(pair: Any) -> str:
    if math.isnan(pair.low):
        return "no interval"
    return f"95 % interval {pair.low:+.4f} to {pair.high:+.4f}"


def bands(runs: list[dict[str, Any]], key: str) -> list[tuple[int, float, float, float]]:
    """Return epoch, mean, least and most over the seeds.

    Args:
        runs: Records of one variant.
        key: Of a row of their curves.
    """
    by_epoch: dict[int, list[float]] = {}
    for run in runs:
        for row in run["curve"]:
            if row[key] is not None:
                by_epoch.setdefault(row["epoch"], []).append(row[key])
    return [(e, sum(v) / len(v), min(v), max(v)) for e, v in sorted(by_epoch.items())]


def _curves(rows: list[dict[str, Any]], key: str, title: str) -> dict[str, Any]:
    traces = []
    for i, row in enumerate(rows):
        band = bands(row["runs"], key)
        if not band:
            continue
        epochs, shade = [b[0] for b in band], color(row, i)
        if len(row["runs"]) > 1:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": epochs + epochs[::-1],
                    "y": [b[3] for b in band] + [b[2] for b in band][::-1],
                    "fill": "toself",
                    "fillcolor": _faint(shade),
                    "line": {"width": 0},
                    "legendgroup": row["name"],
                    "showlegend": False,
                    "hoverinfo": "skip",
                }
            )
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(band) < 8 else "lines",
                "x": epochs,
                "y": [b[1] for b in band],
                "name": row["name"],
                "legendgroup": row["name"],
                "line": {"color": shade, "width": 2, "dash": _mark(row, i)[2]},
                "hovertemplate": f"{row['name']}, epoch %{{x}}<br>%{{y:.4f}}<extra></extra>",
            }
        )
    return {
        "data": traces,
        "layout": _layout(
            showlegend=True,
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            margin={"l": 50, "r": 14, "t": 60, "b": 46},
            height=330 + 5 * len(traces),  # room for the names
            xaxis={"title": {"text": "epoch"}, "rangemode": "tozero"},
            yaxis={"title": {"text": title}, "rangemode": "nonnegative"},
        ),
    }


def _faint(shade: str, opacity: float = 0.13) -> str:
    r, g, b = (int(shade[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{opacity})"


def _classes(rows: list[dict[str, Any]], classes: list[str]) -> dict[str, Any]:
    there = [row for row in rows if row["runs"]]
    table = []
    for name in classes:
        values = [[run["per_class"].get(name) for run in row["runs"]] for row in there]
        known = [[v for v in one if v is not None] for one in values]
        table.append([sum(one) / len(one) if one else None for one in known])
    few = len(classes) <= 30
    return {
        "data": [
            {
                "type": "heatmap",
                "x": [row["name"] for row in there],
                "y": classes,
                "z": table,
                "colorscale": [[0, "#f4f6f1"], [0.5, "#8fc1c9"], [1, "#0b4f6c"]],
                "zmin": 0,
                "zmax": max((v for one in table for v in one if v is not None), default=0) or 1,
                "xgap": 2,
                "ygap": 2,
                "showscale": not few,
                "texttemplate": "%{z:.3f}" if few else "",
                "hovertemplate": "%{y}, %{x}<br>AP %{z:.4f}<extra></extra>",
            }
        ],
        "layout": _layout(
            height=90 + (30 if few else 16) * len(classes),
            xaxis={"type": "category", "side": "top", "tickangle": -45, "dtick": 1},
            yaxis={"type": "category", "autorange": "reversed"},
            margin={"l": 50, "r": 10, "t": 30, "b": 10},
        ),
    }


# -------------------------------------------------------------------------------------- matplotlib


def save(rows: list[dict[str, Any]], folder: Path) -> list[str]:
    """Write the figures for a paper, as PNG and SVG; return their names.

    Args:
        rows: From :func:`yolograft.compare.report.read`.
        folder: Where.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    style = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e8e8e4",
        "svg.hashsalt": "yolograft",
    }
    names = []
    with rc_context(style):
        for name, draw, size in (
            ("pareto", _draw_pareto, (9, 3)),
            ("differences", _draw_differences, (6, 1 + 0.28 * len(rows))),
            ("curves", _draw_curves, (6, 3.4)),
        ):
            figure = Figure(figsize=size, layout="constrained")
            draw(figure, rows)
            for suffix in ("png", "svg"):
                meta = {"Date": None} if suffix == "svg" else None
                figure.savefig(folder / f"{name}.{suffix}", dpi=200, metadata=meta)
                names.append(f"{name}.{suffix}")
    return names


def _draw_pareto(figure: Any, rows: list[dict[str, Any]]) -> None:
    for axes, (key, title) in zip(
        figure.subplots(1, len(COSTS), sharey=True), COSTS.items(), strict=True
    ):
        points = []
        for i, row in enumerate(rows):
            x, total = cost(row, key), row["total"]["AP"]
            if x is None or not total.n:
                continue
            points.append((x, total.mean))
            reach = 0 if math.isnan(row["reach"]) else row["reach"]
            marker = _mark(row, i)[1]
            axes.errorbar(x, total.mean, reach, fmt=marker, color=color(row, i), capsize=3, ms=5)
            axes.annotate(row["name"], (x, total.mean), (4, 4), textcoords="offset points", size=7)
        line = front(points)
        axes.step(*zip(*line, strict=True), where="post", ls=":", c="#999", zorder=0) if line else 0
        axes.set_xlabel(title)
        axes.margins(x=0.2)
    figure.axes[0].set_ylabel("AP")


def _draw_differences(figure: Any, rows: list[dict[str, Any]]) -> None:
    axes = figure.subplots()
    shown = [(i, r) for i, r in enumerate(rows) if r["paired"] and r["paired"].differences]
    for y, (i, row) in enumerate(reversed(shown)):
        pair, shade = row["paired"], color(row, i)
        if not math.isnan(pair.low):
            axes.plot([pair.low, pair.high], [y, y], color=shade, lw=1.5)
        axes.plot(pair.mean, y, "|", color=shade, ms=14, mew=2)
        values = list(pair.differences.values())
        axes.plot(values, [y] * len(values), "o", color=shade, alpha=0.6, ms=5)
    axes.axvline(0, color=BASE, lw=1)
    axes.set_yticks(range(len(shown)), [row["name"] for _, row in reversed(shown)])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlabel("AP minus the base's AP, same seed")


def _draw_curves(figure: Any, rows: list[dict[str, Any]]) -> None:
    axes = figure.subplots()
    for i, row in enumerate(rows):
        band = bands(row["runs"], "AP")
        if not band:
            continue
        epochs, mean, low, high = zip(*band, strict=True)
        axes.plot(epochs, mean, _mark(row, i)[3], color=color(row, i), label=row["name"], lw=1.5)
        axes.fill_between(epochs, low, high, color=color(row, i), alpha=0.13, lw=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel("AP on the validation split")
    if axes.lines:
        axes.legend(frameon=False, ncols=3)
