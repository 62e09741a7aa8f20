"""Time the blocks against the forms one would write first, and against public libraries.

All sides hold the same weights, and their outputs are compared before anything is timed. Their
calls alternate, so that whatever else the machine does meets each of them; a ratio theirs / ours is
the median over pairs, with a 95 % bootstrap interval. Above 1, ours is faster.

timm and mmcv come with `pip install -e ".[bench]"`.
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
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is imported
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import bench_coco
import bench_report
import naive
import numpy as np
import public
import torch
from processor import processor
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import yolograft
from yolograft import blocks


def _one(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [shape]


def _heads(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    b, c, h, w = shape
    return [(b, 4, c // 4, h, w)] * 3


def _pyramid(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    b, c, h, w = shape
    return [(b, c // 4 * 2**n, h >> n, w >> n) for n in range(3)]


@dataclass(frozen=True)
class Row:
    """A block of the bench.

    Attributes:
        ours: Builds the block for a width.
        naive: Builds the naive form from the block.
        parts: Builds from the block what it cannot do without; its forward is timed too.
        gate: Whether it must read its map twice and write it once; the time of that is given too.
        inputs: Shapes of the inputs, from the shape of the row.
        on_list: Whether the block takes its inputs as a list.
    """

    ours: Callable[[int], nn.Module]
    naive: Callable[[nn.Module], nn.Module]
    parts: Callable[[nn.Module], nn.Module] | None = None
    gate: bool = False
    inputs: Callable[[tuple[int, ...]], list[tuple[int, ...]]] = _one
    on_list: bool = False


ROWS = {
    "SKConv": Row(lambda c: blocks.SKConv(c, c), naive.SKConv, naive.Branches),
    "SKUnit": Row(lambda c: blocks.SKUnit(c, c), naive.SKUnit),
    "SpaceToDepth": Row(lambda c: blocks.SpaceToDepth(), naive.SpaceToDepth),
    "SPDConv": Row(lambda c: blocks.SPDConv(c, 2 * c), naive.SPDConv),
    "SE": Row(lambda c: blocks.SE(c), naive.SE, gate=True),
    "CBAM": Row(lambda c: blocks.CBAM(c), naive.CBAM, gate=True),
    "CoordAtt": Row(lambda c: blocks.CoordAtt(c), naive.CoordAtt, gate=True),
    "GlobalContext": Row(lambda c: blocks.GlobalContext(c), naive.GlobalContext, gate=True),
    "StripPooling": Row(lambda c: blocks.StripPooling(c), naive.StripPooling, gate=True),
    "MixedPooling": Row(lambda c: blocks.MixedPooling(c), naive.MixedPooling),
    "ACmix": Row(lambda c: blocks.ACmix(c, c), naive.ACmix),
    "ACmix attention": Row(
        lambda c: blocks.ACmix(c, c).attention, naive.WindowAttention, inputs=_heads
    ),
    "NonLocal": Row(lambda c: blocks.NonLocal(c), naive.NonLocal),
    "DeformConv": Row(lambda c: blocks.DeformConv(c, c), naive.DeformConv),
    "STN": Row(lambda c: blocks.STN(c), naive.STN),
    "ASPP": Row(lambda c: blocks.ASPP(c, c), naive.ASPP),
    "HRModule": Row(
        lambda c: blocks.HRModule((c // 4, c // 2, c)),
        naive.HRModule,
        inputs=_pyramid,
        on_list=True,
    ),
}
SHAPES = ((8, 64, 80, 80), (8, 128, 40, 40), (8, 256, 20, 20))
QUICK = ((2, 64, 80, 80),)
MODES = ("forward", "forward + backward")
DTYPES = ("float32", "bfloat16", "float16")
#: Largest difference to ours, over the largest value, in float64: float32 would do for the outputs,
#: but where rounding moves a value across the edge of a ReLU, its gradient jumps.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Effort:
    """How long to look at one block in one mode.

    Attributes:
        rounds: Most samples of each side.
        least: Fewest samples of each side.
        seconds: Where ``rounds`` would take longer than this, there are fewer.
    """

    rounds: int
    least: int
    seconds: float


class _OnList(nn.Module):
    """A module that takes a list, as one that takes maps."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *maps: Tensor) -> list[Tensor]:
        return self.module(list(maps))


class _Copy(nn.Module):
    """Reads a map and writes it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


def contenders(
    name: str, shape: tuple[int, ...], libraries: tuple[str, ...] = ()
) -> dict[str, nn.Module]:
    """Build ours, naive, the libraries' forms and the parts, with the same random weights."""
    row = ROWS[name]
    torch.manual_seed(0)
    ours = row.ours(shape[1])
    for parameter in ours.parameters():
        if not parameter.any():  # what starts as zero would hide what comes before it
            nn.init.normal_(parameter, std=0.05)
    for bn in ours.modules():
        if isinstance(bn, nn.BatchNorm2d):
            nn.init.uniform_(bn.running_mean, -0.2, 0.2)
            nn.init.uniform_(bn.running_var, 0.5, 1.5)
            nn.init.uniform_(bn.weight, 0.5, 1.5)
            nn.init.uniform_(bn.bias, -0.2, 0.2)
    built = {"ours": ours, "naive": row.naive(ours)}
    for library in libraries:
        if name in public.FORMS[library]:
            built[library] = public.FORMS[library][name].build(ours)
    if row.parts:
        built["parts"] = row.parts(ours)
    return {side: _OnList(m) if row.on_list else m for side, m in built.items()}


def _tuple(y: Tensor | list[Tensor]) -> tuple[Tensor, ...]:
    return (y,) if isinstance(y, Tensor) else tuple(y)


def difference(ours: nn.Module, other: nn.Module, inputs: list[Tensor]) -> float:
    """Return the largest difference of outputs and input gradients, over the largest value."""
    worst = 0.0
    modules = deepcopy((ours, other))  # training changes statistics
    for train in (False, True):
        found = []
        for module in modules:
            leaves = [x.detach().clone().requires_grad_() for x in inputs]
            y = module.train(train)(*leaves)
            outputs = _tuple(module.align(y) if hasattr(module, "align") else y)
            loss = sum(y.square().mean() for y in outputs)
            found.append([y.detach() for y in outputs] + [*torch.autograd.grad(loss, leaves)])
        for a, b in zip(*found, strict=True):
            worst = max(worst, float((a - b).abs().max() / b.abs().max()))
    return worst


def call(module: nn.Module, inputs: list[Tensor], mode: str) -> Callable[[], None]:
    """Return a function that runs the module once, and keeps nothing."""
    if mode == "forward":
        module.eval()

        def run() -> None:
            with torch.no_grad():
                module(*inputs)

        return run
    module.train()
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    grads: list[Tensor] = []

    def run() -> None:
        outputs = _tuple(module(*leaves))
        if not grads:  # the first time
            grads.extend(torch.ones_like(y) for y in outputs)
        torch.autograd.backward(outputs, grads)
        module.zero_grad(set_to_none=True)
        for leaf in leaves:
            leaf.grad = None

    return run


def times(
    calls: dict[str, Callable[[], None]], effort: Effort, device: str
) -> dict[str, np.ndarray]:
    """Time calls, which have run before, in turn, forwards and backwards through the list.

    Args:
        calls: What to time, by name.
        effort: How many samples; a sample of a quick call is the mean over 10 ms of calls.
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


def peak(function: Callable[[], None], device: str) -> int:
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


def compare(name: str, modules: dict[str, nn.Module], inputs: list[Tensor]) -> dict[str, float]:
    """Return how far each side is from ours, in float64 on two of the images.

    Raises:
        SystemExit: If it is further than rounding explains.
    """
    modules = {side: m.double() for side, m in deepcopy(modules).items() if side != "parts"}
    ours = modules.pop("ours")
    few = [x[:2].double() for x in inputs]
    gaps = {side: difference(ours, module, few) for side, module in modules.items()}
    for side, gap in gaps.items():
        if not gap <= TOLERANCE:
            msg = (
                f"bench: {name} at {tuple(inputs[0].shape)}: ours and {side} differ by {gap:.1e}, "
                "so nothing was timed"
            )
            raise SystemExit(msg)
    return gaps


def measure(
    name: str,
    shape: tuple[int, ...],
    device: str,
    libraries: tuple[str, ...],
    variants: list[tuple[str, bool]],
    effort: Effort,
) -> list[dict[str, object]]:
    """Compare, then time one block at one shape; return a record per variant and mode.

    Args:
        name: The block.
        shape: Shape of the row.
        device: ``cpu`` or ``cuda``.
        libraries: Public libraries to compare with.
        variants: Pairs of dtype, and whether to compile.
        effort: How many samples to take.
    """
    modules = {k: m.to(device) for k, m in contenders(name, shape, libraries).items()}
    inputs = [torch.randn(s, device=device) for s in ROWS[name].inputs(shape)]
    gaps = compare(name, modules, inputs)
    records = []
    for dtype, compiled in variants:
        kind = getattr(torch, dtype)
        maps = [x.to(kind) for x in inputs]
        torch._dynamo.reset()
        chosen = {
            side: torch.compile(m) if compiled else m
            for side, m in deepcopy(modules).items()
            if side != "parts" or not compiled
        }
        for module in chosen.values():
            module.to(kind)
        for mode in MODES:
            calls: dict[str, Callable[[], None]] = {}
            left_out: dict[str, str] = {}
            for side, module in chosen.items():
                if side == "parts" and mode != "forward":
                    continue
                try:
                    calls[side] = call(module, maps, mode)
                    calls[side]()
                except Exception as error:
                    if side == "ours":
                        raise
                    calls.pop(side, None)
                    left_out[side] = str(error).strip().splitlines()[0]
            sides = [side for side in calls if side != "parts"]
            if ROWS[name].gate and mode == "forward":
                calls["copy"] = call(_Copy(), maps, mode)
                calls["copy"]()
            seconds = times(calls, effort, device)
            if "copy" in seconds:  # which reads once and writes once
                seconds["floor"] = 1.5 * seconds.pop("copy")
            records.append(
                {
                    **place(name, shape, device, dtype, compiled, mode),
                    "status": "measured",
                    "difference": gaps,
                    "left_out": left_out,
                    "rounds": len(seconds["ours"]),
                    "milliseconds": {k: 1e3 * float(np.median(v)) for k, v in seconds.items()},
                    "over_ours": {
                        k: ratio(v, seconds["ours"]) for k, v in seconds.items() if k != "ours"
                    },
                    "peak_bytes": {k: peak(calls[k], device) for k in sides},
                }
            )
    return records


def place(
    name: str, shape: tuple[int, ...], device: str, dtype: str, compiled: bool, mode: str
) -> dict[str, object]:
    """Return what tells one record from another."""
    return {
        "block": name,
        "shape": list(shape),
        "device": device,
        "dtype": dtype,
        "compiled": compiled,
        "mode": mode,
    }


def machine(libraries: tuple[str, ...]) -> dict[str, object]:
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
        **{name: public.version(name) for name in libraries},
    }


def parse_shape(text: str) -> tuple[int, ...]:
    """Read ``8x64x80x80``."""
    parts = text.split("x")
    if len(parts) != 4 or not all(p.isdigit() and int(p) for p in parts):
        msg = f"{text!r} is no shape; write batch, channels, height, width as 8x64x80x80"
        raise argparse.ArgumentTypeError(msg)
    shape = tuple(map(int, parts))
    if shape[0] < 2 or shape[2] % 4 or shape[3] % 4:
        msg = f"{text!r}: the naive forms need a batch of 2 or more, height and width of 4, 8, ..."
        raise argparse.ArgumentTypeError(msg)
    return shape


def parse_libraries(text: str) -> tuple[str, ...]:
    """Read ``timm,mmcv``."""
    names = tuple(name for name in dict.fromkeys(text.split(",")) if name != "naive")
    for name in names:
        if name not in public.FORMS:
            msg = f"{name!r} is none of {', '.join(public.FORMS)}"
            raise argparse.ArgumentTypeError(msg)
        if public.version(name) is None:
            msg = f'{name} is not installed; pip install -e ".[bench]" brings it'
            raise argparse.ArgumentTypeError(msg)
    return names


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Example: python scripts/bench.py --against timm,mmcv,torchvision --compile "
        "--dtype float32 bfloat16 --markdown bench.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    shapes = " ".join("x".join(map(str, s)) for s in SHAPES)
    add(
        "--against",
        type=parse_libraries,
        default=(),
        metavar="LIB,LIB",
        help=f"public libraries to compare with, of {','.join(public.FORMS)}; the naive forms "
        "always run (default: they alone)",
    )
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
    add(
        "--dtype",
        nargs="+",
        choices=DTYPES,
        default=["float32"],
        help="of weights and inputs (default: float32); all shapes run in the first, the "
        "middle one in others",
    )
    add(
        "--compile",
        action="store_true",
        help="measure torch.compile of all sides too, in the first dtype at the middle shape",
    )
    add(
        "--rounds",
        type=int,
        default=40,
        metavar="N",
        help="most samples of each side (%(default)s); more rounds narrow the interval, and a busy "
        "machine needs more; where they would take over 8 s, there are fewer, at least 5",
    )
    add(
        "--quick",
        action="store_true",
        help=f"one shape, {'x'.join(map(str, QUICK[0]))}, and a few rounds: three minutes on two "
        "cores, wide intervals",
    )
    add(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        metavar="N",
        help="CPU threads (%(default)s here); fewer than the machine has leave room for its other "
        "work, which steadies the times",
    )
    add(
        "--coco",
        nargs="?",
        type=float,
        const=1.0,
        metavar="SHARE",
        help="measure the index of COCO JSON instead, on a drawn set of COCO train2017's size or "
        "this share of it; the full size takes ten minutes, 10 GB of memory and 5 GB of disk",
    )
    add("--json", type=Path, metavar="FILE", help="write every figure here")
    add("--markdown", type=Path, metavar="FILE", help="write the table here")
    args = parser.parse_args(argv)
    for name in ("rounds", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"argument --{name}: use 1 or more")
    if args.coco is not None and not 0 < args.coco <= 1:
        parser.error("argument --coco: use a share above 0, up to 1")
    if args.quick and (args.compile or args.dtype != ["float32"]):
        parser.error("argument --quick: it is eager and float32; leave out --compile and --dtype")
    return args


def plan(args: argparse.Namespace) -> list[tuple]:
    """Return what to measure: device, block, shape, variants.

    The first dtype is measured at all shapes, other dtypes and ``torch.compile`` of the first at
    the middle one: compiling takes longer than measuring.
    """
    shapes = args.shapes or (QUICK if args.quick else SHAPES)
    middle = shapes[len(shapes) // 2]
    variants = [(dtype, False) for dtype in args.dtype] + [(args.dtype[0], True)] * args.compile
    return [
        (device, name, shape, variants if shape == middle else variants[:1])
        for device in args.device
        for name in args.blocks
        for shape in shapes
    ]


def main(argv: list[str] | None = None) -> None:
    """Run the bench.

    Args:
        argv: Arguments, those of the process when left out.
    """
    args = parse(argv)
    if args.coco:
        bench_coco.run(args.coco, args.markdown, args.json)
        return
    torch.set_num_threads(args.threads)
    effort = Effort(min(args.rounds, 9), 3, 0.8) if args.quick else Effort(args.rounds, 5, 8.0)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    work = plan(args)
    records: list[dict] = []
    if load and load + args.threads > (os.cpu_count() or 1) + 0.5:
        print(
            f"bench: the load average is {load:.1f}, so {args.threads} threads will wait for each "
            "other\n\nHint: use a quiet machine, or --threads 1",
            file=sys.stderr,
        )
    print(bench_report.HEAD, flush=True)
    for i, (device, name, shape, variants) in enumerate(work, 1):
        if device == "cuda" and not torch.cuda.is_available():
            records += [
                {**place(name, shape, device, *variant, mode), "status": "not measured"}
                for variant in variants
                for mode in MODES
            ]
            continue
        row = f"{name} {'x'.join(map(str, shape))} {device}"
        print(f"[{i}/{len(work)}] {row}", file=sys.stderr, flush=True)
        found = measure(name, shape, device, args.against, variants, effort)
        records += found
        for record in found:
            print(*bench_report.lines(record), sep="\n", flush=True)
    options = " ".join(argv if argv is not None else sys.argv[1:])
    result = {
        "command": f"python scripts/bench.py {options}".strip(),
        "machine": machine(args.against),
        "load": load,
        "quick": args.quick,
        "against": list(args.against),
        "rounds": effort.rounds,
        "records": records,
    }
    page = bench_report.page(result)
    print(*bench_report.verdicts(result), sep="\n")
    for file, text in ((args.json, json.dumps(result, indent=1)), (args.markdown, page)):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.rstrip() + "\n", encoding="utf-8")
            print(f"wrote {file}")


if __name__ == "__main__":
    main()
