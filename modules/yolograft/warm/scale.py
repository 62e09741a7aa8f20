"""A checkpoint of another scale is refused: none of its layers is one of the config's."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from yolograft.config import scale
from yolograft.errors import refuse
from yolograft.warm.layers import fitting, name
from yolograft.warm.match import align
from yolograft.warm.rebuild import build
from yolograft.warm.trace import Trace


def check(target: nn.Module, source: nn.Module, mine: Trace, theirs: Trace) -> None:
    """Refuse a checkpoint whose layers have other widths or depths than the config's.

    Layers are compared with those of their kind, at the same strides and in the same order. Only
    where most differ, from the first on, is it another scale: all else are edits by hand, and what
    fits is carried.

    Args:
        target: The model to fill.
        source: The model of a checkpoint.
        mine: The trace of the target.
        theirs: The trace of the source.

    Raises:
        ConfigError: If the checkpoint is of another scale.
    """
    kin = _kin(target, source, lambda i, j: mine.strides(i) == theirs.strides(j) is not None)
    in_order = _kin(target, source, lambda i, j: True)

    def widths(pairs: dict[int, int]) -> list[tuple[int, int]]:
        return [(mine.width(i), theirs.width(j)) for i, j in pairs.items()]

    def depths(pairs: dict[int, int]) -> list[tuple[int, int]]:
        both = [(_depth(target.model[i]), _depth(source.model[j])) for i, j in pairs.items()]
        return [pair for pair in both if any(pair)]

    def differ(measure: Callable[[dict[int, int]], list[tuple[int, int]]]) -> bool:
        ordered = measure(in_order)
        return _mostly_differ(measure(kin)) and (not ordered or _mostly_differ(ordered))

    if differ(widths):
        here, there = [f"{min(one)} to {max(one)}" for one in zip(*widths(kin), strict=True)]
        fact = f"its layers have {there} channels, those of the config {here}"
    elif differ(depths):
        here, there = [", ".join(map(str, one)) for one in zip(*depths(kin), strict=True)]
        fact = f"its stages hold {there} blocks, those of the config {here}"
    else:
        return
    config = target.yaml.get("yaml_file") or ""
    here = scale.current(target.yaml)
    there = _letter(target, source, kin)
    if here and there not in ("", here):
        refuse(
            f"{name(source)} is a model of scale {there}, the config {config} is of scale {here}: "
            f"{fact}",
            f"use the config at scale {there}, or a checkpoint of scale {here}",
        )
    refuse(
        f"{name(source)} is a model of another scale than the config {config}: {fact}",
        "use a config with the checkpoint's widths and depths, or a checkpoint of this config",
    )


def _kin(target: nn.Module, source: nn.Module, may: Callable[[int, int], bool]) -> dict[int, int]:
    """Return the layers of one kind in two models, without the heads."""

    def score(i: int, j: int) -> int:
        layer, other = target.model[i], source.model[j]
        return int(type(layer) is type(other) and bool(layer.state_dict()) and may(i, j))

    rows, columns = range(len(target.model) - 1), range(len(source.model) - 1)
    return align([[score(i, j) for j in columns] for i in rows])[0]


def _mostly_differ(pairs: list[tuple[int, int]]) -> bool:
    return 2 * sum(a != b for a, b in pairs) > len(pairs) and pairs[0][0] != pairs[0][1]


def _depth(layer: nn.Module) -> int:
    """Return how many blocks a stage holds; 0 for a layer that holds none."""
    lists = (nn.ModuleList, nn.Sequential)
    return max((len(m) for m in (layer, *layer.children()) if isinstance(m, lists)), default=0)


def _letter(target: nn.Module, source: nn.Module, kin: dict[int, int]) -> str:
    """Return the scale at which most layers of the config are those of a checkpoint, if any is."""
    found = {}
    for letter in target.yaml.get("scales") or ():
        layers = build(scale.at(target.yaml, letter))
        if layers is None:
            return ""
        states = [(layers[i].state_dict(), source.model[j].state_dict()) for i, j in kin.items()]
        same = [len(fitting(a, b)) for a, b in states]
        found[letter] = sum(
            n / (len(a) + len(b) - n) for n, (a, b) in zip(same, states, strict=True)
        )
    best = max(found, key=found.get, default="")
    return best if best and 2 * found[best] > len(kin) else ""
