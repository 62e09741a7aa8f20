"""Time the blocks against the forms one would write first.

Both sides hold the same weights, and their outputs are compared before anything is timed. Their
calls alternate, so that whatever else the machine does meets both; the ratio naive / ours is the
median over pairs, with a 95 % bootstrap interval. Above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is imported
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import naive
import numpy as np
import torch
from processor import processor
from torch import nn
from torch.profiler import ProfilerActivity, profile

import yolograft
from yolograft import blocks


@dataclass(frozen=True)
class Row:
    """A block of the bench.

    Attributes:
        ours: Builds the block for a width.
        naive: Builds the naive form from the block.
        parts: Builds from the block what it cannot do without; its forward is timed too.
        limit: Highest ratio block / parts to accept.
    """

    ours: Callable[[int], nn.Module]
    naive: Callable[[nn.Module], nn.Module]
    parts: Callable[[nn.Module], nn.Module] | None = None
    limit: float = 0.0


ROWS = {
    "SKConv": Row(lambda c: blocks.SKConv(c, c), naive.SKConv, naive.Branches, limit=1.2),
    "CBAM": Row(lambda c: blocks.CBAM(c), naive.CBAM),
    "SpaceToDepth": Row(lambda c: blocks.SpaceToDepth(), naive.SpaceToDepth),
    "SPDConv": Row(lambda c: blocks.SPDConv(c, 2 * c), naive.SPDConv),
}
SHAPES = ((8, 64, 80, 80), (8, 128, 40, 40), (8, 256, 20, 20))
#: Not slower than naive: the lower end of the interval is at least this.
FLOOR = 0.95
SIDES = ("ours", "naive")
MODES = ("forward", "forward + backward")
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}


def contenders(row: Row, shape: tuple[int, ...], device: str, dtype: str) -> dict[str, nn.Module]:
    """Build ours, naive and, where the row has them, the parts, with the same random weights."""
    torch.manual_seed(0)
    ours = row.ours(shape[1]).to(device, getattr(torch, dtype))
    for bn in ours.modules():
        if isinstance(bn, nn.BatchNorm2d):
            nn.init.uniform_(bn.running_mean, -0.2, 0.2)
            nn.init.uniform_(bn.running_var, 0.5, 1.5)
            nn.init.uniform_(bn.weight, 0.5, 1.5)
            nn.init.uniform_(bn.bias, -0.2, 0.2)
    built = {"ours": ours, "naive": row.naive(ours)}
    if row.parts:
        built["parts"] = row.parts(ours)
    return built


def difference(ours: nn.Module, other: nn.Module, x: torch.Tensor) -> float:
    """Return the largest difference of outputs and input gradients, over the largest value."""
    worst = 0.0
    for train in (False, True):
        found = []
        for module in (ours, other):
            leaf = x.detach().clone().requires_grad_()
            y = module.train(train)(leaf)
            (gradient,) = torch.autograd.grad(y.square().mean(), leaf)
            found.append((y.detach().float(), gradient.float()))
        for a, b in zip(*found, strict=True):
            worst = max(worst, float((a - b).abs().max() / b.abs().max()))
    return worst


def call(module: nn.Module, x: torch.Tensor, mode: str) -> Callable[[], None]:
    """Return a function that runs the module once, and keeps nothing."""
    if mode == "forward":
        module.eval()

        def run() -> None:
            with torch.no_grad():
                module(x)

        return run
    module.train()
    leaf = x.detach().clone().requires_grad_()
    grad = torch.ones_like(module(leaf))

    def run() -> None:
        module(leaf).backward(grad)
        module.zero_grad(set_to_none=True)
        leaf.grad = None

    return run


def times(calls: dict[str, Callable[[], None]], rounds: int, device: str) -> dict[str, np.ndarray]:
    """Time the calls in turn, forwards and backwards through the list.

    Args:
        calls: What to time, by name.
        rounds: Samples of each; a sample of a quick call is the mean over 10 ms of calls.
        device: ``cpu`` or ``cuda``.

    Returns:
        Seconds per call, one value per round, by name.
    """

    def sample(function: Callable[[], None], repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            function()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / repeats

    for function in calls.values():
        sample(function, 2)
    first = min(sample(function, 1) for function in calls.values())
    repeats = max(1, round(0.01 / first))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(rounds):
        for name in list(calls)[:: 1 if i % 2 else -1]:
            found[name].append(sample(calls[name], repeats))
    return {name: np.array(values) for name, values in found.items()}


def ratio(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Return the median of a / b over pairs, and its 95 % bootstrap interval."""
    pairs = np.log(a / b)
    picks = np.random.default_rng(0).choice(pairs, (4000, len(pairs)))
    low, high = np.exp(np.percentile(np.median(picks, axis=1), (2.5, 97.5)))
    return {"ratio": float(np.exp(np.median(pairs))), "low": float(low), "high": float(high)}


def peak(function: Callable[[], None], device: str) -> int:
    """Return the most bytes alive at once, of those that a call allocates.

    On a CPU these are the allocations that PyTorch's allocator reports; scratch memory inside
    oneDNN is not among them.
    """
    function()
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


def measure(
    name: str, shape: tuple[int, ...], device: str, dtype: str, rounds: int
) -> list[dict[str, object]]:
    """Compare, then time one block at one shape; return a record per mode."""
    row = ROWS[name]
    x = torch.randn(shape, device=device, dtype=getattr(torch, dtype))
    modules = contenders(row, shape, device, dtype)
    gap = difference(modules["ours"], modules["naive"], x)
    if not gap <= TOLERANCE[dtype]:
        msg = f"bench: {name} at {shape}: ours and naive differ by {gap:.1e}, so nothing was timed"
        raise SystemExit(msg)
    records = []
    for mode in MODES:
        calls = {
            key: call(module, x, mode)
            for key, module in modules.items()
            if key != "parts" or mode == "forward"
        }
        seconds = times(calls, rounds, device)
        record: dict[str, object] = {
            "block": name,
            "shape": list(shape),
            "device": device,
            "mode": mode,
            "status": "measured",
            "difference": gap,
            "milliseconds": {k: 1e3 * float(np.median(v)) for k, v in seconds.items()},
            "naive_over_ours": ratio(seconds["naive"], seconds["ours"]),
            "peak_bytes": {k: peak(calls[k], device) for k in SIDES},
        }
        if "parts" in seconds:
            record["ours_over_parts"] = ratio(seconds["ours"], seconds["parts"])
        records.append(record)
    return records


def machine() -> dict[str, object]:
    """Return what ran."""
    return {
        "cpu": processor(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "yolograft": yolograft.__version__,
    }


HEAD = (
    "| block | input | pass | ours, ms | naive, ms | naive / ours [95 %] | ours, MiB | naive, MiB |"
)


def line(record: dict) -> str:
    """Return a record as a row of the Markdown table."""
    cells = [record["block"], "x".join(map(str, record["shape"])), record["mode"]]
    ours, naive = (f"{record['milliseconds'][k]:.2f}" for k in SIDES)
    cells += [ours, naive, interval(record["naive_over_ours"])]
    cells += [f"{record['peak_bytes'][k] / 2**20:.1f}" for k in SIDES]
    return f"| {' | '.join(cells)} |"


def interval(value: dict[str, float]) -> str:
    """Return ``ratio [low, high]``."""
    return f"{value['ratio']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def verdicts(records: list[dict]) -> list[str]:
    """Return one line per claim of the bench."""
    done = [r for r in records if r["status"] == "measured"]
    slow = [r for r in done if r["naive_over_ours"]["low"] < FLOOR]
    found = [f"Slower than naive (lower end of the interval below {FLOOR}): {_places(slow)}."]
    for name, row in ROWS.items():
        parts = [r for r in done if r["block"] == name and "ours_over_parts" in r]
        if parts:
            values = ", ".join(interval(r["ours_over_parts"]) for r in parts)
            over = [r for r in parts if r["ours_over_parts"]["ratio"] > row.limit]
            found.append(
                f"{name}, forward over its branch convolutions alone: {values}; above {row.limit}: "
                f"{_places(over)}."
            )
    return found


def _places(records: list[dict]) -> str:
    names = (f"{r['block']} {'x'.join(map(str, r['shape']))} {r['mode']}" for r in records)
    return ", ".join(names) or "none"


def _load(load: float | None) -> str:
    return "load unknown" if load is None else f"load average before the start {load:.1f}"


def report(result: dict) -> str:
    """Return the Markdown page of a result."""
    about = result["machine"]
    page = [
        "# Bench: the blocks against naive forms",
        "",
        "Same weights, outputs and input gradients compared first. Calls alternate; milliseconds "
        "are medians of one call; `naive / ours` is the median over pairs with its 95 % bootstrap "
        "interval, and above 1 ours is faster. MiB: the most memory alive at once during a call, "
        "without input and weights. Forward: evaluation mode, no gradients; forward + backward: "
        f"training mode. {result['rounds']} rounds, {result['dtype']}.",
        "",
        f"CPU: {about['cpu']} ({about['isa']}), {about['cores']} cores, {about['threads']} "
        f"threads, {_load(result['load'])}. GPU: {about['gpu'] or 'none'}. "
        f"Python {about['python']}, PyTorch {about['torch']}, yolograft {about['yolograft']}.",
        "",
        *(f"- {text}" for text in verdicts(result["records"])),
    ]
    for device in sorted({r["device"] for r in result["records"]}):
        rows = [r for r in result["records"] if r["device"] == device]
        page += ["", f"## {device.upper()}", ""]
        if rows[0]["status"] == "measured":
            page += [HEAD, "|---" * 3 + "|---:" * 5 + "|", *map(line, rows)]
        else:
            page.append(f"{len(rows)} rows not measured: the machine has no GPU.")
    return "\n".join([*page, "", f"Again: `{result['command']}`", ""])


def parse_shape(text: str) -> tuple[int, ...]:
    """Read ``8x64x80x80``."""
    parts = text.split("x")
    if len(parts) != 4 or not all(p.isdigit() and int(p) for p in parts):
        msg = f"{text!r} is no shape; write batch, channels, height, width as 8x64x80x80"
        raise argparse.ArgumentTypeError(msg)
    shape = tuple(map(int, parts))
    if shape[0] < 2 or shape[2] % 2 or shape[3] % 2:
        msg = f"{text!r}: the naive forms need a batch of 2 or more, and even height and width"
        raise argparse.ArgumentTypeError(msg)
    return shape


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Example: python scripts/bench.py --blocks SKConv --shapes 8x64x80x80 --rounds 50",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    shapes = " ".join("x".join(map(str, s)) for s in SHAPES)
    add(
        "--blocks",
        nargs="+",
        choices=ROWS,
        default=list(ROWS),
        metavar="NAME",
        help=f"which blocks (default: {' '.join(ROWS)})",
    )
    add(
        "--shapes",
        nargs="+",
        type=parse_shape,
        default=SHAPES,
        metavar="BxCxHxW",
        help=f"inputs; the P3, P4 and P5 maps of a small YOLO by default ({shapes})",
    )
    add(
        "--device",
        nargs="+",
        choices=("cpu", "cuda"),
        default=["cpu", "cuda"],
        help="default: both; without a GPU the cuda rows are marked as not measured",
    )
    add("--dtype", choices=TOLERANCE, default="float32", help="of weights and inputs (%(default)s)")
    add(
        "--rounds",
        type=int,
        default=40,
        metavar="N",
        help="samples of each side (%(default)s); more rounds narrow the interval, and a busy "
        "machine needs more",
    )
    add(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        metavar="N",
        help="CPU threads (%(default)s here); fewer than the machine has leave room for its other "
        "work, which steadies the times",
    )
    add("--json", type=Path, metavar="FILE", help="write every figure here")
    add("--markdown", type=Path, metavar="FILE", help="write the table here")
    args = parser.parse_args(argv)
    for name in ("rounds", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"argument --{name}: use 1 or more")
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the bench.

    Args:
        argv: Arguments, those of the process when left out.
    """
    args = parse(argv)
    torch.set_num_threads(args.threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    work = [(n, s, d) for d in args.device for n in args.blocks for s in args.shapes]
    records: list[dict] = []
    if load and load + args.threads > (os.cpu_count() or 1) + 0.5:
        print(
            f"bench: the load average is {load:.1f}, so {args.threads} threads will wait for each "
            "other\n\nHint: use a quiet machine, or --threads 1",
            file=sys.stderr,
        )
    for i, (name, shape, device) in enumerate(work, 1):
        if device == "cuda" and not torch.cuda.is_available():
            place = {"block": name, "shape": list(shape), "device": device}
            records += [{**place, "mode": mode, "status": "not measured"} for mode in MODES]
            continue
        if i == 1 or device != work[i - 2][2]:
            print(f"{device}\n{HEAD}", flush=True)
        place = f"{name} {'x'.join(map(str, shape))} {device}"
        print(f"[{i}/{len(work)}] {place}", file=sys.stderr, flush=True)
        found = measure(name, shape, device, args.dtype, args.rounds)
        records += found
        print(*map(line, found), sep="\n", flush=True)
    options = " ".join(argv if argv is not None else sys.argv[1:])
    result = {
        "command": f"python scripts/bench.py {options}".strip(),
        "machine": machine(),
        "load": load,
        "dtype": args.dtype,
        "rounds": args.rounds,
        "records": records,
    }
    print(*verdicts(records), sep="\n")
    for file, text in ((args.json, json.dumps(result, indent=1)), (args.markdown, report(result))):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.rstrip() + "\n", encoding="utf-8")
            print(f"wrote {file}")


if __name__ == "__main__":
    main()
