"""What a graft changes, as ``yolograft patch`` prints it: rows, parameters, FLOPs and sizes."""

from __future__ import annotations

from dataclasses import dataclass

from yolograft.config import origin, scale
from yolograft.config.write import flow
from yolograft.graft.make import Graft
from yolograft.tables import aligned
from yolograft.ultra import build_model


@dataclass(frozen=True)
class Figures:
    """What a model costs: in all, and by row; ``sizes`` are those of the rows' maps."""

    params: int
    gflops: float
    rows: dict[int, tuple[int, float]]
    sizes: dict[int, str]


#: Columns of numbers.
RIGHT = (1, 3, 4)


def text(result: Graft) -> str:
    """Return a table of the changed rows, and the totals against the base.

    Args:
        result: What :func:`yolograft.graft.graft` returned.
    """
    title, rows, totals = table(result)
    return f"{title}\n{aligned(rows, right=RIGHT)}\n{totals}"


def table(result: Graft) -> tuple[str, list[tuple[str, ...]], str]:
    """Return a title, the changed rows with what each costs more or less than before, the totals.

    Args:
        result: What :func:`yolograft.graft.graft` returned.
    """
    base, new = scale.explicit(result.base.config), scale.explicit(result.config)
    classes = base["head"][-1][2] == "Classify"
    imgsz = 224 if classes else 640
    letter = scale.current(base)
    changed = [i for i, one in enumerate(result.origins) if one.relation != origin.KEPT]
    gone = sorted({row.index for row in result.base.rows} - {o.row for o in result.origins})
    touched = {result.origins[i].row for i in changed if not result.origins[i].inserted}
    before = figures(base, touched | {*gone}, imgsz)
    after = figures(new, set(changed), imgsz)

    lines = [("", "row", "module", "parameters", "GFLOPs", "output")]
    entries = [(result.origins[i].row, 1, i) for i in changed] + [(row, 0, -1) for row in gone]
    none = (0, 0.0)
    for row, there, i in sorted(entries):
        old = result.base.rows[row]
        if not there:
            was = f"{old.label} {flow(old.args)}"
            lines.append(("-", str(row), was, *_change(before.rows[row], none), ""))
        elif result.origins[i].inserted:
            now = f"{result.rows[i][2]} {flow(result.rows[i][3])}"
            lines.append(("+", str(i), now, *_change(none, after.rows[i]), after.sizes[i]))
        else:
            both = _both(old.label, old.args, *result.rows[i][2:])
            cost = _change(before.rows[row], after.rows[i])
            lines.append(("~", str(i), both, *cost, after.sizes[i]))
    total = (before.params, before.gflops), (after.params, after.gflops)
    at = f"scale {letter}, " if letter else ""
    names = " + ".join(one.name for one in result.recipes)
    title = f"{result.base.name} + {names} ({at}{imgsz} pixels)"
    return title, lines, _totals(*total)


def _both(old: str, old_args: list, new: str, new_args: list) -> str:
    """Return the module before and after; the arguments once, where they stay."""
    if list(old_args) == list(new_args):
        return f"{old} -> {new} {flow(new_args)}"
    return f"{old} {flow(old_args)} -> {new} {flow(new_args)}"


def _change(before: tuple[int, float], after: tuple[int, float]) -> tuple[str, str]:
    return f"{after[0] - before[0]:+,}", f"{after[1] - before[1]:+.2f}"


def _totals(before: tuple[int, float], after: tuple[int, float]) -> str:
    """Return parameters and GFLOPs of the whole model, before and after."""
    texts = []
    for old, new, form, unit in zip(
        before, after, (",", ".2f"), ("parameters", "GFLOPs"), strict=True
    ):
        change = f" ({100 * (new / old - 1):+.1f} %)" if old else ""
        texts.append(f"{old:{form}} -> {new:{form}} {unit}{change}")
    return "total: " + "\n       ".join(texts)


def figures(config: dict, rows: set[int], imgsz: int) -> Figures:
    """Count a model; nothing is computed, where its layers do without.

    Args:
        config: What a model YAML holds.
        rows: Rows to count by themselves, too.
        imgsz: Pixels of the image's sides.
    """
    model = build_model(config)  # what cannot be built is not tried again
    try:
        return _count(model, rows, imgsz, "meta")
    except Exception:  # a block that needs real memory gets it
        return _count(build_model(config), rows, imgsz, "cpu")


def _count(model, rows: set[int], imgsz: int, device: str) -> Figures:
    import torch

    from yolograft.cost import count

    model = model.eval()
    if device == "meta":
        strides = getattr(model.model[-1], "stride", None)
        model = model.to("meta")
        if strides is not None:  # the head reads their values
            model.stride = model.model[-1].stride = strides
    inputs, sizes = {}, {}

    def note(layer, args, output):
        inputs[layer.i] = args[0]
        sizes[layer.i] = "x".join(map(str, output.shape[1:])) if hasattr(output, "shape") else ""

    handles = [layer.register_forward_hook(note) for layer in model.model if layer.i in rows]
    whole = count(model, imgsz)
    for handle in handles:
        handle.remove()
    with torch.device(device):
        costs = {i: count(model.model[i], inputs=inputs[i]) for i in rows}
    by_row = {i: (cost.params, cost.gflops) for i, cost in costs.items()}
    return Figures(whole.params, whole.gflops, by_row, sizes)
