"""Compare grafted models that start warm with ones that start cold, epoch by epoch.

A stock model is trained first. Each recipe is then grafted into it and trained further, with a
residual gate (`--warm exact`) and without, beside the same graft with new weights and the stock
model itself. Every run is one stock command; one that has finished is not run again. Settings, as
`key=value`, replace those that fit the drawn shapes.

Example: python -m scripts.bench.warm --recipes spd dcn sk cbam --epochs 20 --more 10
         python -m scripts.bench.warm --data bccd.yaml --ways gate --more 1 imgsz=320 batch=16
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from datetime import date
from itertools import product
from pathlib import Path

from . import common

#: How a graft starts, and its colour.
WAYS = {"gate": "tab:blue", "warm": "tab:orange", "cold": "tab:green"}

#: What fits a drawn set of small images.
SETTINGS = ["imgsz=160", "optimizer=AdamW", "lr0=0.001", "batch=16", "nbs=16", "mosaic=0"]

REPORT = """\
# Warm starts, epoch by epoch

`{base}` was trained for {epochs} epochs on `{data}`, which gave mAP50-95 {start:.3f}. Then every
model below was trained for {more} more ({settings}; seed 0).
*gate*: `yolograft patch best.pt --recipe NAME --warm exact`; *warm*: the same without `--warm`;
*cold*: the grafted config with new weights.

mAP50-95 after so many epochs; column 0 is before the first:

{table}
{figure}
One seed shows how fast a model recovers from its start, and nothing about the final accuracy of a
block.
Ultralytics {ultralytics}, PyTorch {torch}, {cpu}, {date}.

```sh
python -m scripts.bench.warm {command}
```
"""


def main() -> None:
    """Run what is missing, then write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.warm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", default="yolov8n.yaml")
    parser.add_argument("--data", default="shapes.yaml")
    parser.add_argument("--recipes", nargs="+", default=common.recipe_names())
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--epochs", type=int, default=20, help="of the stock model")
    parser.add_argument("--more", type=int, default=10, help="of every model after that")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/warm"))
    parser.add_argument("--report", type=Path, default=common.RESULTS / "warm-start.md")
    parser.add_argument("settings", nargs="*", default=SETTINGS, metavar="key=value")
    args = parser.parse_intermixed_args()
    args.out.mkdir(parents=True, exist_ok=True)

    best = train(args, "base", args.base, args.epochs) / "weights" / "best.pt"
    start = validate(args, best)
    rows = {args.base: [start, *curve(train(args, "stock", best, args.more))]}
    for name, way in product(args.recipes, args.ways):
        before, model = None, f"{Path(args.base).stem}-{name}.yaml"
        if way != "cold":
            model = args.out / f"{name}-{way}.pt"
            gate = ["--warm", "exact"] if way == "gate" else []
            if not model.exists():  # else it is the one that was trained on
                run("yolograft", "patch", best, "--recipe", name, "-o", model, *gate)
            before = validate(args, model)
        after = curve(train(args, f"{name}-{way}", model, args.more))
        rows[f"{name}, {way}"] = [before, *after]

    values = vars(args) | {"settings": " ".join(args.settings)}
    text = REPORT.format(
        **values,
        **common.machine(),
        **common.versions("ultralytics", "torch"),
        start=start,
        table=table(rows, args.more),
        figure=draw(rows, args) if args.more > 1 else "",
        date=date.today(),
        command=" ".join(sys.argv[1:]),
    )
    common.save(args.report, text)


def run(command: str, *args: object) -> str:
    """Run a command of this environment and return what it printed."""
    file = Path(sys.executable).with_name(command)
    done = subprocess.run([file, *map(str, args)], text=True, capture_output=True)
    if done.returncode:
        sys.exit(
            f"{command} {' '.join(map(str, args))}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done.stdout


def train(args: argparse.Namespace, name: str, model: object, epochs: int) -> Path:
    """Train a model, unless that was done before, and return the run's folder."""
    folder = args.out.resolve() / name
    done = folder / "done"
    if not done.exists():
        print(f"training {name}", flush=True)
        place = [f"project={args.out.resolve()}", f"name={name}", "exist_ok=True", "plots=False"]
        data = [f"data={args.data}", f"device={args.device}", "workers=0", "seed=0"]
        run("yolo", "detect", "train", f"model={model}", f"epochs={epochs}", *data, *place,
            *args.settings)  # fmt: skip
        done.touch()
    return folder


def curve(folder: Path) -> list[float]:
    """Return mAP50-95 after each epoch of a run."""
    with (folder / "results.csv").open(encoding="utf-8") as stream:
        rows = [{k.strip(): v for k, v in row.items()} for row in csv.DictReader(stream)]
    return [float(row["metrics/mAP50-95(B)"]) for row in rows]


def validate(args: argparse.Namespace, file: Path) -> float:
    """Return a checkpoint's mAP50-95."""
    size = [setting for setting in args.settings if setting.startswith("imgsz=")]
    code = (
        "import sys, yaml; from ultralytics import YOLO; "
        "options = {k: yaml.safe_load(v) for k, v in (o.split('=') for o in sys.argv[2:])}; "
        "print('mAP', YOLO(sys.argv[1]).val(**options, plots=False, verbose=False).box.map)"
    )
    place = [f"project={args.out.resolve()}", "name=val", "exist_ok=True"]
    data = [f"data={args.data}", f"device={args.device}", "workers=0"]
    out = run("python", "-c", code, file, *data, *size, *place)
    return float(out.rpartition("mAP ")[2].split()[0])


def draw(rows: dict[str, list[float | None]], args: argparse.Namespace) -> str:
    """Draw the curves beside the report, a panel for each recipe, and return the line for it."""
    from matplotlib import pyplot

    size = (3.2 * len(args.recipes), 3)
    figure, panels = pyplot.subplots(1, len(args.recipes), figsize=size, sharey=True, squeeze=False)
    for panel, name in zip(panels[0], args.recipes, strict=True):
        panel.plot(rows[args.base], color="0.6", label="stock, trained on")
        for way in args.ways:
            values = rows[f"{name}, {way}"]
            at = [epoch for epoch, value in enumerate(values) if value is not None]
            panel.plot(at, [values[epoch] for epoch in at], color=WAYS[way], label=way)
        panel.set(title=name, xlabel="epoch", ylim=(0, None))
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("mAP50-95")
    panels[0][0].legend(frameon=False)
    file = args.report.with_suffix(".png")
    figure.savefig(file, dpi=110, bbox_inches="tight")
    return f"\n![mAP50-95 by epoch]({file.name})\n"


def table(rows: dict[str, list[float | None]], more: int) -> str:
    """Return a Markdown table of the curves at some epochs."""
    epochs = sorted({0, 1, 2, 3, 5, 10, 20, 50, 100, more} & {*range(more + 1)})
    lines = [("model", *epochs)]
    for name, values in rows.items():
        lines.append((name, *("" if values[e] is None else f"{values[e]:.3f}" for e in epochs)))
    return common.table(lines, "l")


if __name__ == "__main__":
    main()
