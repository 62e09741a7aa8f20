"""The control of a comparison: the base made larger, as expensive as the most expensive variant."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

from yolograft.compare import jobs, records
from yolograft.compare.records import Plan, TrainRecord, Variant
from yolograft.compare.variants import counted
from yolograft.compare.words import decimals
from yolograft.config import scale
from yolograft.errors import refuse

#: Share of GFLOPs within which the next scale is near enough to be the control.
_NEAR = 0.05
#: Share within which no nearer width is looked for.
_EQUAL = 0.01
#: Widths, a hundredth apart, that are tried until one can be built.
_NUDGES = 12


def add(plan: Plan, data: dict[str, Any], imgsz: int) -> None:
    """Add to a plan its control, the controls that have finished runs in the folder, and notes.

    Args:
        plan: With the base and the variants.
        data: From :func:`yolograft.compare.data.check`.
        imgsz: Where GFLOPs are counted.
    """
    before = _finished(plan, data, imgsz)
    control, note = scale_up(plan.base, plan.variants[1:], data, imgsz, before)
    plan.notes.append(note)
    before = [one for one in before if one is not control]
    plan.variants.extend([*before, control])
    for one in before:
        plan.notes.append(
            f"{one.name} ({decimals(one.gflops)} GFLOPs) was the control of other variants; its "
            "finished runs are kept."
        )
    if plan.base.weights:
        names = " and ".join(one.name for one in (*before, control))
        plan.notes.append(f"{names} started from scratch, the others from {plan.base.source}.")


def _finished(plan: Plan, data: dict[str, Any], imgsz: int) -> list[Variant]:
    """Return the controls of this base that have finished runs in the folder."""
    found: dict[str, Variant] = {}
    base = jobs.rows_of(plan.base.config)
    for record in records.read(plan.project).values():
        if not isinstance(record, TrainRecord) or record.kind != "control":
            continue
        rows, name = record.inputs.config, record.variant
        scales = {"scales": {rows["scale"]: rows["scales"]}} if "scales" in rows else {}
        one = Variant(name, "control", record.what, {**rows, **scales})
        same = name not in found and all(rows.get(k) == base[k] for k in ("backbone", "head"))
        if same and jobs.training(plan, one, record.seed).key == record.key:
            found[name] = counted(one, data, imgsz)
    return list(found.values())


def scale_up(
    base: Variant,
    variants: list[Variant],
    data: dict[str, Any],
    imgsz: int,
    before: list[Variant] | None = None,
) -> tuple[Variant, str]:
    """Return the base made larger, as near in GFLOPs as it gets to the most expensive variant.

    The next scale where it lies within a twentieth, else the base with wider layers. A control from
    before is taken again where it lies within a twentieth, or no other one is nearer.

    Args:
        base: With its cost.
        variants: With theirs.
        data: From :func:`yolograft.compare.data.check`.
        imgsz: Where GFLOPs are counted.
        before: Controls that have finished runs.

    Returns:
        The control, and a sentence about it.
    """
    before = before or []
    costliest = max(variants, key=lambda one: one.gflops)
    target = max(costliest.gflops, base.gflops)

    def off(one: Variant) -> float:
        return abs(one.gflops / target - 1)

    control = min(before, key=off, default=None)
    if control is None or off(control) > _NEAR:
        following = _next_scale(base, data, imgsz)
        new = [following] if following and off(following) <= _NEAR else []
        new = new or [one for one in (_widened(base, target, data, imgsz), following) if one]
        if not new:
            refuse(f"{base.name}: no wider one can be built as a control", "choose another base")
        nearest = min(new, key=off)
        if control is None or off(nearest) < off(control):
            control = replace(nearest, name=_free(nearest.name, variants, before))
    return control, (
        f"The control {control.name} ({control.source}) has {decimals(control.gflops)} GFLOPs; "
        f"the most expensive variant, {costliest.name}, has {decimals(costliest.gflops)}, the base "
        f"{decimals(base.gflops)}."
    )


def _free(name: str, variants: list[Variant], before: list[Variant]) -> str:
    """Return a name for a control that no other model has, near to the one given."""
    if name.lower() in {one.name.lower() for one in variants}:
        name = f"{name}-control"
    taken = {one.name.lower() for one in (*variants, *before)}
    names = (name, *(f"{name}-{n}" for n in range(2, len(taken) + 3)))
    return next(free for free in names if free.lower() not in taken)


def _next_scale(base: Variant, data: dict[str, Any], imgsz: int) -> Variant | None:
    scales = list(base.config.get("scales") or ())
    at = scales.index(base.config["scale"]) + 1 if base.config.get("scale") in scales else 0
    if not 0 < at < len(scales):
        return None
    name = scale.with_letter(base.name, scales[at])
    name = name if name != base.name else f"{base.name}-{scales[at]}"
    config = scale.at(deepcopy(base.config), scales[at])
    return counted(Variant(name, "control", f"scale {scales[at]}", config), data, imgsz)


def _widened(base: Variant, target: float, data: dict[str, Any], imgsz: int) -> Variant | None:
    """Return the base with its widths multiplied, by bisection; channels go in steps of 8."""
    found: list[Variant] = []

    def scaled(factor: float) -> Variant:
        config = scale.wider(deepcopy(base.config), factor)
        name = f"{base.name}-wide"
        return counted(Variant(name, "control", f"width x {factor:.3f}", config), data, imgsz)

    def wide(factor: float) -> Variant | None:
        """Return the least width from here on that can be built: attention takes some only."""
        for _ in range(_NUDGES):
            try:
                found.append(scaled(factor))
            except (AssertionError, RuntimeError):
                factor *= 1.01
            else:
                return found[-1]
        return None

    low, high = 1.0, 1.25
    while ((one := wide(high)) is None or one.gflops < target) and high < 8:
        low, high = high, high * 1.5
    for _ in range(6):
        middle = (low + high) / 2
        one = wide(middle)
        if one and abs(one.gflops / target - 1) < _EQUAL:
            break
        low, high = (middle, high) if one and one.gflops < target else (low, middle)
    larger = [one for one in found if one.gflops > base.gflops] or found[-1:]
    return min(larger, key=lambda one: (abs(one.gflops - target), one.params), default=None)
