"""The tables of a report: each cell with its text, and the value that a click sorts by."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from yolograft.compare.evaluate import NAMES
from yolograft.compare.results import METRICS, Comparison, Row
from yolograft.compare.words import decimals, duration

_HEADS = {"APs": "AP small", "APm": "AP medium", "APl": "AP large"}


class Cell(NamedTuple):
    """Text, and what it is sorted by."""

    text: str
    value: Any = ""


@dataclass(frozen=True)
class Table:
    """Column names, and rows of as many cells."""

    head: list[str]
    body: list[list[Cell]]


def accuracy(rows: list[Row]) -> Table:
    """Return AP, differences to the base and verdicts.

    Args:
        rows: The results.
    """
    head = ["variant", "AP", "difference to the base", "p (Holm)"]
    head += [*(_HEADS.get(name, name) for name in NAMES[1:]), "verdict"]
    body = []
    for row in rows:
        pair, differences = row.paired, [Cell(""), Cell("")]
        means = [Cell(row.total[name].text(), row.total[name].mean) for name in NAMES]
        if pair and pair.differences:
            reach = f" [{pair.low:+.4f}, {pair.high:+.4f}]" if pair.interval else ""
            differences[0] = Cell(f"{pair.mean:+.4f}{reach}", pair.mean)
            differences[1] = _cell(pair.holm, "{:.3f}".format)
        verdict = pair.verdict if pair else "the base"
        body.append([_same(row.name), means[0], *differences, *means[1:], _same(verdict)])
    return Table(head, body)


def costs(rows: list[Row]) -> Table:
    """Return size, speed and training cost.

    Args:
        rows: The results.
    """
    head = ["variant", "parameters", "GFLOPs", "latency, ms", "images/s", "training"]
    head += ["peak memory", "best epoch", "shared tensors", "what it is"]
    body = []
    for row in rows:
        one, many, variant = row.timing.get("1"), row.timing.get("32"), row.variant
        shared = row.runs[0].transferred if row.runs else None
        latency = f"{one.milliseconds:.2f} [{one.low:.2f}, {one.high:.2f}]" if one else ""
        body.append(
            [
                _same(row.name),
                Cell(f"{variant.params:,}", variant.params),
                Cell(decimals(variant.gflops), variant.gflops),
                Cell(latency, one.milliseconds if one else ""),
                _cell(many and many.images_per_second, "{:.1f}".format),
                _cell(row.total["seconds"].mean, duration),
                _cell(row.total["memory"].mean, lambda v: f"{v / 1e9:.2f} GB"),
                _cell(row.total["best_epoch"].mean, "{:.0f}".format),
                Cell(f"{shared.tensors}/{shared.of}", shared.tensors) if shared else Cell(""),
                Cell(f"{variant.kind}: {variant.source}", variant.source),
            ]
        )
    return Table(head, body)


def runs(found: Comparison) -> Table:
    """Return all runs, the failed ones last.

    Args:
        found: The results.
    """
    head = ["run", "state", "AP", "best epoch", "training", "device"]
    body = [
        [
            _same(run.id),
            _same("finished"),
            _cell(run.metrics["AP"], "{:.4f}".format),
            _cell(run.best_epoch, str),
            _cell(run.seconds, duration),
            _same(run.environment["device"]),
        ]
        for row in found.rows
        for run in row.runs
    ]
    body += [[_same(one.id), _same("failed"), *[Cell("")] * 4] for one in found.failures]
    return Table(head, body)


def classes(rows: list[Row]) -> Table:
    """Return the AP of each class, a column for each variant that has finished runs.

    Args:
        rows: The results.
    """
    there = [row for row in rows if row.runs]
    names = dict.fromkeys(name for row in there for run in row.runs for name in run.per_class)
    body = []
    for name in names:
        values = [
            [run.per_class[name] for run in row.runs if name in run.per_class] for row in there
        ]
        means = [sum(some) / len(some) if some else math.nan for some in values]
        body.append([_same(name), *(_cell(mean, "{:.3f}".format) for mean in means)])
    return Table(["class", *(row.name for row in there)], body)


def _same(text: str) -> Cell:
    return Cell(text, text)


def _cell(value: float | None, text: Callable[[float], str]) -> Cell:
    """Return text and value, empty where there is none."""
    return Cell("") if value is None or math.isnan(value) else Cell(text(value), value)


def csv_text(rows: list[Row]) -> str:
    """Return one line for each finished run.

    Args:
        rows: The results.
    """
    lines = []
    for row in rows:
        one, many, variant = row.timing.get("1"), row.timing.get("32"), row.variant
        for run in row.runs:
            lines.append(
                {
                    **{"variant": variant.name, "kind": variant.kind, "source": variant.source},
                    **{"seed": run.seed, **{name: run.metrics[name] for name in METRICS}},
                    **{"best_epoch": run.best_epoch, "seconds": run.seconds},
                    "peak_memory_bytes": run.peak_memory.bytes,
                    "tensors_shared": run.transferred.tensors,
                    "tensors": run.transferred.of,
                    **{"params": variant.params, "gflops": variant.gflops},
                    "latency_ms_batch1": one and one.milliseconds,
                    "images_per_second_batch32": many and many.images_per_second,
                    "device": run.environment["device"],
                }
            )
    stream = io.StringIO()
    writer = csv.DictWriter(stream, lines[0] if lines else ["variant"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()
