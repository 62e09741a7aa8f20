"""Graft every recipe into every model YAML of the installed Ultralytics, and use the results.

What happens in a cell of this matrix is in :mod:`.cells`. A cell that makes no sense must be
refused with a reason.

A finished cell leaves one JSON line in --records, so a script that was stopped continues when it is
started again; delete the file to start anew. Exits with 1 if a cell failed.

Example: python -m scripts.bench.cross --recipes sk,cbam --bases yolo11,yolo26-seg --out cross.md
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import multiprocessing
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from pathlib import Path
from statistics import median, median_low
from unittest import mock

import torch

from yolograft import registry, ultra
from yolograft.errors import nearest
from yolograft.graft import graft

from . import cells, common

#: The model whose building is timed, and how often.
BUILT, ROUNDS = "yolo11n", 9

REPORT = """\
# Every recipe on every model YAML of Ultralytics

{counts}

A cell is one recipe on one YAML, {scale}. `+`: the config is grafted, Ultralytics
builds the model, and it takes one training step by Ultralytics' own loss (two images, {imgsz}
pixels, RT-DETR {imgsz_rtdetr}); each block gets a finite gradient, and none gets zeros alone.
`E`: besides, the trained model, its BatchNorm's statistics taken from a batch, is saved, loaded by
`YOLO(...)` and exported to ONNX (opset {opset}), which returns what the model returns in float64,
to within {tolerance:g}, or ten times the error of float32 itself in that model, which is not
trained to be steady (in the middle of all cells {gap:.1e}, at most {widest:.1e}), and is ten times
nearer than the output for a black image, or another random model is drawn. A letter: refused, for
the reason below. `F`: failed.

Convolutions start from He's initialisation, and what the blocks start at zero from small random
numbers, so that no term of a block is hidden from the gradient or from the export.

What this says: the blocks fit. What it does not say: that they help, on any data.

{table}

{reasons}
## What it costs

Grafting alone, from a loaded config to a grafted one, took {patching:.2f} s of one core in the
middle of all cells, and at most {longest}.

Building {model}, in ms of one core, medians of {rounds} rounds in turn. The wrap is what
`parse_model` takes beside Ultralytics' own function and the blocks' constructors: reading rows,
stand-ins, putting blocks in. The last column is (grafted - constructors) / stock; it still holds
the forward pass by which Ultralytics measures strides, which goes through the blocks too.

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


def main(argv: list[str] | None = None) -> int:
    """Run the cells that are missing, write the report, return 1 if one failed.

    Args:
        argv: Arguments, those of the process when left out.
    """
    args = parse(argv)
    todo = [(base, recipe) for base in args.bases for recipe in args.recipes]
    done = {k: r for k, r in read(args.records).items() if r["versions"] == cells.versions()}
    left = [key for key in todo if (*key, args.scale) not in done]
    args.records.parent.mkdir(parents=True, exist_ok=True)
    with args.records.open("a", encoding="utf-8") as stream:
        for record in work(left, args.scale, args.jobs):
            stream.write(json.dumps(record) + "\n")
            stream.flush()
            done[record["base"], record["recipe"], args.scale] = record
    records = [done[(*key, args.scale)] for key in todo]
    words = sys.argv[1:] if argv is None else argv
    print(counts(records))
    common.save(args.out, report(args, records, words))
    failed = [r for r in records if r["mark"] == "F"]
    for record in failed:
        print(f"{record['base']} + {record['recipe']}: {record['reason']}", file=sys.stderr)
    return 1 if failed else 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    reader = argparse.ArgumentParser(
        prog="python -m scripts.bench.cross",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = reader.add_argument
    names, bases = common.recipe_names(), sorted(cells.stock(), key=order)
    text = "all of the pack's by default"
    add("--recipes", type=listed(names), default=names, metavar="A,B,...", help=text)
    text = "model YAMLs without .yaml; all of the installed Ultralytics by default"
    add("--bases", type=listed(bases), default=bases, metavar="A,B,...", help=text)
    add("--scale", default="", help="n, s, ..., where a YAML has it; the narrowest by default")
    add("--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes; one per core")
    file = common.RESULTS / "cross.md"
    add("--out", type=Path, default=file, metavar="FILE", help="docs/results/cross.md by default")
    file = Path("runs/cross.jsonl")
    add("--records", type=Path, default=file, metavar="FILE", help="runs/cross.jsonl by default")
    return reader.parse_args(argv)


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


def order(name: str) -> list:
    """Return a key that sorts by the numbers in a name."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def read(file: Path) -> dict[tuple, dict]:
    """Return the records of a file, without a last line that was cut off."""
    records = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):
            record = json.loads(line)
            records[record["base"], record["recipe"], record["scale"]] = record
    return records


def work(keys: list[tuple[str, str]], scale: str, jobs: int) -> Iterator[dict]:
    """Yield the records of cells as they are finished, by several processes."""
    from ultralytics.utils import TQDM

    if not keys:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, quiet) as pool:
        futures = [pool.submit(cells.record_of, base, recipe, scale) for base, recipe in keys]
        try:
            for future in TQDM(as_completed(futures), total=len(futures), desc="Cells"):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def quiet() -> None:
    """Keep the terminal for the progress bar, and use one core in each process."""
    from ultralytics.utils import LOGGER

    torch.set_num_threads(1)
    LOGGER.setLevel("ERROR")


# ---------------------------------------------------------------------------------------- a report


def counts(records: list[dict]) -> str:
    """Return how many cells had which result."""
    n = {mark: sum(r["mark"] == mark for r in records) for mark in ("+", "E", "refused", "F")}
    return (
        f"{len(records)} cells: {n['+'] + n['E']} build and train, of which {n['E']} were exported "
        f"too and agree; {n['refused']} are refused with a reason; {n['F']} failed."
    )


def report(args: argparse.Namespace, records: list[dict], words: list[str]) -> str:
    """Return the Markdown text.

    Args:
        args: The command line.
        records: Of all cells.
        words: The command line as it was given.
    """
    texts = dict.fromkeys(wording(r) for r in records if r["mark"] == "refused")
    letters = {text: letter(i) for i, text in enumerate(texts)}
    marks = {
        (r["base"], r["recipe"]): letters[wording(r)] if r["mark"] == "refused" else r["mark"]
        for r in records
    }
    at = {r["base"]: r["at"] for r in records if "at" in r}
    rows = [("YAML", "scale", *args.recipes)]
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
        imgsz=cells.IMGSZ,
        imgsz_rtdetr=cells.IMGSZ_RTDETR,
        opset=", ".join(sorted({str(r["opset"]) for r in records if "opset" in r})) or "not run",
        tolerance=cells.TOLERANCE,
        gap=median(gaps),
        widest=max(gaps),
        table=common.table(rows, "lc"),
        reasons="## Reasons\n\n" + "\n".join(lines) + "\n" if lines else "",
        command=shlex.join(["python", "-m", "scripts.bench.cross", *words]),
        machine=f"{common.machine()['cpu']}, {args.jobs} processes of one thread",
        versions=", ".join(f"{k} {v}" for k, v in cells.versions().items()),
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

    spent = dict.fromkeys(("parse", "stock", "blocks"), 0.0)
    running: set[str] = set()

    def timed(key: str, function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args, **kwargs):
            if key in running:  # a block inside a block
                return function(*args, **kwargs)
            running.add(key)
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[key] += time.process_time() - start
                running.remove(key)

        return call

    def build(config: dict) -> tuple[float, float, float]:
        """Return the seconds of all, of the blocks' constructors, and of the wrap."""
        spent.update(dict.fromkeys(spent, 0.0))
        start = time.process_time()
        tasks.DetectionModel(config, verbose=False)
        whole = time.process_time() - start
        return whole, spent["blocks"], spent["parse"] - spent["stock"] - spent["blocks"]

    rows = [("recipe", "stock", "grafted", "constructors", "wrap", "grafted / stock")]
    rows[0] += ("without them",)
    with contextlib.ExitStack() as stack:
        target = "ultralytics.nn.tasks:parse_model"
        original = {target: timed("stock", ultra.original(target))}
        stack.enter_context(mock.patch.dict(ultra.ORIGINALS, original))
        wrapped = timed("parse", tasks.parse_model)
        stack.enter_context(mock.patch.object(tasks, "parse_model", wrapped))
        for cls in (block.load() for block in registry.table()):
            constructor = timed("blocks", cls.__init__)
            stack.enter_context(mock.patch.object(cls, "__init__", constructor))
        for name in names:
            stock = tasks.yaml_model_load(f"{BUILT}.yaml")
            grafted = graft(stock, name).config
            rounds = [(build(stock)[0], *build(grafted)) for _ in range(ROUNDS + 1)][1:]
            one, other, blocks, wrap = (median(column) for column in zip(*rounds, strict=True))
            ms = [f"{1e3 * x:.1f}" for x in (one, other, blocks, wrap)]
            ratios = [f"{x / one:.2f}" for x in (other, other - blocks)]
            rows.append((name, *ms, *ratios))
    return common.table(rows, "lr")


def wording(record: dict) -> str:
    """Return the reason of a refused cell, in words that fit every YAML."""
    return record["reason"].replace(f"{record['base']}.yaml", "it")


def letter(number: int) -> str:
    """Return a, b, ..., z, aa, ab, ..."""
    first, last = divmod(number, 26)
    return (chr(96 + first) if first else "") + chr(97 + last)


if __name__ == "__main__":
    sys.exit(main())
