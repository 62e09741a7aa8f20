"""The columns that the COCO numbers have in results.csv."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from yolograft import files
from yolograft.coco.config import KEY
from yolograft.coco.metrics import KINDS, NAMES

#: Columns of results.csv; those that Ultralytics writes under ``save_json`` keep their names.
COLUMNS = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "APs": "mAP_small",
    "APm": "mAP_medium",
    "APl": "mAP_large",
    "AR100": "AR",
}


def columns(numbers: dict[str, dict[str, float]], task: str) -> dict[str, float]:
    """Return the columns of results.csv.

    Args:
        numbers: From :meth:`yolograft.coco.recorder.Recorder.evaluate`.
        task: ``detect``, ``segment`` or ``pose``.
    """
    return {
        f"metrics/{COLUMNS.get(name, name)}({KINDS[task][kind]})": value
        for kind, values in numbers.items()
        for name, value in values.items()
        if name in COLUMNS or (kind == "keypoints" and name == "AR")
    }


def training_columns(task: str) -> list[str]:
    """Return the columns that a training's results.csv has.

    Args:
        task: ``detect``, ``segment`` or ``pose``.
    """
    kinds = ["bbox"] if task == "segment" else KINDS[task]
    return list(columns({kind: dict.fromkeys(NAMES[kind], 0.0) for kind in kinds}, task))


def epoch_columns(trainer: Any, metrics: dict[str, float]) -> dict[str, float]:
    """Return the COCO columns of an epoch, none where the data is not COCO JSON.

    Epochs before the first validation hold zeros, as in Ultralytics' own columns; where the
    evaluation failed, there is NaN.

    Args:
        trainer: Ultralytics' trainer.
        metrics: Its metrics of the epoch.
    """
    if not isinstance(trainer.data, dict) or KEY not in trainer.data:
        return {}
    lacking = math.nan if hasattr(trainer.validator, "_yolograft") else 0
    return {key: metrics.get(key, lacking) for key in training_columns(trainer.args.task)}


def placed(metrics: dict[str, float], ours: dict[str, float]) -> dict[str, float]:
    """Return the metrics of an epoch with the COCO columns behind Ultralytics' own metrics.

    Ultralytics writes the header of results.csv with the first epoch's keys and appends values by
    place, so each epoch has to have the same ones.

    Args:
        metrics: Ultralytics' metrics.
        ours: From :func:`epoch_columns`.
    """
    keys = [key for key in metrics if key not in ours]
    last = max((i for i, key in enumerate(keys, 1) if key.startswith("metrics/")), default=0)
    every = {**metrics, **ours}
    return {key: every[key] for key in (*keys[:last], *ours, *keys[last:])}


def blank(file: Path, ours: dict[str, float]) -> None:
    """Empty the COCO columns without a number in the last row: Ultralytics writes numbers only.

    Args:
        file: The results.csv.
        ours: From :func:`epoch_columns`.
    """
    lacking = {key for key, value in ours.items() if math.isnan(value)}
    if not lacking:
        return
    with file.open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    rows[-1] = ["" if key in lacking else v for key, v in zip(head, rows[-1], strict=True)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    files.write(file, text.getvalue())
