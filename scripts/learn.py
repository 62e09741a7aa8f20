#!/usr/bin/env python3
"""Check that the grafted models learn: train them and the stock model from scratch.

Every run is one stock `yolo train` command. A finished run leaves one JSON record in --out, so a
script that was stopped goes on where it was when it is started again. The report is a Markdown
file; the rule is that each grafted model reaches 0.9 times the mean mAP50-95 of the first model.

Example: python scripts/learn.py --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from csv import DictReader
from importlib.metadata import version
from pathlib import Path

from processor import processor

ROOT = Path(__file__).resolve().parents[1]
BAR = 0.9

#: The same for every model.
BUDGET = {
    "pretrained": False,
    "batch": 4,
    "nbs": 4,
    "optimizer": "AdamW",
    "lr0": 0.001,
    "cos_lr": True,
    "warmup_epochs": 1,
    "mosaic": 0,
    "amp": False,
    "val": False,  # the last epoch is evaluated all the same
    "plots": False,
    "cache": "ram",
    "workers": 0,
}

REPORT = """\
# Do the grafted models learn? {title}

Trained from scratch on `{args.data}` at {args.imgsz} pixels, {epochs}, the same budget
for every config. Figures are mAP50-95 on the val split after the last epoch; sd is the
sample standard deviation over the seeds; differences are paired by seed.

{table}

Rule: each grafted config must reach at least {bar} x the stock mean ({stock:.3f}). {results}.

What this says: the blocks train in place, by the stock command, on a budget that suits the stock
model. What it does not say: {count} and a small synthetic data set tell nothing about gains
in accuracy, about photographs, larger images or longer training. Read no ranking into the table.

GFLOPs are those of `yolograft.count`, whose convention stands in `yolograft/cost.py`. CPU seconds
are the processor time of a whole run; wall seconds are those of its epochs, and hold the waiting
for other work on the machine.

BCCD on a GPU: not measured (no GPU at hand).

## How

```sh
{command}
```

which runs, for each config and seed:

```sh
{run}
```

- Machine: {machine}
- Versions: {versions}
- Records of the runs: `{json}`
"""


def main() -> int:
    """Train what is missing, write the report, return 1 if a model misses the bar."""
    args = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the run in hand too
    todo = [(model, seed) for seed in args.seeds for model in args.models]
    records = []
    for n, (model, seed) in enumerate(todo, 1):
        file = args.out / f"{Path(model).stem}-seed{seed}.json"
        settings = {
            **{"model": model, "data": args.data, "imgsz": args.imgsz, "epochs": args.epochs},
            **{"seed": seed, **({"device": args.device} if args.device else {}), **BUDGET},
        }
        record = json.loads(file.read_text()) if file.is_file() else {}
        kept = record.get("settings") == settings
        if not kept:
            print(
                f"[{n}/{len(todo)}] {model} seed {seed}: training, see {file.with_suffix('.log')}"
            )
            record = train(settings, args.out, file.stem)
            write(file, json.dumps(record, indent=2))
        print(
            f"[{n}/{len(todo)}] {model} seed {seed}: mAP50-95 {record['map']:.3f} after "
            f"{record['seconds']:.0f} s{' (kept)' if kept else ''}",
            flush=True,
        )
        records.append(record)
    text, passed = report(args, records)
    write(args.report, text)
    write(args.report.with_suffix(".json"), json.dumps(records, indent=2) + "\n")
    print(f"Report: {args.report}")
    return 0 if passed else 1


def parse() -> argparse.Namespace:
    """Read the command line."""
    summary, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    ours = sorted(path.name for path in (ROOT / "cfg").glob("yolov8-*.yaml"))
    models = ["yolov8n.yaml", *(name.replace("yolov8", "yolov8n") for name in ours)]
    add(
        "--models",
        nargs="+",
        default=models,
        metavar="YAML",
        help="stock model first; all of the pack's at scale n by default",
    )
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="0 1 2 by default")
    add("--data", default="shapes.yaml", metavar="YAML", help="data set; shapes.yaml by default")
    add("--imgsz", type=int, default=160, metavar="PIXELS", help="image size; 160 by default")
    add("--epochs", type=int, default=20, metavar="N", help="20 by default")
    add("--device", default="", help="cpu, 0, ...; Ultralytics chooses when left out")
    folder = Path("runs/learn")
    add("--out", type=Path, default=folder, metavar="FOLDER", help="runs; runs/learn by default")
    file = ROOT / "docs/results/shapes.md"
    add(
        "--report",
        type=Path,
        default=file,
        metavar="FILE",
        help="docs/results/shapes.md by default",
    )
    return parser.parse_args()


def train(settings: dict, out: Path, name: str) -> dict:
    """Run one `yolo train` and return its record.

    Args:
        settings: Arguments of the command.
        out: Work folder.
        name: Of the run.
    """
    out.mkdir(parents=True, exist_ok=True)
    yolo = shutil.which("yolo", path=Path(sys.executable).parent) or "yolo"
    command = ["yolo", "train", *(f"{key}={value}" for key, value in settings.items())]
    place = [f"project={out.resolve()}", f"name={name}", "exist_ok=True"]
    log = out / f"{name}.log"
    start, busy = time.perf_counter(), children_cpu()
    with log.open("w") as stream:
        code = subprocess.run([yolo, *command[1:], *place], stdout=stream, stderr=stream).returncode
    if code:
        sys.exit(f"{name}: yolo train ended with {code}\n\nHint: see {log}")
    wall, busy = time.perf_counter() - start, children_cpu() - busy
    with (out / name / "results.csv").open() as stream:
        rows = [{k.strip(): v for k, v in row.items()} for row in DictReader(stream)]
    if len(rows) != settings["epochs"]:
        sys.exit(f"{name}: {len(rows)} epochs in results.csv, not {settings['epochs']}")
    params, flops = cost(out / name / "weights" / "last.pt", settings["imgsz"])
    return {
        "settings": settings,
        "command": shlex.join(command),
        "map": float(rows[-1]["metrics/mAP50-95(B)"]),
        "map50": float(rows[-1]["metrics/mAP50(B)"]),
        "seconds": round(float(rows[-1]["time"]), 1),  # training and the last evaluation
        "wall_seconds": round(wall, 1),  # with start-up
        "cpu_seconds": round(busy, 1),
        "params": params,
        "flops": flops,
        "machine": machine(settings.get("device", "")),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "ultralytics", "yolograft")},
        },
    }


def children_cpu() -> float:
    """Return the processor seconds of the ended child processes."""
    times = os.times()
    return times.children_user + times.children_system


def cost(weights: Path, imgsz: int) -> tuple[int, int]:
    """Return parameters and FLOPs of a trained model by the pack's counter."""
    from ultralytics import YOLO

    import yolograft

    found = yolograft.count(YOLO(weights).model.float(), imgsz)
    return found.params, found.flops


def machine(device: str) -> str:
    """Return the processor, or the GPU when one was used, in words."""
    import torch

    if device not in ("", "cpu") or (not device and torch.cuda.is_available()):
        return f"{torch.cuda.get_device_name()} (device={device or 0})"
    threads = os.environ.get("OMP_NUM_THREADS", "1")  # Ultralytics sets 1 when it is not set
    return f"{processor()}, {os.cpu_count()} cores, OMP_NUM_THREADS={threads}"


def report(args: argparse.Namespace, records: list[dict]) -> tuple[str, bool]:
    """Return the Markdown text, and whether each grafted model reached the bar.

    Args:
        args: The command line.
        records: Of all runs.
    """
    by_model = {m: [r for r in records if r["settings"]["model"] == m] for m in args.models}
    stock = [r["map"] for r in by_model[args.models[0]]]
    table, verdicts = [], []
    for model, runs in by_model.items():
        maps = [r["map"] for r in runs]
        ratio = statistics.mean(maps) / max(statistics.mean(stock), 1e-9)
        differences = [a - b for a, b in zip(maps, stock, strict=True)]
        is_stock = model == args.models[0]
        cells = [
            f"`{model}`",
            *(f"{x:.3f}" for x in maps),
            spread(maps),
            "1" if is_stock else f"{ratio:.3f}",
            "" if is_stock else spread(differences, "+.3f"),
            f"{statistics.mean(r['map50'] for r in runs):.3f}",
            f"{runs[0]['params'] / 1e6:.2f}",
            f"{runs[0]['flops'] / 1e9:.2f}",
            f"{statistics.mean(r['cpu_seconds'] for r in runs):.0f}",
            f"{statistics.mean(r['seconds'] for r in runs):.0f}",
        ]
        table.append(f"| {' | '.join(cells)} |")
        if not is_stock:
            verdicts.append((model, ratio, ratio >= BAR))
    heads = [
        *("config", *(f"seed {s}" for s in args.seeds), "mean ± sd", "ratio to stock"),
        *("difference to stock", "mAP50", "params, M", f"GFLOPs at {args.imgsz}"),
        *("CPU s a run", "wall s a run"),
    ]
    passed = all(ok for *_, ok in verdicts)
    missed = ", ".join(f"`{m}` {r:.3f}" for m, r, ok in verdicts if not ok)
    if missed:
        results = f"Missed by {missed}"
    elif verdicts:
        lowest, least, _ = min(verdicts, key=lambda v: v[1])
        results = f"All {len(verdicts)} do; the lowest is `{lowest}`, {least:.3f}"
    else:
        results = "No grafted config was trained"
    versions = sorted({", ".join(f"{k} {v}" for k, v in r["versions"].items()) for r in records})
    text = REPORT.format(
        title=f"`{Path(args.data).stem}`, {plural(len(args.seeds), 'seed')}",
        args=args,
        epochs=plural(args.epochs, "epoch"),
        count=plural(len(args.seeds), "seed"),
        table="\n".join([f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *table]),
        bar=BAR,
        stock=statistics.mean(stock),
        results=results,
        command=shlex.join(["python", "scripts/learn.py", *sys.argv[1:]]),
        run=records[0]["command"],
        machine="; ".join(sorted({r["machine"] for r in records})),
        versions="; ".join(versions),
        json=args.report.with_suffix(".json").name,
    )
    return text, passed


def spread(values: list[float], form: str = ".3f") -> str:
    """Return ``mean ± standard deviation``."""
    mean = f"{statistics.mean(values):{form}}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def plural(count: int, noun: str) -> str:
    """Return ``1 seed`` or ``3 seeds``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def write(file: Path, text: str) -> None:
    """Write a file so that a stopped script leaves the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temp = file.with_name(f".{file.name}.{os.getpid()}")
    temp.write_text(text, encoding="utf-8")
    os.replace(temp, file)


if __name__ == "__main__":
    sys.exit(main())
