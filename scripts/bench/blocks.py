"""Time the blocks against the forms one would write first, and against public libraries.

All sides hold the same weights, and their outputs are compared before anything is timed. Their
calls alternate, so that other work on the machine affects all of them; a ratio theirs / ours is
the median over pairs, with a 95 % bootstrap interval. Above 1, ours is faster.

timm and mmcv come with `pip install -e ".[bench]"`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from yolograft import registry, signatures

from . import blocks_page, common
from .common import Effort
from .contenders import LIBRARIES, ROWS, Function

SHAPES = ((8, 64, 80, 80), (8, 128, 40, 40), (8, 256, 20, 20))
QUICK = ((2, 64, 80, 80),)
MODES = ("forward", "forward + backward")
DTYPES = ("float32", "bfloat16", "float16")
#: Largest difference to ours, over the largest value, in float64: float32 would do for the outputs,
#: but where rounding moves a value across the edge of a ReLU, its gradient jumps.
TOLERANCE = 1e-5


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


def sides(
    name: str, shape: tuple[int, ...], libraries: tuple[str, ...] = ()
) -> dict[str, nn.Module]:
    """Build ours, naive, the libraries' forms and the parts, with the same random weights."""
    row = ROWS[name]
    torch.manual_seed(0)
    ours = row.ours(shape[1]) if row.ours else _by_role(name, shape[1])
    for parameter in ours.parameters():
        if not parameter.any():  # what starts as zero would hide what comes before it
            nn.init.normal_(parameter, std=0.05)
    for bn in ours.modules():
        if isinstance(bn, nn.BatchNorm2d):
            nn.init.uniform_(bn.running_mean, -0.2, 0.2)
            nn.init.uniform_(bn.running_var, 0.5, 1.5)
            nn.init.uniform_(bn.weight, 0.5, 1.5)
            nn.init.uniform_(bn.bias, -0.2, 0.2)
    built = {"ours": ours, "naive": Function(row.naive, ours)}
    built |= {lib: row.public[lib].build(ours) for lib in libraries if lib in row.public}
    if row.parts:
        built["parts"] = Function(row.parts, ours)
    return {side: _OnList(m) if row.on_list else m for side, m in built.items()}


def _by_role(name: str, width: int) -> nn.Module:
    """Return a block of the table, as wide at its end as at its start."""
    block = registry.find(name)
    return signatures.build(block.load(), block.role, (width,) * len(block.role.prefix), {})


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
            sys.exit(
                f"bench: {name} at {tuple(inputs[0].shape)}: ours and {side} differ by {gap:.1e}, "
                "so nothing was timed"
            )
    return gaps


def call(module: nn.Module, inputs: list[Tensor], mode: str) -> Callable[[], None]:
    """Return a function that runs the module once and keeps nothing; it has run once before."""
    forward = mode == "forward"
    module.train(not forward)
    leaves = [x.detach().clone().requires_grad_(not forward) for x in inputs]
    grads: list[Tensor] = []

    def run() -> None:
        with torch.set_grad_enabled(not forward):
            outputs = _tuple(module(*leaves))
        if forward:
            return
        if not grads:  # the first time
            grads.extend(torch.ones_like(y) for y in outputs)
        torch.autograd.backward(outputs, grads)
        module.zero_grad(set_to_none=True)
        for leaf in leaves:
            leaf.grad = None

    run()
    return run


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
    modules = {k: m.to(device) for k, m in sides(name, shape, libraries).items()}
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
            found = {
                **place(name, shape, device, dtype, compiled, mode),
                "status": "measured",
                "difference": gaps,
                **_timed(chosen, maps, mode, effort, device, ROWS[name].floor),
            }
            records.append(found)
    return records


def _timed(
    modules: dict[str, nn.Module],
    maps: list[Tensor],
    mode: str,
    effort: Effort,
    device: str,
    floor: bool,
) -> dict[str, object]:
    """Return times and memory of all sides in one mode, and why a side did not run."""
    calls: dict[str, Callable[[], None]] = {}
    left_out: dict[str, str] = {}
    for side, module in modules.items():
        if side == "parts" and mode != "forward":
            continue
        try:
            calls[side] = call(module, maps, mode)
        except Exception as error:
            if side == "ours":
                raise
            left_out[side] = str(error).strip().splitlines()[0]
    memory = {side: common.peak(run, device) for side, run in calls.items() if side != "parts"}
    if floor and mode == "forward":
        calls["floor"] = call(_Copy(), maps, mode)
    seconds = common.times(calls, effort, device)
    if "floor" in seconds:  # a copy reads once and writes once
        seconds["floor"] = 1.5 * seconds["floor"]
    ours = seconds["ours"]
    return {
        "left_out": left_out,
        "rounds": len(ours),
        "milliseconds": {k: 1e3 * float(np.median(v)) for k, v in seconds.items()},
        "over_ours": {k: common.ratio(v, ours) for k, v in seconds.items() if k != "ours"},
        "peak_bytes": memory,
    }


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


# ------------------------------------------------------------------------------------ command line


def parse_shape(text: str) -> tuple[int, ...]:
    """Read ``8x64x80x80``."""
    parts = text.split("x")
    if len(parts) != 4 or not all(p.isdigit() and int(p) for p in parts):
        msg = f"{text!r} is not a shape; write batch, channels, height, width as 8x64x80x80"
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
        if name not in LIBRARIES:
            msg = f"{name!r} is not one of {', '.join(LIBRARIES)}"
            raise argparse.ArgumentTypeError(msg)
        if common.version(name) is None:
            msg = f'{name} is not installed; install it with pip install -e ".[bench]"'
            raise argparse.ArgumentTypeError(msg)
    return names


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.blocks",
        description=__doc__,
        epilog="Example: python -m scripts.bench.blocks --against timm,mmcv,torchvision --compile "
        "--dtype float32 bfloat16 --markdown bench.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    shapes = " ".join(map(blocks_page.size, SHAPES))
    text = f"public libraries to compare with, of {','.join(LIBRARIES)}; the naive forms always run"
    add("--against", type=parse_libraries, default=(), metavar="LIB,LIB", help=text)
    text = f"which blocks (default: {' '.join(ROWS)})"
    add("--blocks", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help=text)
    text = f"inputs; the P3, P4 and P5 maps of a small YOLO by default ({shapes})"
    add("--shapes", nargs="+", type=parse_shape, metavar="BxCxHxW", help=text)
    text = "default: both; without a GPU the cuda rows are marked as not measured"
    devices = ("cpu", "cuda")
    add("--device", nargs="+", choices=devices, default=devices, help=text)
    text = "of weights and inputs (float32); all shapes run in the first, the middle one in others"
    add("--dtype", nargs="+", choices=DTYPES, default=["float32"], help=text)
    text = "measure torch.compile of all sides too, in the first dtype at the middle shape"
    add("--compile", action="store_true", help=text)
    text = (
        "most samples of each side (%(default)s); more rounds narrow the interval, and a busy "
        "machine needs more; where they would take over 8 s, there are fewer, at least 5"
    )
    add("--rounds", type=int, default=40, metavar="N", help=text)
    text = f"one shape, {blocks_page.size(QUICK[0])}, and a few rounds: three minutes on two cores"
    add("--quick", action="store_true", help=f"{text}, wide intervals")
    text = (
        "CPU threads (%(default)s here); with fewer than the machine has, other work disturbs the "
        "times less"
    )
    add("--threads", type=int, default=torch.get_num_threads(), metavar="N", help=text)
    add("--json", type=Path, metavar="FILE", help="write every figure here")
    add("--markdown", type=Path, metavar="FILE", help="write the table here")
    args = parser.parse_args(argv)
    for name in ("rounds", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"argument --{name}: use 1 or more")
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
    torch.set_num_threads(args.threads)
    effort = Effort(min(args.rounds, 9), 3, 0.8) if args.quick else Effort(args.rounds, 5, 8.0)
    load = common.load()
    if load and load + args.threads > (os.cpu_count() or 1) + 0.5:
        print(
            f"bench: the load average is {load:.1f}, so {args.threads} threads will wait for each "
            "other\n\nHint: use a quiet machine, or --threads 1",
            file=sys.stderr,
        )
    print(common.line(blocks_page.HEAD), flush=True)
    work, records = plan(args), []
    for i, (device, name, shape, variants) in enumerate(work, 1):
        if device == "cuda" and not torch.cuda.is_available():
            records += [
                {**place(name, shape, device, *variant, mode), "status": "not measured"}
                for variant in variants
                for mode in MODES
            ]
            continue
        row = f"{name} {blocks_page.size(shape)} {device}"
        print(f"[{i}/{len(work)}] {row}", file=sys.stderr, flush=True)
        found = measure(name, shape, device, args.against, variants, effort)
        records += found
        lines = [common.line(cells) for one in found for cells in blocks_page.lines(one)]
        print(*lines, sep="\n", flush=True)
    words = sys.argv[1:] if argv is None else argv
    result = {
        "command": shlex.join(["python", "-m", "scripts.bench.blocks", *words]),
        "machine": {
            **common.machine(),
            "isa": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            **common.versions("torch", "yolograft", *args.against),
        },
        "load": load,
        "quick": args.quick,
        "against": list(args.against),
        "rounds": effort.rounds,
        "records": records,
    }
    print(*blocks_page.verdicts(result), sep="\n")
    common.save(args.json, result)
    common.save(args.markdown, blocks_page.page(result))


if __name__ == "__main__":
    main()
