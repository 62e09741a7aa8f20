"""Time and disk that a comparison takes, from a few steps of each model."""

from __future__ import annotations

import time
from collections import Counter
from copy import deepcopy
from typing import Any

from yolograft.compare import run
from yolograft.compare.plan import Plan, Variant, decimals

#: Images in a step of the probe on a processor, where time grows with them; a GPU gets the batch.
_IMAGES = 2

#: Steps that are timed, after one that is not.
_STEPS = 3


def _one(plan: Plan, variant: Variant) -> float:
    """Return the seconds of one run, about."""
    import torch
    from ultralytics.cfg import get_cfg
    from ultralytics.utils.torch_utils import select_device

    from yolograft.graft.preview import host_model

    name = plan.devices[0]
    device = select_device(name, verbose=False)
    batch = plan.settings["batch"] if device.type == "cuda" else _IMAGES
    size = -(-plan.settings["imgsz"] // 32) * 32
    model = host_model(deepcopy(variant.config)).to(device)
    model.args = get_cfg(overrides={**plan.settings, "epochs": plan.epochs})
    image = torch.rand(batch, model.yaml.get("channels", 3), size, size, device=device)

    def work(train: bool) -> None:
        model.train(train)
        with torch.set_grad_enabled(train):
            found = model(image)
        if train:
            sum(_floats(found)).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    spent = {}
    for train in (True, False):
        work(train)
        taken = []
        for _ in range(_STEPS):
            start = time.perf_counter()
            work(train)
            taken.append(time.perf_counter() - start)
        spent[train] = min(taken) / batch  # what else the machine does only adds to it
    fraction = plan.settings.get("fraction", 1.0)
    share = fraction if isinstance(fraction, float) and fraction <= 1 else 1.0
    epoch = plan.images["train"] * share * spent[True] + plan.images["val"] * spent[False]
    return plan.epochs * epoch


def _floats(found: Any) -> list:
    """Return the sum of each floating point tensor of a nested output."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list | tuple):
        return [one for part in found for one in _floats(part)]
    return (
        [found.float().sum()] if hasattr(found, "is_floating_point") and found.requires_grad else []
    )


def text(plan: Plan) -> str:
    """Return the plan as ``--dry-run`` prints it; reading images is not in the times.

    Args:
        plan: What is compared.
    """
    found = run.survey(plan)
    stale, changes = run.others(found)
    left = Counter(job["variant"] for job, record, _ in found if not record)
    here = plan.images["train"] > 0
    spent = {one.name: _one(plan, one) for one in plan.variants if here and left[one.name]}
    rows = [("variant", "what", "parameters", "GFLOPs", "finished", "time of a run")]
    for one in plan.variants:
        cost = (f"{one.params:,}", decimals(one.gflops))
        done = f"{len(plan.seeds) - left[one.name]} of {len(plan.seeds)}"
        about = duration(spent[one.name]) if one.name in spent else ""
        rows.append((one.name, f"{one.kind}: {one.source}", *cost, done, about))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(
            cell.rjust(w) if n > 1 else cell.ljust(w)
            for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines = [*table, "", *plan.notes]
    lines += [plan.unequal] if plan.unequal else []
    images = (
        f" on {plan.images['train']} training and {plan.images['val']} validation images"
        if here
        else ""
    )
    lines.append(
        f"{len(found)} runs of {plan.epochs} epochs{images}, "
        f"seeds {', '.join(map(str, plan.seeds))}."
    )
    lines.append(f"Finished: {len(found) - left.total()}. Remaining: {left.total()}.")
    if stale:
        lines.append(
            f"{len(stale)} runs in the folder are finished with other versions or settings "
            f"({changes}): the comparison needs another --project, or --force."
        )
    if not here:
        lines.append(
            f"{plan.data}: the data are not here yet. The comparison downloads or draws them first."
        )
    elif left:
        total = sum(spent[name] * count for name, count in left.items()) / len(plan.devices)
        lines.append(
            f"About {duration(total)} on {', '.join(plan.devices)} one run at a time each, and up "
            f"to {plan.disk() / 1e9:.1f} GB in {plan.project}."
        )
        lines.append(
            "The time is of the models alone: reading and augmenting images comes on top where it "
            "is slower."
        )
    return "\n".join(lines)


def duration(value: float) -> str:
    """Return seconds in words of one unit or two.

    Args:
        value: Seconds.
    """
    value = round(value)
    if value < 60:
        return f"{value} s"
    if value < 3600:
        return f"{value // 60} min {value % 60:02} s"
    return f"{value // 3600} h {value % 3600 // 60:02} min"
