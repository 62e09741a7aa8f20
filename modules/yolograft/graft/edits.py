"""Insert, replace, swap and remove rows; renumber all references; tell each row's origin."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from yolograft import registry
from yolograft.errors import ConfigError, nearest, refuse
from yolograft.graft import recipes, selectors
from yolograft.graft.graph import Graph, build, probe, split
from yolograft.graft.recipes import Recipe, Step

if TYPE_CHECKING:
    from torch import nn


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


@dataclass(frozen=True)
class Graft:
    """A grafted config.

    Attributes:
        config: What the new model YAML holds.
        origins: One for each row of it.
        base: The base.
        recipes: What was done to it.
    """

    config: dict
    origins: list[Origin]
    base: Graph
    recipes: list[Recipe]

    @property
    def rows(self) -> list[list]:
        """Return the rows of backbone and head."""
        return [*self.config["backbone"], *self.config["head"]]


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


def patch(
    base: str | Path | dict, recipe: str | dict | list, warm: str | None = None
) -> dict | nn.Module:
    """Return a model config, or a trained model, with blocks grafted in.

    Args:
        base: A model YAML by name or path, ``yolo11s.yaml`` as the host understands it, or what
            one holds; or the path of a checkpoint, ``best.pt``.
        recipe: A recipe by name or path, several as in ``"sk,cbam"``, a mapping as a recipe file
            holds it, or a list of these.
        warm: ``"exact"`` does what ``warm: exact`` in the recipes does.

    Returns:
        The config, which the host's model classes take as it is. Its key ``graft`` tells where each
        row came from. For a checkpoint, the host's model with all weights that can be carried.

    Raises:
        ConfigError: If the base is no model, a recipe is wrong, or it does not fit the base.

    Example:
        >>> model = DetectionModel(yolograft.patch("yolo11s.yaml", "cbam"))
        >>> model = yolograft.patch("best.pt", "cbam", warm="exact")
    """
    if str(base).endswith(".pt"):
        from ultralytics.utils import LOGGER

        from yolograft.warm import checkpoint

        patched = checkpoint.patch(str(base), recipe, warm)
        LOGGER.info(str(patched.report))
        return patched.model
    return graft(base, recipe, warm).config


def graft(
    base: str | Path | dict, recipe: str | dict | list, warm: str | None = None, name: str = ""
) -> Graft:
    """Do what :func:`patch` does to a config, and tell where each row came from.

    Args:
        base: As there, but no checkpoint.
        recipe: As there.
        warm: As there.
        name: What messages call the base; its file when left out.
    """
    recipes.check_warm("patch", warm)
    loaded = recipes.load_all(recipe)
    if warm:
        loaded = [recipes.exact(one) for one in loaded]
    config = deepcopy(base) if isinstance(base, dict) else load_base(str(base))
    graph = Graph(config, name)
    edits = plan(graph, [step for one in loaded for step in one.steps])
    rows, origins = splice(graph, edits)
    at = len(config["backbone"])
    backbone = [row for row, origin in zip(rows, origins, strict=True) if origin.row < at]
    new = {**config, "backbone": backbone, "head": rows[len(backbone) :]}
    names = [one.name for one in loaded]
    if file := config.get("yaml_file"):
        path = Path(file)
        new["yaml_file"] = str(path.with_name(f"{path.stem}-{'+'.join(names)}{path.suffix}"))
    new["graft"] = _provenance(config, names, origins)
    return Graft(new, origins, graph, loaded)


def load_base(name: str) -> dict:
    """Return what a model YAML holds, found as the host finds it.

    Args:
        name: Name or path.

    Raises:
        ConfigError: If there is none, or it is no model YAML.
    """
    import yaml
    from ultralytics.nn import tasks

    if not name.endswith((".yaml", ".yml")):
        refuse(f"{name}: this is no model YAML", "give a name or path such as yolo11n.yaml")
    try:
        return tasks.yaml_model_load(name)
    except ConfigError:
        raise
    except FileNotFoundError as error:
        hint = nearest(unscaled(Path(name).name), bases()) or "give a path, or a name"
        msg = f"{name}: no such model YAML\n\nHint: {hint}"
        raise ConfigError(msg) from error
    except (yaml.YAMLError, OSError, AssertionError) as error:
        msg = f"{name}: this is no model YAML ({' '.join(str(error).split())})"
        raise ConfigError(msg) from error


def bases() -> list[str]:
    """Return the names of all model YAMLs of the host and of the pack."""
    from ultralytics.utils import ROOT

    stock = [path.name for path in (ROOT / "cfg" / "models").rglob("*.yaml")]
    return sorted({*stock, *(path.name for path in recipes.CFG.glob("*.yaml"))})


def unscaled(name: str) -> str:
    """Return a file name without its scale letter: ``yolo11-seg.yaml`` for ``yolo11s-seg.yaml``."""
    return re.sub(r"(\d+)[nslmx](?=[-.])", r"\1", name, count=1)


def file_name(config: dict) -> str:
    """Return the name of a config's file; one file holds all scales, so their letter is left out.

    Args:
        config: What the host loaded.
    """
    name = Path(str(config.get("yaml_file") or "")).name
    return unscaled(name) if len(config.get("scales") or ()) > 1 else name


# ---------------------------------------------------------------------------------------- planning


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
        if graph.rows[one].block is block and not split(graph.rows[one].label)[0]:
            _refuse_again(step, graph, one)
    args = [] if block.role == "gate" else [_width(step, graph, row)]
    new = [1, step.label, _with_named(args, step.args)]
    if step.exact and not _is_exact(step, graph, row, new, row):
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
    args, named = ([], {}) if block.role == "gate" else _args_for(step, graph, row)
    new = [old.raw[1], step.label, _with_named(args, {**named, **step.args})]
    if step.exact and not _is_exact(step, graph, row, new, old.sources[0]):
        new[2] = _with_named(new[2], {"blend": [old.label, deepcopy(list(old.args))]})
    _check(step, graph, row, old.sources[0], new)
    edits.become[row] = (new, "for")


def _args_for(step: Step, graph: Graph, row: int) -> tuple[list, dict]:
    """Return positional and named arguments that do what the old row does to the shape."""
    halves = graph.halves(row)
    block, options = registry.find(step.label), graph.options(row)
    known = registry.parameters(registry.load(block))
    args, named = [_width(step, graph, row)], {}
    k, p = options.get("k", 3), options.get("p")
    if not isinstance(k, int):
        k = 3
    if block.role == "down":
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
    host, inside = split(old.label)
    if inside is block:
        _refuse_again(step, graph, row)
    _claim(edits, step, graph, row)
    if host:
        refuse(
            f"{step.where}: {graph.where(row)} holds {inside.name} where {block.name} would go",
            "leave such rows out, as in {module: C2f}",
        )
    if old.label not in registry.HOSTS:
        refuse(
            f"{step.where}: nothing can be swapped inside {graph.where(row)}",
            f"use one of {', '.join(registry.HOSTS)}",
        )
    new = [old.raw[1], f"{old.label}_{step.label}", _with_named(old.args, step.args)]
    if step.exact and not _is_exact(step, graph, row, new, old.sources[0]):
        new[2] = _with_named(new[2], {"blend": True})
    _check(step, graph, row, old.sources[0], new)
    edits.become[row] = (new, "in")


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


def _is_exact(step: Step, graph: Graph, row: int, new: list, source: int) -> bool:
    """Tell whether a new row does what the base does with no gate: tried on the two layers.

    SPDConv and DeformConv can, but training takes them elsewhere than the convolution: beside its
    weights stand zeros, three times as many or those of the offsets, which an optimizer that gives
    all weights steps of one size moves as far.
    """
    from yolograft.blocks import DeformConv, SPDConv
    from yolograft.warm import exact

    shape = graph.shapes[source] if source >= 0 else graph.picture
    rows = [new] if step.action == "insert" else [new, graph.rows[row].raw[1:]]
    if shape is None:
        return True  # refused with its reason when it is checked
    try:
        layers = [build(graph.config, [[-1, *one]], "probe", shape[0])[0] for one in rows]
    except ConfigError:
        return True  # as above
    if step.action == "insert":
        return exact.is_identity(layers[0], shape[0])
    if any(isinstance(module, SPDConv | DeformConv) for module in layers[0].modules()):
        return False
    carried = exact.carry(*layers)
    return carried is not None and not carried.fresh


def _with_named(args: list, named: dict) -> list:
    args = deepcopy(list(args))
    if args and isinstance(args[-1], dict):
        named = {**args.pop(), **named}
    return [*args, *([deepcopy(named)] if named else [])]


def _check(step: Step, graph: Graph, row: int, source: int, new: list) -> None:
    """Refuse a new row that cannot be built behind ``source``, or is no match for the base's row.

    A block inside a stage cannot change what the stage returns, so such a row is built only.
    """
    shape = graph.shapes[source] if source >= 0 else graph.picture
    if shape is None:
        refuse(f"{step.where}: {graph.where(source)} does not return one map", "select other rows")
    try:
        got = probe(graph.config, new, shape, run=step.action != "swap")
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


# ---------------------------------------------------------------------------------------- splicing


def splice(graph: Graph, edits: Edits) -> tuple[list[list], list[Origin]]:
    """Return the new rows, with every reference renumbered, and the origin of each.

    A reference that counted back from its own row still does; one that named a row still does.

    Args:
        graph: The base.
        edits: What to do.
    """
    rows, origins = [], []
    own: dict[int, int] = {-1: -1}  # base row -> new row
    to_all: dict[int, int] = {-1: -1}  # base row -> new row that its readers read instead
    to_next: dict[int, int] = {-1: -1}  # the same for the row right behind it
    for row in graph.rows:
        i = row.index
        if i in edits.gone:
            own[i] = to_all[i] = to_all[row.sources[0]]
            to_next[i] = to_next[row.sources[0]] if row.sources[0] == i - 1 else to_all[i]
            continue
        tail, relation = edits.become.get(i, (row.raw[1:], "kept"))
        given = row.raw[0] if isinstance(row.raw[0], list | tuple) else [row.raw[0]]
        sources = []
        for written, source in zip(given, row.sources, strict=True):
            new = (to_next if source == i - 1 else to_all)[source]
            relative = written < 0 and not (source == -1)
            sources.append(new - len(rows) if relative else -1 if source == -1 else new)
        one = sources if isinstance(row.raw[0], list | tuple) else sources[0]
        own[i] = to_all[i] = len(rows)
        rows.append([one, *deepcopy(tail)])
        origins.append(Origin(i, relation))
        for new, rewire in sorted(edits.follow.get(i, []), key=lambda f: f[1] == "next"):
            if rewire == "all":
                to_all[i] = len(rows)
            rows.append([-1, *deepcopy(new)])
            origins.append(Origin(i, "after"))
        to_next[i] = len(rows) - 1
    return rows, origins


def _provenance(config: dict, names: list[str], origins: list[Origin]) -> dict:
    """Return the key that tells what was grafted, with rows of the first base."""
    before = config.get("graft")
    rows = before.get("rows") if isinstance(before, dict) else None
    count = len(config["backbone"]) + len(config["head"])
    if not (isinstance(rows, list) and len(rows) == count and "base" in before):
        texts = [str(o) if o.relation != "kept" else o.row for o in origins]
        return {"base": file_name(config), "recipe": names, "rows": texts}
    texts = []
    for origin in origins:
        parent = rows[origin.row]
        if origin.relation == "after":
            texts.append(f"after {str(parent).rpartition(' ')[2]}")
        elif origin.relation != "kept" and isinstance(parent, int):
            texts.append(f"{origin.relation} {parent}")
        else:
            texts.append(parent)
    made = before.get("recipe") or []
    made = made if isinstance(made, list) else [str(made)]  # a user may have written one name
    return {"base": before["base"], "recipe": [*made, *names], "rows": texts}
