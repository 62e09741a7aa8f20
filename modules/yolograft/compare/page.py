"""What only the page of a report shows: examples, commands, runs and what they ran on."""

from __future__ import annotations

import base64
import shlex
from typing import Any

from yolograft.compare import figures, tables
from yolograft.compare.results import Comparison, Row

#: Longest side of an example image, in pixels.
_SIDE = 320
_CLASS_COLORS = ("#ffd400", "#00e5ff", "#ff5d8f", "#7cff4f", "#ff9a3c", "#c29bff", "#ffffff")


def content(found: Comparison) -> dict[str, Any]:
    """Return what ``templates/page.html`` names besides what all files of the report have.

    Args:
        found: The results.
    """
    plan, rows = found.plan, found.rows
    settings = {"data": plan.data, "epochs": plan.epochs, "seed": 0, **plan.settings}
    words = [f"{k}={v}" for k, v in settings.items()]
    classes = tables.classes(rows)
    return {
        "colors": {row.name: figures.color(row, i) for i, row in enumerate(rows)},
        "source": " and ".join(sorted({run.source for run in found.runs})),
        "classes": classes,
        "most": max((c.value for row in classes.body for c in row[1:] if c.text), default=0) or 1,
        "commands": [
            shlex.join(["yolo", "train", f"model=configs/{row.name}.yaml", *words]) for row in rows
        ],
        "environment": _facts(found),
        "runs": tables.runs(found),
        **_examples(rows),
    }


def _facts(found: Comparison) -> dict[str, str]:
    """Return what all runs ran on."""
    facts = {}
    for key in ("device", "system", "python", "cuda", "threads", *found.plan.versions):
        values = {run.environment.get(key) for run in found.runs} - {None, ""}
        if values and key != "format":
            facts[key] = ", ".join(sorted(map(str, values)))
    return {**facts, "data": found.plan.digest[:16]}


def _examples(rows: list[Row]) -> dict[str, Any]:
    """Return example images, each with what is there and what each variant finds."""
    first = {row.name: min(row.runs, key=lambda run: run.seed) for row in rows if row.runs}
    examples = []
    for example in next(iter(first.values())).examples if first else ():
        if image := _image(example.file):
            shown = [("what is there", [[*b[:4], None, b[4]] for b in example.truth])]
            for name, run in first.items():
                shown += [(name, one.found) for one in run.examples if one.file == example.file]
            examples.append({**image, "shown": shown})
    return {
        "examples": examples,
        "names": list(dict.fromkeys(name for run in first.values() for name in run.names)),
        "shades": _CLASS_COLORS,
        "seed": min((run.seed for run in first.values()), default=0),
    }


def _image(file: str) -> dict[str, Any] | None:
    """Return size and a small JPEG of an image file; ``None`` if it is not here."""
    import cv2
    import numpy as np

    try:
        image = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
    except OSError:
        return None
    if image is None:
        return None
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return {"width": width, "height": height, "jpeg": base64.b64encode(jpeg.tobytes()).decode()}
