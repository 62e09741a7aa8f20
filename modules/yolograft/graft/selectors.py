"""Find the rows that a recipe's words mean in a given config."""

from __future__ import annotations

from yolograft.config.labels import alone, split
from yolograft.errors import ConfigError, refuse
from yolograft.graft.graph import Graph
from yolograft.graft.recipes import Selector, Step
from yolograft.ultra import STAGES

#: Stock layers that can halve the map and are not a stage; whether a row does is read off its map.
DOWNSAMPLERS = (
    "Conv",
    "DWConv",
    "GhostConv",
    "Focus",
    "AConv",
    "ADown",
    "SCDown",
    "nn.MaxPool2d",
    "nn.AvgPool2d",
)


class NothingFound(ConfigError):
    """A selector that no row of the base meets."""


def rows_of(step: Step, graph: Graph) -> list[int]:
    """Return the rows that a step's selectors mean, in order.

    Args:
        step: A step of a recipe.
        graph: The base.

    Raises:
        NothingFound: If there are none, which the recipe may have an ``else:`` for.
        ConfigError: If an explicit row does not exist or is the head.
    """
    found, reasons = set(), []
    for selector in step.at:
        try:
            found.update(_rows(selector, graph, step.where))
        except NothingFound as error:
            reasons.append(error)
    if not found:
        raise reasons[0]
    return sorted(found)


def _rows(selector: Selector, graph: Graph, where: str) -> list[int]:
    rows = _explicit(selector, graph, where) if selector.rows else range(len(graph.rows) - 1)
    if selector.section:
        rows = [i for i in rows if graph.rows[i].section == selector.section]
        _check(rows, where, f"{graph.name} has no {selector.section}")
    if selector.modules:
        rows = [i for i in rows if graph.rows[i].label in selector.modules]
        own = dict.fromkeys(row.label for row in graph.rows[:-1])
        fact = f"{graph.name} has no {' or '.join(selector.modules)} there"
        _check(rows, where, fact, f"it has {', '.join(own)}")
    rows = [i for i in rows if graph.shapes[i] is not None]
    _check(rows, where, f"{graph.name} has no row there that returns one map")
    for trait in selector.traits:
        rows = [i for i in rows if _TRAITS[trait][0](graph, i)]
        _check(rows, where, f"{graph.name} has no {trait} there ({_TRAITS[trait][1]})")
    if selector.level:
        rows = _at_level(selector.level, rows, graph, where)
    return list(rows)


def _check(rows: object, where: str, fact: str, hint: str = "") -> None:
    if not rows:
        refuse(f"{where}: {fact}", hint, NothingFound)


def _explicit(selector: Selector, graph: Graph, where: str) -> tuple[int, ...]:
    last = len(graph.rows) - 1
    for row in selector.rows:
        if row > last:
            refuse(f"{where}: row {row} does not exist in {graph.name}", f"use 0 to {last - 1}")
        if row == last:
            refuse(f"{where}: row {row} is the head of {graph.name}", f"use 0 to {last - 1}")
        if graph.shapes[row] is None:
            refuse(f"{where}: {graph.where(row)} does not return one map", "choose another row")
    return selector.rows


def _at_level(level: str | tuple[str, ...], rows: list[int], graph: Graph, where: str) -> list[int]:
    levels = {i: graph.level(i) for i in rows}
    if level == "coarsest":
        coarsest = max((n for n in levels.values() if n is not None), default=None)
        wanted = {coarsest} - {None}
    else:
        there = {n for i in range(len(graph.rows)) if (n := graph.level(i)) is not None}
        given = level if isinstance(level, tuple) else (level,)
        wanted = {int(one[1]) for one in given}
        if isinstance(level, str) and level.endswith("+"):
            wanted = {n for n in there if n >= min(wanted)}
        missing = sorted(wanted - there) or ([] if wanted else [int(level[1])])
        hint = f"its levels are {', '.join(f'P{n}' for n in sorted(there))}"
        _check(not missing, where, f"{graph.name} has no P{missing[0]}" if missing else "", hint)
    rows = [i for i in rows if levels[i] in wanted]
    text = level if isinstance(level, str) else ", ".join(level)
    _check(rows, where, f"{graph.name} has none of these rows at {text}")
    return rows


def _is_stage(graph: Graph, index: int) -> bool:
    label = graph.rows[index].label
    return label in STAGES or bool(split(label)[0])


def _is_downsampler(graph: Graph, index: int) -> bool:
    row = graph.rows[index]
    ours = row.block is not None and row.block.role.takes_width
    return (ours or row.label in DOWNSAMPLERS) and graph.halves(index)


def _is_conv3x3(graph: Graph, index: int) -> bool:
    row = graph.rows[index]
    block = alone(row.label)
    if block is not None and block.role.takes_width and not block.role.halves:
        return not graph.halves(index)  # where such a row may have stood before
    return row.label == "Conv" and graph.options(index).get("k") == 3 and not graph.halves(index)


def _is_stage_end(graph: Graph, index: int) -> bool:
    level = graph.level(index)
    for row in graph.rows[index + 1 :]:
        if row.section != graph.rows[index].section:
            return level is not None
        if graph.level(row.index) is not None:
            return level is not None and graph.level(row.index) != level
    return level is not None


def _feeds_head(graph: Graph, index: int) -> bool:
    return index in graph.rows[-1].sources


_TRAITS = {
    "stage": (_is_stage, "one of " + ", ".join(STAGES)),
    "downsampler": (_is_downsampler, "a layer that halves the map: " + ", ".join(DOWNSAMPLERS)),
    "conv3x3": (_is_conv3x3, "a 3x3 Conv at stride 1"),
    "stage-end": (_is_stage_end, "the last row of a run of rows at one level"),
    "head-feeder": (_feeds_head, "a row that the head reads"),
}
