#!/usr/bin/env python3
"""Compare grafted models that start warm with ones that start cold, epoch by epoch.

A stock model is trained first. Each recipe is then grafted into it and trained on, with a gate
(`--warm exact`) and without, beside the same graft with new weights and the stock model itself.
Every run is one stock command; one that has finished is not run again.

Example: python scripts/warm.py --recipes spd dcn sk cbam --epochs 60 --more 20
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from csv import DictReader
from importlib.metadata import version
from pathlib import Path

from processor import processor

REPORT = """\
# Warm starts, epoch by epoch

`{base}` was trained for {epochs} epochs on `{data}` at {imgsz} pixels, which gave mAP50-95
{start:.3f}. Then every model below was trained for {more} epochs with the same settings, one seed.
*gate*: `yolograft patch best.pt --recipe NAME --warm exact`; *warm*: the same without `--warm`;
*cold*: the grafted config with new weights.

Column 0 is before the first epoch.

{table}

One seed on a drawn data set tells how fast a start is made good, and nothing about the final
accuracy of a block. Ultralytics {ultralytics}, PyTorch {torch}, {processor}.

```sh
python scripts/warm.py {command}
```
"""


def main() -> None:
    """Run what is missing, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="yolov8n.yaml")
    parser.add_argument("--data", default="shapes.yaml")
    parser.add_argument("--recipes", nargs="+", default=["spd", "dcn", "sk", "cbam"])
    parser.add_argument("--epochs", type=int, default=60, help="of the stock model")
    parser.add_argument("--more", type=int, default=20, help="of every model after that")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/warm"))
    parser.add_argument("--report", type=Path, default=Path("docs/results/warm-start.md"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    best = train(args, "base", args.base, args.epochs) / "weights" / "best.pt"
    start = validate(args, best)
    rows = {args.base: [start, *curve(train(args, "stock", best, args.more))]}
    for name in args.recipes:
        for way, options in (("gate", ["--warm", "exact"]), ("warm", [])):
            file = args.out / f"{name}-{way}.pt"
            command = ["patch", best, "--recipe", name, "-o", file, "--force", *options]
            run("yolograft", *command)
            values = [validate(args, file), *curve(train(args, f"{name}-{way}", file, args.more))]
            rows[f"{name}, {way}"] = values
        cold = f"{Path(args.base).stem}-{name}.yaml"
        rows[f"{name}, cold"] = [None, *curve(train(args, f"{name}-cold", cold, args.more))]

    args.report.parent.mkdir(parents=True, exist_ok=True)
    args.report.write_text(
        REPORT.format(
            **vars(args),
            start=start,
            table=table(rows, args.more),
            ultralytics=version("ultralytics"),
            torch=version("torch"),
            processor=processor(),
            command=" ".join(sys.argv[1:]),
        ),
        encoding="utf-8",
    )
    print(f"wrote {args.report}")


def run(command: str, *args: object) -> str:
    """Run a command of this environment and return what it printed."""
    file = Path(sys.executable).with_name(command)
    done = subprocess.run([file, *map(str, args)], text=True, capture_output=True)
    if done.returncode:
        sys.exit(
            f"{command} {' '.join(map(str, args))}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done.stdout


def settings(args: argparse.Namespace) -> list[str]:
    """Return what is the same for every run."""
    return [f"data={args.data}", f"imgsz={args.imgsz}", f"device={args.device}", "workers=0"]


def train(args: argparse.Namespace, name: str, model: object, epochs: int) -> Path:
    """Train a model, unless that was done before, and return the run's folder."""
    folder = args.out.resolve() / name
    done = folder / "done"
    if not done.exists():
        print(f"training {name}", flush=True)
        place = [f"project={args.out.resolve()}", f"name={name}", "exist_ok=True", "plots=False"]
        budget = ["optimizer=AdamW", "lr0=0.001", "batch=16", "nbs=16", "mosaic=0", "seed=0"]
        run("yolo", "detect", "train", f"model={model}", f"epochs={epochs}", *budget, *place,
            *settings(args))  # fmt: skip
        done.touch()
    return folder


def curve(folder: Path) -> list[float]:
    """Return mAP50-95 after each epoch of a run."""
    with (folder / "results.csv").open(encoding="utf-8") as stream:
        rows = [{k.strip(): v for k, v in row.items()} for row in DictReader(stream)]
    return [float(row["metrics/mAP50-95(B)"]) for row in rows]


def validate(args: argparse.Namespace, file: Path) -> float:
    """Return a checkpoint's mAP50-95."""
    code = (
        "import sys; from ultralytics import YOLO; "
        "options = dict(o.split('=') for o in sys.argv[2:]); "
        "options |= {k: int(options[k]) for k in ('imgsz', 'workers')}; "
        "print('mAP', YOLO(sys.argv[1]).val(**options, plots=False, verbose=False).box.map)"
    )
    place = [f"project={args.out.resolve()}", "name=val"]
    out = run("python", "-c", code, file, *settings(args), *place)
    return float(out.rpartition("mAP ")[2].split()[0])


def table(rows: dict[str, list[float | None]], more: int) -> str:
    """Return a Markdown table of the curves at some epochs."""
    epochs = sorted({0, 1, 2, 3, 5, 10, 20, 50, 100, more} & {*range(more + 1)})
    lines = [f"| model | {' | '.join(map(str, epochs))} |", "|---" * (len(epochs) + 1) + "|"]
    for name, values in rows.items():
        cells = ["" if values[e] is None else f"{values[e]:.3f}" for e in epochs]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
