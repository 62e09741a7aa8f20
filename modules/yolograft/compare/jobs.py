"""The jobs of a comparison, each with the key of its inputs: equal keys mean equal results."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from yolograft import __version__
from yolograft.compare.records import Plan, SpeedInputs, SpeedJob, TrainInputs, TrainJob, Variant

#: Version of what runs compute; a run of another one is not compared with them.
FORMAT = 1


def trainings(plan: Plan) -> list[TrainJob]:
    """Return all runs, seed by seed, so that a comparison cut short has whole pairs.

    Args:
        plan: What is compared.
    """
    return [training(plan, variant, seed) for seed in plan.seeds for variant in plan.variants]


def training(plan: Plan, variant: Variant, seed: int) -> TrainJob:
    """Return one run.

    Args:
        plan: What is compared.
        variant: Which.
        seed: Which.
    """
    base = plan.base if variant.kind in ("recipe", "model") else None
    inputs = TrainInputs(
        config=rows_of(variant.config),
        start={
            "weights": _digest_file(variant.weights),
            "base": rows_of(base.config) if base else None,
            "base_weights": _digest_file(base.weights) if base else None,
            "origins": variant.origins,
        },
        data=plan.digest,
        seed=seed,
        epochs=plan.epochs,
        settings=plan.settings,
        processor=plan.devices[0].rstrip("0123456789,:") or "cuda",
        versions=versions(),
    )
    common = _common(plan, f"{variant.name}-seed{seed}", inputs)
    return TrainJob(**common, variant=variant, base=base, data=plan.data)


def speed(plan: Plan, gates: Mapping[str, list[float] | None]) -> SpeedJob:
    """Return the job that times the models of a comparison.

    Args:
        plan: What is compared.
        gates: Of each variant that has a finished run, by its name.
    """
    models = {one.name: one.config for one in plan.variants if one.name in gates}
    inputs = SpeedInputs(
        configs={name: rows_of(config) for name, config in models.items()},
        gates=dict(gates),
        imgsz=plan.settings["imgsz"],
        versions=versions(),
        processor="cpu" if plan.devices[0] == "cpu" else "gpu",
    )
    return SpeedJob(**_common(plan, "speed", inputs), models=models)


def _common(plan: Plan, name: str, inputs: TrainInputs | SpeedInputs) -> dict[str, Any]:
    """Return what all jobs have: ``OMP_NUM_THREADS`` is one, as sums of floats depend on it."""
    return {
        "id": name,
        "key": key_of(inputs),
        "folder": str(plan.project / "runs" / name),
        "threads": os.environ.get("OMP_NUM_THREADS") or "1",  # Ultralytics' own default
        "inputs": inputs,
    }


def versions() -> dict[str, str]:
    """Return the versions that a run's numbers depend on."""
    names = ("ultralytics", "torch", "torchvision", "numpy", "opencv-python")
    found = {"yolograft": __version__, "format": str(FORMAT)}
    for name in names:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:  # opencv has several distributions
            found[name] = ""
    return found


def key_of(inputs: TrainInputs | SpeedInputs) -> str:
    """Return a digest of a job's inputs.

    Args:
        inputs: All that decides its numbers.
    """
    content = json.dumps(asdict(inputs), sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def rows_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return what of a config makes the model, without where it came from.

    Args:
        config: The content of a model YAML.
    """
    rows = {k: v for k, v in config.items() if k not in ("yaml_file", "graft", "scales", "names")}
    if config.get("scales"):  # the other scales' numbers make no difference
        rows["scales"] = config["scales"][config["scale"]]
    return rows


@cache
def _digest_file(path: str | None) -> str | None:
    return path and hashlib.sha256(Path(path).read_bytes()).hexdigest()


def differences(job: TrainJob, old: TrainInputs) -> list[str]:
    """Return in what inputs of a record differ from those of a job.

    Args:
        job: What is asked for.
        old: Of the record.
    """
    new, found = job.inputs, []
    for before, now in ((old.versions, new.versions), (old.settings, new.settings)):
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                found.append(f"{key} {before.get(key, 'not set')}, now {now.get(key, 'not set')}")
    for name in ("epochs", "processor"):
        if getattr(old, name) != getattr(new, name):
            found.append(f"{name} {getattr(old, name)}, now {getattr(new, name)}")
    if old.data != new.data:
        found.append("the data")
    if old.config != new.config:
        found.append(f"the model {job.variant.name}")
    elif old.start != new.start:
        found.append(f"the start of {job.variant.name}")
    return found or ["the models"]


def of_other_settings(old: TrainInputs, new: TrainInputs) -> bool:
    """Tell whether two runs differ in more than model and seed.

    Args:
        old: Inputs of a run.
        new: Inputs of another one.
    """
    shared = ("versions", "settings", "epochs", "data", "processor")
    return any(getattr(old, name) != getattr(new, name) for name in shared)
