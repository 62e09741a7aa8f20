#!/usr/bin/env python3
"""Draw the pictures of README.md: the idea, a graft, and a comparison.

docs/assets/idea.png       a row of a model YAML, the model, what it detects
docs/assets/graph.svg      the rows of YOLO11n before and after the recipe cbam
docs/assets/compare.png    the differences of docs/results/compare/yolov8n, with their intervals

The first needs a trained model: --weights names one, else a YOLOv8n with CBAM is trained on the
drawn shapes (two minutes on two cores).
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image
from scipy import stats

from yolograft import files
from yolograft.graft import graft, plot

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "docs" / "assets"
RESULTS = ROOT / "docs" / "results" / "compare" / "yolov8n"
#: The verdict of the comparison's report is "lower than the base" for these.
LOWER = ("spm",)
GREY, EDGE, NEW, DARK = "#e9ecef", "#868e96", "#b2f2bb", "#212529"


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", help="a model trained on shapes.yaml")
    weights = parser.parse_args().weights
    mpl.rcParams.update({"font.family": "DejaVu Sans", "text.color": DARK})
    with tempfile.TemporaryDirectory() as folder:
        idea(weights or _train(folder))
    files.write(ASSETS / "graph.svg", plot.svg(graft("yolo11n.yaml", "cbam")))
    compare()


def _train(folder: str) -> str:
    from ultralytics import YOLO

    model = YOLO("yolov8n-cbam.yaml")
    model.train(data="shapes.yaml", cfg="shapes-demo.yaml", device="cpu", project=folder)
    return str(model.trainer.best)


def idea(weights: str) -> None:
    """Draw a row of a model YAML, the model with a layer more, and an image with detections.

    Args:
        weights: A trained model.
    """
    figure = plt.figure(figsize=(11, 3.6), dpi=145, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 11), ylim=(0, 3.6))
    axes.axis("off")
    _rows(axes)
    _layers(axes)
    for x in (3.75, 7.15):
        axes.add_patch(
            FancyArrowPatch(
                (x, 1.7), (x + 0.5, 1.7), arrowstyle="-|>", mutation_scale=22, color=EDGE
            )
        )
    image = figure.add_axes((7.85 / 11, 0.13 / 3.6, 3.0 / 11, 3.0 / 3.6))
    image.imshow(_detections(weights))
    image.axis("off")
    axes.text(9.35, 3.33, "detections", ha="center", size=12, weight="bold")
    figure.savefig(ASSETS / "idea.png", pil_kwargs={"optimize": True})
    Image.open(ASSETS / "idea.png").convert("RGB").quantize(128).save(ASSETS / "idea.png")
    plt.close(figure)


def _rows(axes) -> None:
    axes.text(1.85, 3.33, "a row in a model YAML", ha="center", size=12, weight="bold")
    lines = [
        "backbone:",
        "  - [-1, 1, Conv, [64, 3, 2]]",
        "  - [-1, 1, Conv, [128, 3, 2]]",
        "  - [-1, 3, C2f, [128, True]]",
        "  - [-1, 1, Conv, [256, 3, 2]]",
        "  - [-1, 6, C2f, [256, True]]",
        "  - [-1, 1, CBAM, []]",
        "  - [-1, 1, Conv, [512, 3, 2]]",
        "  ...",
    ]
    axes.add_patch(
        FancyBboxPatch(
            (0.18, 0.18),
            3.35,
            2.9,
            boxstyle="round,pad=0,rounding_size=0.08",
            fc="#f8f9fa",
            ec=GREY,
        )
    )
    for number, line in enumerate(lines):
        y = 2.8 - number * 0.31
        new = "CBAM" in line
        if new:
            axes.add_patch(Rectangle((0.22, y - 0.13), 3.27, 0.29, fc=NEW, ec="none"))
        axes.text(
            0.32, y, line, family="DejaVu Sans Mono", size=10.5, va="center",
            weight="bold" if new else "normal",
        )  # fmt: skip


def _layers(axes) -> None:
    axes.text(5.75, 3.33, "the model has the layer", ha="center", size=12, weight="bold")
    levels = [("Conv", 2.5), ("Conv", 2.05), ("C2f", 2.05), ("Conv", 1.6), ("C2f", 1.6)]
    levels += [("CBAM", 1.6), ("Conv", 1.15), ("C2f", 1.15), ("", 0.8)]
    for number, (name, height) in enumerate(levels):
        x = 4.42 + number * 0.3
        new = name == "CBAM"
        axes.add_patch(
            FancyBboxPatch(
                (x, 1.65 - height / 2), 0.2, height, boxstyle="round,pad=0,rounding_size=0.04",
                fc=NEW if new else GREY, ec="#2b8a3e" if new else EDGE, lw=1.6 if new else 0.8,
            )
        )  # fmt: skip
        axes.text(
            x + 0.1, 1.65, name or "...", rotation=90, ha="center", va="center", size=8.5,
            weight="bold" if new else "normal",
        )  # fmt: skip
    axes.text(5.75, 0.2, "yolo train model=yolov8n-cbam.yaml", ha="center", size=9.5,
              family="DejaVu Sans Mono", color="#495057")  # fmt: skip


def _detections(weights: str):
    """Return a validation image of the shapes with what a model finds in it, as RGB."""
    from ultralytics import YOLO
    from ultralytics.data.utils import check_det_dataset

    model = YOLO(weights)
    folder = Path(check_det_dataset("shapes.yaml")["val"])
    results = []
    for path in sorted(folder.glob("*.png")):
        image = cv2.resize(cv2.imread(str(path)), (640, 512), interpolation=cv2.INTER_CUBIC)
        imgsz = model.ckpt["train_args"]["imgsz"]
        results += model.predict(image, imgsz=imgsz, conf=0.5, iou=0.5, verbose=False)

    def quality(one) -> float:
        return float((one.boxes.conf - 0.5).sum()) + 0.5 * len(one.boxes.cls.unique())

    return max(results, key=quality).plot(line_width=3, font_size=24)[..., ::-1]


def compare() -> None:
    """Draw the difference of each variant to the base, with its interval, the best on top."""
    scores: dict[str, list[float]] = {}
    with (RESULTS / "results.csv").open() as file:
        for line in csv.DictReader(file):
            scores.setdefault(line["variant"], []).append(float(line["AP"]))
    base = np.array(scores.pop("yolov8n"))
    found = {name: np.array(aps) - base for name, aps in scores.items()}
    figure, axes = plt.subplots(figsize=(8, 5.2), dpi=140, layout="constrained")
    for place, name in enumerate(sorted(found, key=lambda name: found[name].mean())):
        one = found[name]
        low, high = stats.t.interval(0.95, len(one) - 1, one.mean(), stats.sem(one))
        control = name.endswith("-wide")
        colour = "#1c7ed6" if control else "#c92a2a" if name in LOWER else "#495057"
        axes.plot([low, high], [place, place], color=colour, lw=2.5, solid_capstyle="round")
        axes.plot(one.mean(), place, "o", color=colour, ms=8)
        label = "scale-up control" if control else name.removeprefix("yolov8n-")
        axes.text(-0.205, place, label, ha="right", va="center", size=11, color=colour)
    axes.axvline(0, color="#adb5bd", lw=1)
    axes.set(xlim=(-0.2, 0.1), yticks=[])
    axes.set_xlabel(
        "AP minus that of yolov8n: mean of three seeds, uncorrected 95 % interval", size=11
    )
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.text(0, len(found) - 0.1, "  better", size=10, color="#868e96")
    axes.text(0, len(found) - 0.1, "lower  ", size=10, color="#868e96", ha="right")
    figure.savefig(ASSETS / "compare.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
