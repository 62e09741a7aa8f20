#!/usr/bin/env python3
"""Graft every recipe into every model YAML of the installed Ultralytics, and use what comes out.

A cell of the cross is one recipe on one YAML, at the narrowest scale. Its model is built by the
host, takes one training step by the host's own loss on a batch of two small images, and each block
of ours has to get a finite gradient. In one YAML of each family and task, the trained model is also
saved, loaded by the host, exported to ONNX, and run beside the model that it came from. A cell that
makes no sense has to be refused with a reason.

A finished cell leaves one JSON line in --records, so a script that was stopped goes on where it
was; delete the file to begin anew. Exits with 1 if a cell failed.

Example: python scripts/cross.py --recipes sk,cbam --bases yolo11,yolo26-seg --out cross.md
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import platform
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median, median_low
from unittest import mock

from processor import processor

from yolograft import ConfigError, registry
from yolograft.config.labels import split
from yolograft.errors import nearest
from yolograft.graft import make, recipes

ROOT = Path(__file__).resolve().parents[1]

#: Largest difference between an exported model and the one that it came from.
TOLERANCE = 1e-3

#: One YAML of each family, and of each task in three: these are exported too.
EXPORTED = (
    *("yolov5", "yolov8", "yolov9t", "yolov10n", "yolo11", "yolo12", "yolo26"),
    *(
        f"{family}-{task}"
        for family in ("yolov8", "yolo11", "yolo26")
        for task in ("seg", "pose", "obb", "cls")
    ),
)

#: How many random models of a cell are tried until one is steady enough to be compared.
SEEDS = 3

#: The model whose building is timed, and how often.
BUILT, ROUNDS = "yolo11n", 9

#: Pixels of a side. RT-DETR asks for its 300 best positions, which a smaller picture has not.
IMGSZ, IMGSZ_RTDETR = 64, 128

REPORT = """\
# Every recipe on every model YAML of Ultralytics

{counts}

A cell is one recipe on one YAML, {scale}. `+`: the config is grafted, the host
builds the model, and it takes one training step by the host's own loss (two images, {imgsz}
pixels, RT-DETR {imgsz_rtdetr}); each block gets a finite gradient, and none gets zeros alone.
`E`: besides, the trained model, its BatchNorm's statistics taken from a batch, is saved, loaded by
`YOLO(...)` and exported to ONNX (opset {opset}), which returns what the model returns in float64,
to within {tolerance:g}, or ten times what float32 itself costs that model, which has never learned
to be steady (in the middle of all cells {gap:.1e}, at most {widest:.1e}), and is ten times nearer
than a black picture, or another random model is drawn. A letter: refused, for the reason below.
`F`: failed.

Convolutions start from He's initialisation, and what the blocks start at zero from small random
numbers, so that no term of a block is hidden from the gradient or from the export.

What this says: the blocks fit. What it does not say: that they help, on any data.

{table}

{reasons}
## What it costs

Grafting alone, from a loaded config to a grafted one, took {patching:.2f} s of one core in the
middle of all cells, and at most {longest}.

Building {model}, in ms of one core, medians of {rounds} rounds in turn. The wrap is what
`parse_model` takes beside the host's own function and the blocks' constructors: reading rows,
stand-ins, putting blocks in. The last column is (grafted - constructors) / stock; it still holds
the passage of the picture by which the host measures strides, which goes through the blocks too.

{costs}

## How

```sh
{command}
```

- Machine: {machine}
- Versions: {versions}
- Date: {date}
- Processor time: {cpu:.0f} s in all; a cell takes {median:.1f} s in the middle, {slowest}
"""


def main() -> int:
    """Work off the cells, write the report, return 1 if one failed."""
    args = parse()
    todo = [(base, recipe) for base in args.bases for recipe in args.recipes]
    done = {key: r for key, r in read(args.records).items() if r["versions"] == versions()}
    left = [key for key in todo if (*key, args.scale) not in done]
    args.records.parent.mkdir(parents=True, exist_ok=True)
    with args.records.open("a", encoding="utf-8") as stream:
        for record in work(left, args.scale, args.jobs):
            stream.write(json.dumps(record) + "\n")
            stream.flush()
            done[record["base"], record["recipe"], args.scale] = record
    records = [done[(*key, args.scale)] for key in todo]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(report(args, records), encoding="utf-8")
    print(f"{counts(records)}\nReport: {args.out}")
    failed = [r for r in records if r["mark"] == "F"]
    for record in failed:
        print(f"{record['base']} + {record['recipe']}: {record['reason']}", file=sys.stderr)
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    summary, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names, files = recipe_names(), [*stock()]
    text = "all of the pack's by default"
    add("--recipes", type=listed(names), default=names, metavar="A,B,...", help=text)
    text = "model YAMLs without .yaml; all of the installed Ultralytics by default"
    add("--bases", type=listed(files), default=files, metavar="A,B,...", help=text)
    add("--scale", default="", help="n, s, ..., where a YAML has it; the narrowest by default")
    add("--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes; one per core")
    file = ROOT / "docs/results/cross.md"
    add("--out", type=Path, default=file, metavar="FILE", help="docs/results/cross.md by default")
    file = Path("runs/cross.jsonl")
    add("--records", type=Path, default=file, metavar="FILE", help="runs/cross.jsonl by default")
    return parser.parse_args()


def listed(known: list[str]) -> Callable[[str], list[str]]:
    """Return a reader of ``a,b``, for names that are known."""

    def names(text: str) -> list[str]:
        for name in text.split(","):
            if name not in known:
                hint = nearest(name, known) or f"there are {', '.join(known)}"
                msg = f"{name!r} is unknown; {hint}"
                raise argparse.ArgumentTypeError(msg)
        return text.split(",")

    return names


def recipe_names() -> list[str]:
    """Return the names of the pack's recipes."""
    return sorted(path.stem for path in (recipes.CFG / "recipes").glob("*.yaml"))


def stock() -> dict[str, Path]:
    """Return the model YAMLs of the installed Ultralytics, by name."""
    from ultralytics.utils import ROOT as HOST

    files = {path.stem: path for path in (HOST / "cfg" / "models").rglob("*.yaml")}
    return {name: files[name] for name in sorted(files, key=order)}


def order(name: str) -> list:
    """Return a key that sorts by the numbers in a name."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def versions() -> dict[str, str]:
    """Return what a record holds for."""
    names = ("yolograft", "ultralytics", "torch")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def read(file: Path) -> dict[tuple, dict]:
    """Return the records of a file; a last line that was cut off is left out."""
    records = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):
            record = json.loads(line)
            records[record["base"], record["recipe"], record["scale"]] = record
    return records


def work(cells: list[tuple[str, str]], scale: str, jobs: int) -> Iterator[dict]:
    """Yield the records of cells as they are finished, by several processes."""
    from ultralytics.utils import TQDM

    if not cells:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, quiet) as pool:
        futures = [pool.submit(record_of, base, recipe, scale) for base, recipe in cells]
        try:
            for future in TQDM(as_completed(futures), total=len(futures), desc="Crossing"):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def quiet() -> None:
    """Leave the terminal to the progress bar, and one core to each process."""
    import torch
    from ultralytics.utils import LOGGER

    torch.set_num_threads(1)
    LOGGER.setLevel("ERROR")


# ------------------------------------------------------------------------------------------ a cell


def record_of(base: str, recipe: str, scale: str = "") -> dict:
    """Return what became of a cell, whatever that is, and how long it took.

    Args:
        base: Name of a model YAML of the host's.
        recipe: Name of a recipe.
        scale: Scale letter, where the YAML has it; the narrowest when left out.
    """
    start = time.process_time()
    try:
        found = cell(base, recipe, scale, base in EXPORTED)
        found["mark"] = "E" if "gap" in found else "+"
    except ConfigError as error:
        lines = str(error).partition("\n\n")[0].splitlines()
        found = {"mark": "refused", "reason": "; ".join(lines)}
    except Exception as error:
        found = {"mark": "F", "reason": f"{type(error).__name__}: {error}"}
    found["seconds"] = round(time.process_time() - start, 2)
    return {"base": base, "recipe": recipe, "scale": scale, **found, "versions": versions()}


def cell(base: str, recipe: str, scale: str = "", export: bool = False) -> dict:
    """Graft a recipe into a model YAML, build the model, train it for a step and export it.

    Args:
        base: Name of a model YAML of the host's.
        recipe: Name of a recipe.
        scale: Scale letter, where the YAML has it; the narrowest when left out.
        export: Whether to export it too.

    Returns:
        The figures of the cell: its scale, the blocks in the model, the largest difference of the
        exported model, and, in `far`, that of a black picture, without which the first tells
        nothing.

    Raises:
        ConfigError: If the recipe does not fit.
        RuntimeError: If the model does not do what it should.
    """
    import torch
    from ultralytics.nn import tasks

    from yolograft.graft.preview import host_model

    config = tasks.yaml_model_load(str(stock()[base]))
    if scales := config.get("scales"):
        narrowest = min(scales, key=lambda letter: scales[letter][1])
        config["scale"] = scale if scale in scales else narrowest
    if export:  # of one class, NMS-free heads return all that there is: none is at the edge
        config["nc"] = 3 if tasks.guess_model_task(config) == "classify" else 1
    start = time.process_time()
    grafted = make.graft(config, recipe)
    patching = time.process_time() - start
    found = {"at": config.get("scale", ""), "patching": round(patching, 3)}
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = host_model(grafted.config)
        blocks = blocks_of(model, grafted.rows)
        step(model, blocks)
        found["blocks"] = len(blocks)
        if not export:
            break
        found |= exported(model)
        if found["gap"] <= found["far"] / 10:
            break
    else:
        msg = f"{SEEDS} random models of it are too unsteady to be compared"
        raise RuntimeError(msg)
    return found


def blocks_of(model, rows: list[list]) -> list[tuple]:
    """Return the blocks of ours in a model, with the rows of the table that they are of."""
    found = []
    for layer, row in zip(model.model, rows, strict=True):
        block = split(row[2])[1]
        if block is None:
            continue
        cls = block.load()
        inside = [(module, block) for module in layer.modules() if type(module) is cls]
        if not inside:
            msg = f"row {layer.i} ({row[2]}) was built without {block.name}"
            raise RuntimeError(msg)
        found += inside
    return found


def step(model, blocks: list[tuple]) -> None:
    """Take one training step by the model's own loss, and check what each block gets of it."""
    import torch
    from torch import nn
    from ultralytics.cfg import get_cfg

    model.train()
    model.nc, model.args = model.yaml["nc"], get_cfg()  # as the host's trainer sets them
    for module in model.modules():
        if type(module) is nn.Conv2d and module.weight.requires_grad and module.weight.any():
            # He's way: else BatchNorm's first statistics leave nothing of the picture in eval mode.
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    with torch.no_grad():
        for module, _ in blocks:
            for parameter in module.parameters():
                if not parameter.any():  # what is behind a zero gets no gradient
                    parameter.normal_(0, 0.05)
    loss = model.loss(batch(model))[0].sum()
    if not loss.isfinite():
        msg = f"the loss is {loss.item()}"
        raise RuntimeError(msg)
    loss.backward()
    for module, block in blocks:
        check_gradients(module, block)
    torch.optim.SGD(model.parameters(), 1e-3).step()
    if not all(tensor.isfinite().all() for tensor in model.parameters()):
        msg = "a parameter is not finite after the step"
        raise RuntimeError(msg)


def check_gradients(module, block: registry.Block) -> None:
    """Refuse a block with a parameter that got no finite gradient, or with zeros alone."""
    excused = [one.split()[3] for one in block.limits if one.startswith("no gradient for")]
    largest = 0.0
    for name, parameter in module.named_parameters():
        gradient = parameter.grad
        if gradient is None and name in excused:
            continue
        if gradient is None or not gradient.isfinite().all():
            what = "none" if gradient is None else "not finite"
            msg = f"{block.name}: the gradient of {name} is {what}"
            raise RuntimeError(msg)
        largest = max(largest, gradient.abs().max().item())
    if not largest:
        msg = f"{block.name}: all gradients are zero"
        raise RuntimeError(msg)


def batch(model) -> dict:
    """Return two noise images with an object each, as the model's loss wants them."""
    import torch

    kind = type(model.model[-1]).__name__
    size = IMGSZ_RTDETR if kind == "RTDETRDecoder" else IMGSZ
    boxes = torch.tensor([[0.4, 0.5, 0.5, 0.6], [0.6, 0.4, 0.7, 0.5]])
    masks = torch.zeros(2, size // 4, size // 4)
    masks[:, size // 16 : size // 8, size // 16 : size // 8] = 1
    keypoints = torch.cat([torch.rand(2, 17, 2), torch.full((2, 17, 1), 2.0)], 2)
    whole = torch.randint(0, 2, (2, size, size))
    if kind.startswith("OBB"):
        boxes = torch.cat([boxes, torch.tensor([[0.3], [0.8]])], 1)
    return {
        "img": torch.rand(2, 3, size, size),
        "batch_idx": torch.arange(2.0),
        "cls": torch.arange(2) if kind == "Classify" else torch.zeros(2, 1),
        "bboxes": boxes,
        "masks": masks,
        "sem_masks": torch.zeros_like(masks),
        "keypoints": keypoints,
        "txt_feats": torch.rand(2, model.nc, 512),
        "semantic_mask": whole,
        "depth": 1.0 + whole,
    }


def exported(model) -> dict:
    """Export a model by the host, run it, and return how far it is from the model.

    The measure is the model in float64.

    Args:
        model: A model of the host's, which is saved as a checkpoint first.
    """
    import onnx
    import onnxruntime
    import torch
    from ultralytics import YOLO

    shown = pictures(8)
    settle(model, shown)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "model.pt")
        torch.save({"model": model}, weights)
        file = YOLO(weights).export(format="onnx", imgsz=IMGSZ, simplify=False, verbose=False)
        opset = max(one.version for one in onnx.load(file).opset_import if not one.domain)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        eager = YOLO(weights).model.eval()
    x = shown[:1]
    outputs = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    outputs, moved = [*map(torch.from_numpy, outputs)], getattr(model, "end2end", False)
    with torch.no_grad():
        same, black = ([*tensors(eager(y))][: len(outputs)] for y in (x, torch.zeros_like(x)))
        wanted = [y.float() for y in tensors(eager.double()(x.double()))][: len(outputs)]
    off, own, far = (
        max(gap(y, z, moved) for y, z in zip(found, wanted, strict=True))
        for found in (outputs, same, black)
    )
    if not off <= max(TOLERANCE, 10 * own):
        msg = f"the exported model is {off:.1e} off, where float32 itself is {own:.1e} off"
        raise RuntimeError(msg)
    return {"gap": off, "far": far, "opset": opset}


def pictures(count: int):
    """Return random pictures of few large patches, which deep layers can still tell apart."""
    import torch

    patches = torch.rand(count, 3, 4, 4)
    return torch.nn.functional.interpolate(patches, (IMGSZ, IMGSZ), mode="nearest")


def settle(model, shown) -> None:
    """Let BatchNorm's statistics be those of pictures, so that the maps stay of the size of 1."""
    import torch
    from torch import nn

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(shown)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def tensors(value: object) -> Iterator:
    """Yield the tensors of what a model returns."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from tensors(one)
    elif hasattr(value, "shape"):
        yield value


def gap(one, other, moved: bool = False) -> float:
    """Return the largest difference of two outputs.

    Args:
        one: An output.
        other: Another.
        moved: Whether detections may have changed places, as NMS-free heads sort them by score:
            each is then compared with the nearest one of the other output.
    """
    import torch

    if one.shape != other.shape:
        msg = f"the exported model returns {tuple(one.shape)}, not {tuple(other.shape)}"
        raise RuntimeError(msg)
    if not (one.isfinite().all() and other.isfinite().all()):
        msg = "an output is not finite"
        raise RuntimeError(msg)
    if moved and one.ndim == 3:
        distances = torch.cdist(one, other, p=math.inf)
        return max(distances.amin(1).max().item(), distances.amin(2).max().item())
    return (one - other).abs().max().item()


# ---------------------------------------------------------------------------------------- a report


def counts(records: list[dict]) -> str:
    """Return how many cells came to what."""
    n = {mark: sum(r["mark"] == mark for r in records) for mark in ("+", "E", "refused", "F")}
    return (
        f"{len(records)} cells: {n['+'] + n['E']} build and train, of which {n['E']} were exported "
        f"too and agree; {n['refused']} are refused with a reason; {n['F']} failed."
    )


def report(args: argparse.Namespace, records: list[dict]) -> str:
    """Return the Markdown text."""
    texts = dict.fromkeys(wording(r) for r in records if r["mark"] == "refused")
    letters = {text: letter(i) for i, text in enumerate(texts)}
    marks = {
        (r["base"], r["recipe"]): letters[wording(r)] if r["mark"] == "refused" else r["mark"]
        for r in records
    }
    at = {r["base"]: r["at"] for r in records if "at" in r}
    rows = [("YAML", "scale", *args.recipes), ("---", *[":-:"] * (1 + len(args.recipes)))]
    for base in args.bases:
        rows.append((base, at.get(base, ""), *(marks[base, recipe] for recipe in args.recipes)))
    lines = [f"- `{mark}`: {text}" for text, mark in letters.items()]
    for r in records:
        if r["mark"] == "F":
            lines.append(f"- `F`: {r['base']} + {r['recipe']}: {r['reason']}")
    seconds = [(r["seconds"], f"{r['base']} + {r['recipe']}") for r in records]
    patching = [(r["patching"], f"{r['base']} + {r['recipe']}") for r in records if "patching" in r]
    gaps = [r["gap"] for r in records if "gap" in r] or [math.nan]
    return REPORT.format(
        counts=counts(records),
        scale=f"at scale {args.scale} where it has it" if args.scale else "at its narrowest scale",
        imgsz=IMGSZ,
        imgsz_rtdetr=IMGSZ_RTDETR,
        opset=", ".join(sorted({str(r["opset"]) for r in records if "opset" in r})) or "not run",
        tolerance=TOLERANCE,
        gap=median(gaps),
        widest=max(gaps),
        table="\n".join("| " + " | ".join(row) + " |" for row in rows),
        reasons="## Reasons\n\n" + "\n".join(lines) + "\n" if lines else "",
        command=shlex.join(["python", "scripts/cross.py", *sys.argv[1:]]),
        machine=f"{processor()}, {args.jobs} processes of one thread",
        versions=", ".join(f"{k} {v}" for k, v in versions().items()),
        date=date.today().isoformat(),
        cpu=sum(second for second, _ in seconds),
        median=median_low(seconds)[0],
        slowest="{1} {0:.1f} s".format(*max(seconds)),
        patching=median_low(patching or [(math.nan, "")])[0],
        longest="{:.2f} s ({})".format(*max(patching or [(math.nan, "none")])),
        model=f"`{BUILT}.yaml`",
        rounds=ROUNDS,
        costs=costs(args.recipes),
    )


def costs(names: list[str]) -> str:
    """Return a table of what building a model takes, stock and grafted, by recipe."""
    from ultralytics.nn import tasks

    from yolograft import parser

    spent = dict.fromkeys(("parse", "host", "blocks"), 0.0)

    def timed(key: str, function: Callable) -> Callable:
        def call(*args, **kwargs):
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[key] += time.process_time() - start

        return call

    def build(config: dict) -> tuple[float, float, float]:
        """Return the seconds of all, of the blocks' constructors, and of the wrap."""
        spent.update(dict.fromkeys(spent, 0.0))
        start = time.process_time()
        tasks.DetectionModel(config, verbose=False)
        whole = time.process_time() - start
        return whole, spent["blocks"], spent["parse"] - spent["host"] - spent["blocks"]

    wrapped = parser.make(tasks, timed("host", tasks.parse_model.__wrapped__))
    rows = [
        ("recipe", "stock", "grafted", "constructors", "wrap", "grafted / stock", "without them"),
        ("---", *["---:"] * 6),
    ]
    with (
        mock.patch.object(tasks, "parse_model", timed("parse", wrapped)),
        mock.patch.object(parser, "_construct", timed("blocks", parser._construct)),
    ):
        for name in names:
            stock_config = tasks.yaml_model_load(f"{BUILT}.yaml")
            grafted = make.graft(stock_config, name).config
            rounds = [(build(stock_config)[0], *build(grafted)) for _ in range(ROUNDS + 1)][1:]
            one, other, blocks, wrap = (median(column) for column in zip(*rounds, strict=True))
            ms = [f"{1e3 * x:.1f}" for x in (one, other, blocks, wrap)]
            ratios = [f"{x / one:.2f}" for x in (other, other - blocks)]
            rows.append((name, *ms, *ratios))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def wording(record: dict) -> str:
    """Return the reason of a refused cell, in words that fit every YAML."""
    return record["reason"].replace(f"{record['base']}.yaml", "it")


def letter(number: int) -> str:
    """Return a, b, ..., z, aa, ab, ..."""
    first, last = divmod(number, 26)
    return (chr(96 + first) if first else "") + chr(97 + last)


if __name__ == "__main__":
    sys.exit(main())
