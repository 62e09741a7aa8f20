"""Time and disk that a comparison takes, from a few steps of each model."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any

from yolograft.compare import keep
from yolograft.compare.plan import disk
from yolograft.compare.records import Plan, Variant
from yolograft.compare.words import decimals, duration, render
from yolograft.config.rows import channels
from yolograft.tables import aligned

#: Images in a step of the probe on a processor, where time grows with them; a GPU gets the batch.
_IMAGES = 2

#: Steps that are timed, after warm-up.
_STEPS = 3


def _one(plan: Plan, variant: Variant) -> float:
    """Return the seconds of one run, about."""
    import torch
    from torch.utils.benchmark import Timer
    from ultralytics.cfg import get_cfg
    from ultralytics.utils.torch_utils import select_device

    from yolograft.ultra import build_model

    name = plan.devices[0]
    device = select_device(name, verbose=False)
    batch = plan.settings["batch"] if device.type == "cuda" else _IMAGES
    size = -(-plan.settings["imgsz"] // 32) * 32
    model = build_model(deepcopy(variant.config)).to(device)
    model.args = get_cfg(overrides={**plan.settings, "epochs": plan.epochs})
    image = torch.rand(batch, channels(model.yaml), size, size, device=device)

    def work(train: bool) -> None:
        model.train(train)
        with torch.set_grad_enabled(train):
            found = model(image)
        if train:
            sum(_floats(found)).backward()

    threads = torch.get_num_threads()
    train, val = (
        Timer("work(train)", globals={"work": work, "train": train}, num_threads=threads)
        .timeit(_STEPS)
        .mean
        / batch
        for train in (True, False)
    )
    fraction = plan.settings.get("fraction", 1.0)
    share = fraction if isinstance(fraction, float) and fraction <= 1 else 1.0
    return plan.epochs * (plan.images["train"] * share * train + plan.images["val"] * val)


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
    found = keep.survey(plan)
    stale, changes = keep.stale(found)
    left = Counter(one.job.variant.name for one in found if not one.record)
    here = plan.images["train"] > 0
    spent = {one.name: _one(plan, one) for one in plan.variants if here and left[one.name]}
    rows = [("variant", "what", "parameters", "GFLOPs", "finished", "time of a run")]
    for one in plan.variants:
        cost = (f"{one.params:,}", decimals(one.gflops))
        done = f"{len(plan.seeds) - left[one.name]} of {len(plan.seeds)}"
        about = duration(spent[one.name]) if one.name in spent else ""
        rows.append((one.name, f"{one.kind}: {one.source}", *cost, done, about))
    seconds = sum(spent.get(name, 0) * count for name, count in left.items())
    return render(
        "dry-run.txt",
        plan=plan,
        table=aligned(rows, right=(2, 3, 4, 5)),
        total=len(found),
        remaining=left.total(),
        stale=stale,
        changes=changes,
        here=here,
        seconds=seconds / len(plan.devices),
        bytes=disk(plan),
    ).rstrip()
