"""What the steps of recipes do to the rows of a base: insert, replace, swap and remove."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

from yolograft import exact, registry, signatures
from yolograft.config import origin
from yolograft.config.labels import alone, split
from yolograft.errors import ConfigError, refuse
from yolograft.graft import meta, selectors
from yolograft.graft.graph import Graph
from yolograft.graft.recipes import Step
from yolograft.ultra import STAGES


@dataclass
class Edits:
    """What to do to the rows of a base.

    Attributes:
        become: Row to its new repeats, module and arguments, and the relation.
        follow: Row to what is inserted behind it: the new row, and its ``rewire``.
        gone: Rows to leave out.
        by: Row to the step that gave it another module.
    """

    become: dict[int, tuple[list, str]] = field(default_factory=dict)
    follow: dict[int, list[tuple[list, str]]] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    by: dict[int, Step] = field(default_factory=dict)


def plan(graph: Graph, steps: list[Step]) -> Edits:
    """Return what steps do to a base. All of them see the base as it is, not each other's rows.

    Args:
        graph: The base.
        steps: Steps of one recipe or of several.

    Raises:
        ConfigError: If a step finds nothing, finds its block already there, or two steps want the
            same row.
    """
    edits = Edits()
    for step in steps:
        step, rows = _resolve(step, graph)
        for row in rows:
            _ACTIONS[step.action](edits, step, graph, row)
    for row in edits.gone & {*edits.follow, *edits.become}:
        refuse(f"{edits.by[row].where}: {graph.where(row)} is removed, and changed by another step")
    return edits


def _resolve(step: Step, graph: Graph) -> tuple[Step, list[int]]:
    """Return a step, or what it has for ``else:`` where it finds nothing, with its rows."""
    try:
        return step, selectors.rows_of(step, graph)
    except selectors.NothingFound as error:
        if step.otherwise is None:
            raise
        try:
            return _resolve(step.otherwise, graph)
        except selectors.NothingFound as second:
            msg = f"{error}\n{second}"
            raise selectors.NothingFound(msg) from error


def _insert(edits: Edits, step: Step, graph: Graph, row: int) -> None:
    block = registry.find(step.label)
    for one in (row, *graph.readers[row]):
        if alone(graph.rows[one].label) is block:
            _refuse_again(step, graph, one)
    args = [_width(step, graph, row)] if block.role.takes_width else []
    new = [1, step.label, _with_named(args, step.args)]
    if step.exact and not _starts_exactly(step, graph, row, new, row):
        new[2] = _with_named(new[2], {"blend": True})
    for other, rewire in edits.follow.get(row, []):
        if registry.find(other[1]) is block:
            if (other, rewire) == (new, step.rewire):
                return  # two selectors, or two recipes, mean the same
            refuse(
                f"{step.where}: {step.label} behind {graph.where(row)} is inserted by another step "
                "with other arguments",
                "leave one of them out",
            )
    _check(step, graph, row, row, new)
    if step.rewire == "next" and row not in graph.rows[row + 1].sources:
        refuse(
            f"{step.where}: rewire=next, but row {row + 1} does not read {graph.where(row)}",
            "use rewire: all",
        )
    edits.follow.setdefault(row, []).append((new, step.rewire))


def _replace(edits: Edits, step: Step, graph: Graph, row: int) -> None:
    block, old = registry.find(step.label), graph.rows[row]
    _claim(edits, step, graph, row)
    if old.block is block:
        _refuse_again(step, graph, row)
    if len(old.sources) != 1:
        refuse(
            f"{step.where}: {graph.where(row)} reads {len(old.sources)} rows, {block.name} one",
            "choose other rows",
        )
    args, named = _args_for(step, graph, row) if block.role.takes_width else ([], {})
    new = [old.raw[1], step.label, _with_named(args, {**named, **step.args})]
    if step.exact and not _starts_exactly(step, graph, row, new, old.sources[0]):
        new[2] = _with_named(new[2], {"blend": [old.label, deepcopy(list(old.args))]})
    _check(step, graph, row, old.sources[0], new)
    edits.become[row] = (new, origin.FOR)


def _args_for(step: Step, graph: Graph, row: int) -> tuple[list, dict]:
    """Return positional and named arguments that do what the old row does to the shape."""
    halves = graph.halves(row)
    block, options = registry.find(step.label), graph.options(row)
    known = signatures.parameters(block.load())
    args, named = [_width(step, graph, row)], {}
    k, p = options.get("k", 3), options.get("p")
    if not isinstance(k, int):
        k = 3
    if block.role.halves:
        if not halves:
            refuse(
                f"{step.where}: {block.name} halves the map, {graph.where(row)} does not",
                "select downsamplers",
            )
        before = p if isinstance(p, int) else k // 2
        reach = max(-(-before // 2), (k - 1 - before) // 2)  # in pairs of pixels
        if 2 * reach + 1 != 3 and "k" in known and "k" not in step.args:
            named["k"] = 2 * reach + 1
    else:
        if halves and "s" not in known:
            refuse(
                f"{step.where}: {block.name} keeps the size, {graph.where(row)} halves it",
                "select rows at stride 1",
            )
        positional = known[2:4] == ["k", "s"] and not {"k", "s"} & {*step.args}
        odd = k if k % 2 else 3
        if positional:
            args += [odd, 2] if halves else [odd] if odd != 3 else []
        elif halves and "s" not in step.args:
            named["s"] = 2
    if options.get("act") is False and "act" in known and "act" not in step.args:
        named["act"] = False
    return args, named


def _swap(edits: Edits, step: Step, graph: Graph, row: int) -> None:
    old, block = graph.rows[row], registry.find(step.label)
    stage, inside = split(old.label)
    if inside is block:
        _refuse_again(step, graph, row)
    _claim(edits, step, graph, row)
    if stage:
        refuse(
            f"{step.where}: {graph.where(row)} holds {inside.name} where {block.name} would go",
            "leave such rows out, as in {module: C2f}",
        )
    if old.label not in STAGES:
        refuse(
            f"{step.where}: nothing can be swapped inside {graph.where(row)}",
            f"use one of {', '.join(STAGES)}",
        )
    new = [old.raw[1], f"{old.label}_{step.label}", _with_named(old.args, step.args)]
    if step.exact and not _starts_exactly(step, graph, row, new, old.sources[0]):
        new[2] = _with_named(new[2], {"blend": True})
    _check(step, graph, row, old.sources[0], new)
    edits.become[row] = (new, origin.IN)


def _remove(edits: Edits, step: Step, graph: Graph, row: int) -> None:
    if not graph.keeps(row):
        reader = next(iter(graph.readers[row]), None)
        fact = f"{graph.where(reader)} refers to it" if reader is not None else "nothing reads it"
        refuse(
            f"{step.where}: {graph.where(row)} is removed, but {fact}, and its map is another than "
            "the one it reads",
            "remove rows that keep the shape, or replace this one",
        )
    _claim(edits, step, graph, row)
    edits.gone.add(row)


_ACTIONS = {"insert": _insert, "replace": _replace, "swap": _swap, "remove": _remove}


def _claim(edits: Edits, step: Step, graph: Graph, row: int) -> None:
    other = edits.by.setdefault(row, step)
    if other is not step:
        refuse(
            f"{step.where}: {graph.where(row)} is changed by {other.where} already",
            "leave one of them out, or select other rows",
        )


def _refuse_again(step: Step, graph: Graph, row: int) -> None:
    refuse(
        f"{step.where}: {step.label} is already there: {graph.where(row)}",
        "graft into the base without it, or select other rows",
    )


def _width(step: Step, graph: Graph, row: int) -> int:
    width = graph.width(row)
    if width is None:
        refuse(
            f"{step.where}: no number makes {step.label} as wide as {graph.where(row)} at every "
            "scale",
            "select rows whose width stands in them or in the row before",
        )
    return width


def _starts_exactly(step: Step, graph: Graph, row: int, new: list, source: int) -> bool:
    """Tell whether a new row needs no residual gate: tried on the two layers.

    A block may start as the old layer and need one all the same, see ``Block.drifts``.
    """
    shape = graph.source_shape(source)
    rows = [new] if step.action == "insert" else [new, graph.rows[row].raw[1:]]
    if shape is None:
        return True  # refused with its reason when it is checked
    try:
        layers = [meta.build(graph.config, [[-1, *one]], "probe", shape[0])[0] for one in rows]
    except ConfigError:
        return True  # as above
    if step.action == "insert":
        return exact.is_identity(layers[0], shape[0])
    if registry.find(step.label).drifts:
        return False
    carried = exact.carry(*layers)
    return carried is not None and not carried.fresh


def _with_named(args: list, named: dict) -> list:
    args = deepcopy(list(args))
    if args and isinstance(args[-1], dict):
        named = {**args.pop(), **named}
    return [*args, *([deepcopy(named)] if named else [])]


def _check(step: Step, graph: Graph, row: int, source: int, new: list) -> None:
    """Refuse a new row that cannot be built behind ``source``, or does not match the base's row.

    A block inside a stage cannot change what the stage returns, so such a row is built only.
    """
    shape = graph.source_shape(source)
    if shape is None:
        refuse(f"{step.where}: {graph.where(source)} does not return one map", "select other rows")
    try:
        got = meta.probe(graph.config, new, shape, run=step.action != "swap")
    except ConfigError as error:
        msg = f"{step.where}: {graph.where(row)}: {error}"
        raise ConfigError(msg) from error
    want = graph.shapes[row]
    if got and got != want:
        refuse(
            f"{step.where}: {new[1]} returns {_size(got)} where {graph.where(row)} returns "
            f"{_size(want)}",
            "select other rows, or give other args",
        )


def _size(shape: tuple) -> str:
    return "x".join(map(str, shape))
