"""One run in its own process: ``python -m yolograft.compare.worker JOB.json RECORD.json``.

The process ends when the comparison that started it does: it reads its standard input, which the
system closes then.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from yolograft import files


def main(argv: list[str]) -> int:
    """Do one job, write its record.

    Args:
        argv: File of the job, file of the record.
    """
    if not sys.stdin.isatty():
        threading.Thread(target=_end_with_parent, daemon=True).start()
    from yolograft.compare.plan import versions  # what takes a while comes after that

    job = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    wanted, here = job["inputs"]["versions"], versions()
    if wanted != here:
        other = ", ".join(f"{k} {here[k]}, not {wanted[k]}" for k in here if here[k] != wanted[k])
        sys.exit(f"the comparison was planned with other versions: here {other}")
    if job["kind"] == "speed":
        from yolograft.compare import speed

        record = speed.measure(job)
    else:
        record = train(job)
    files.write(Path(argv[1]), as_json(record))
    for name in ("state.pt", "weights/last.pt"):  # not before: a full disk takes no record
        Path(job["folder"], name).unlink(missing_ok=True)
    return 0


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    for loader in multiprocessing.active_children():
        loader.kill()
    os._exit(1)


def as_json(content: dict[str, Any]) -> str:
    """Return the text of a record or a plan.

    Args:
        content: Plain values; NaN is refused.
    """
    return json.dumps(content, indent=1, allow_nan=False)


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train and evaluate one model; return its record.

    Args:
        job: From :meth:`yolograft.compare.plan.Plan.job`, with ``folder`` and ``device``.
    """
    from yolograft.compare import evaluate, speed
    from yolograft.compare import train as training
    from yolograft.compare.plan import load_checkpoint, task_of

    folder = Path(job["folder"])
    task = task_of(job["config"])
    trainer_class = training.trainer_of(task)
    trainer_class.job = job
    overrides = {
        **job["settings"],
        "task": task,
        "mode": "train",
        "model": job["model"],
        "data": job["data"],
        "epochs": job["epochs"],
        "seed": job["seed"],
        "device": job["device"],
        "project": str(folder.parent),
        "name": folder.name,
        "exist_ok": True,
        "pretrained": False,
    }
    trainer = trainer_class(overrides=overrides)
    training.callbacks(trainer)
    trainer.train()
    found = evaluate.measure(trainer.validator)
    checkpoint = folder / "weights" / "best.pt"
    return {
        **{k: job[k] for k in ("id", "variant", "seed", "key", "inputs", "kind", "what")},
        "status": "finished",
        **found,
        "curve": _curve(trainer.csv),
        "best_epoch": trainer.stopper.best_epoch,
        "seconds": round(trainer.spent, 3),
        "peak_memory": {
            "bytes": int(trainer.peak),
            "of": "tensors on the GPU" if trainer.device.type == "cuda" else "the process",
        },
        "transferred": {"tensors": trainer.carried[0], "of": trainer.carried[1]},
        "checkpoint": str(Path("runs", folder.name, "weights", "best.pt")),
        "gates": speed.gates(load_checkpoint(str(checkpoint))),
        "environment": speed.environment(trainer.device),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _curve(file: Path) -> list[dict[str, Any]]:
    """Return epoch, AP by the host's own metric and summed losses, epoch by epoch."""
    rows = []
    with file.open(encoding="utf-8", newline="") as stream:
        for raw in csv.DictReader(stream, skipinitialspace=True):
            row = {k.strip(): float(v) for k, v in raw.items() if k and v}
            losses = {
                part: sum(v for k, v in row.items() if k.startswith(f"{part}/"))
                for part in ("train", "val")
            }
            rows.append(
                {
                    "epoch": int(row["epoch"]),
                    "AP": _finite(row.get("metrics/mAP50-95(B)")),
                    "train_loss": _finite(losses["train"]),
                    "val_loss": _finite(losses["val"]),
                }
            )
    return rows


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) < float("inf") else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
