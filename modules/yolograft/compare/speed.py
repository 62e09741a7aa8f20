"""Latency and throughput of the fused models, measured in turns, and what they ran on.

Each model gets a short block of calls in every round, warm first: what slows the machine for a
while slows all of them. Time is of the forward pass alone, without reading images and NMS.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from yolograft.blocks.blend import Blend
from yolograft.compare.jobs import versions
from yolograft.compare.records import SpeedJob, SpeedRecord, Timing
from yolograft.config.rows import channels

#: Batches that are timed.
BATCHES = (1, 32)

#: Rounds, and calls of each model in one, after as many that are thrown away.
ROUNDS, CALLS = 10, 3

#: Seconds for one batch size, about; there are fewer rounds, 3 at least, where they take longer.
BUDGET = 60.0


def measure(job: SpeedJob) -> SpeedRecord:
    """Return latencies of all models of a comparison.

    Args:
        job: With ``device``.
    """
    from ultralytics.utils.torch_utils import select_device

    device = select_device(job.device, verbose=False)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    models = {
        name: _fused(config, job.inputs.gates[name], device, dtype)
        for name, config in job.models.items()
    }
    found: dict[str, dict[str, Timing]] = {name: {} for name in models}
    size = -(-job.inputs.imgsz // 32) * 32
    for batch in BATCHES:
        for name, seconds in _times(models, batch, size, device, dtype).items():
            ordered = sorted(seconds)
            quarter = len(ordered) // 4
            median = statistics.median(ordered)
            found[name][str(batch)] = Timing(
                milliseconds=1e3 * median,
                low=1e3 * ordered[quarter],
                high=1e3 * ordered[-1 - quarter],
                images_per_second=batch / median,
                calls=len(ordered),
            )
    return SpeedRecord(
        id=job.id,
        key=job.key,
        inputs=job.inputs,
        models=found,
        precision=str(dtype).removeprefix("torch."),
        imgsz=size,
        environment=environment(device),
    )


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a run ran on.

    Args:
        device: Where it runs.
    """
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "host": platform.node(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        **versions(),
    }


def device_name(device: torch.device) -> str:
    """Return the name of a GPU or of the processor.

    Args:
        device: Where it runs.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    return name or platform.processor() or platform.machine()


def gates(model: torch.nn.Module) -> list[float]:
    """Return for each residual gate of a trained model what it becomes when the model is fused.

    Args:
        model: From its checkpoint.

    Returns:
        0 and 1 for gates that leave one layer, 0.5 for those that keep both.
    """
    found = []
    for gate in _gates(model):
        left = gate.folded()
        found.append(0.0 if left is gate.old else 1.0 if left is gate.new else 0.5)
    return found


def _gates(model: torch.nn.Module) -> list[Blend]:
    return [one for one in model.modules() if isinstance(one, Blend)]


def _fused(
    config: dict[str, Any], trained: list[float] | None, device: torch.device, dtype: torch.dtype
) -> torch.nn.Module:
    """Return a model as its checkpoint runs: with the gates that training has opened."""
    from yolograft.ultra import build_model

    model = build_model(dict(config)).eval()
    with torch.no_grad():
        for n, gate in enumerate(_gates(model)):
            gate.gamma.fill_(trained[n] if trained else 0.5)
    return model.fuse(verbose=False).to(device, dtype).requires_grad_(False)


def _times(
    models: dict[str, torch.nn.Module],
    batch: int,
    size: int,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, list[float]]:
    first = next(iter(models.values()))
    image = torch.rand(batch, channels(first.yaml), size, size, device=device, dtype=dtype)
    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    seconds: dict[str, list[float]] = {name: [] for name in models}
    calls = CALLS if device.type == "cpu" else 10 * CALLS
    begin = time.perf_counter()
    with torch.inference_mode():
        for n in range(ROUNDS):
            for name, model in models.items():
                for warm in (True, False):
                    for _ in range(calls):
                        wait()
                        start = time.perf_counter()
                        model(image)
                        wait()
                        if not warm:
                            seconds[name].append(time.perf_counter() - start)
            if n >= 2 and time.perf_counter() - begin > BUDGET:
                break
    return seconds
