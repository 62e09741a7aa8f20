"""What the benches share: machine and versions, timing in turns, Markdown tables and files."""

from __future__ import annotations

import importlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is imported
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from yolograft import files
from yolograft.compare.speed import device_name

ROOT = Path(__file__).resolve().parents[2]
#: Where the published pages are.
RESULTS = ROOT / "docs" / "results"


def recipe_names() -> list[str]:
    """Return the names of the pack's recipes."""
    return sorted(path.stem for path in (files.CFG / "recipes").glob("*.yaml"))


# ------------------------------------------------------------------------------------- the machine


def machine() -> dict[str, object]:
    """Return the processor and its cores."""
    return {"cpu": device_name(torch.device("cpu")), "cores": os.cpu_count()}


def load() -> float | None:
    """Return the load average of the last minute, or ``None`` where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def version(package: str) -> str | None:
    """Return the version of a package, or ``None`` if it is not installed."""
    try:
        return importlib.import_module(package).__version__
    except ImportError:
        return None


def versions(*packages: str) -> dict[str, str | None]:
    """Return the versions of Python and of packages."""
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


# ------------------------------------------------------------------------------------------ timing


@dataclass(frozen=True)
class Effort:
    """How long to measure one block in one mode.

    Attributes:
        rounds: Most samples of each side.
        least: Fewest samples of each side.
        seconds: Where ``rounds`` would take longer than this, there are fewer.
    """

    rounds: int
    least: int
    seconds: float


def times(
    calls: dict[str, Callable[[], object]], effort: Effort, device: str
) -> dict[str, np.ndarray]:
    """Time calls, which have run before, in turn, forwards and backwards through the list.

    Args:
        calls: What to time, by name.
        effort: How many samples; a sample of a quick call is the mean over 10 ms of calls.
        device: ``cpu`` or ``cuda``.

    Returns:
        Seconds per call, one value per round, by name.
    """

    def sample(function: Callable[[], object], repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            function()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / repeats

    if device == "cuda":
        torch.cuda.synchronize()
    first = [sample(function, 1) for function in calls.values()]
    repeats = max(1, round(0.01 / min(first)))
    affordable = int(effort.seconds / (repeats * sum(first)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(min(effort.rounds, max(effort.least, affordable))):
        for name in list(calls)[:: 1 if i % 2 else -1]:
            found[name].append(sample(calls[name], repeats))
    return {name: np.array(values) for name, values in found.items()}


def ratio(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Return the median of a / b over pairs, and its 95 % bootstrap interval."""
    pairs = np.log(a / b)
    picks = np.random.default_rng(0).choice(pairs, (4000, len(pairs)))
    low, high = np.exp(np.percentile(np.median(picks, axis=1), (2.5, 97.5)))
    return {"ratio": float(np.exp(np.median(pairs))), "low": float(low), "high": float(high)}


def peak(function: Callable[[], object], device: str) -> int:
    """Return the most bytes alive at once, of those that a call allocates.

    On a CPU these are the allocations that PyTorch's allocator reports; scratch memory inside
    oneDNN is not among them.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    alive: dict[int, int] = {}
    most = 0
    for event in sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: e["ts"]):
        size, address = event["args"]["Bytes"], event["args"]["Addr"]
        if size > 0:
            alive[address] = size
        else:
            alive.pop(address, None)
        most = max(most, sum(alive.values()))
    return most


# ----------------------------------------------------------------------------------------- reports


def interval(value: dict[str, float]) -> str:
    """Return ``ratio [low, high]``."""
    return f"{value['ratio']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def line(cells: Iterable[object]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def table(rows: Sequence[Sequence[object]], align: str) -> str:
    """Return a Markdown table.

    Args:
        rows: The header, then the others.
        align: ``l``, ``c`` or ``r`` for each column; the last one stands for all that follow.
    """
    marks = {"l": "---", "c": ":-:", "r": "---:"}
    rule = [marks[letter] for letter in align.ljust(len(rows[0]), align[-1])]
    return "\n".join(map(line, (rows[0], rule, *rows[1:])))


def save(file: Path | None, content: str | dict) -> None:
    """Write a text, or a mapping as JSON, if a file is given.

    Args:
        file: Where; ``None`` for nowhere.
        content: A text, or a mapping that is written as JSON.
    """
    if file:
        text = content if isinstance(content, str) else json.dumps(content, indent=1)
        files.write(file, text.rstrip() + "\n")
        print(f"wrote {file}")
