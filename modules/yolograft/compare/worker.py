"""A job in its own process: ``python -m yolograft.compare.worker JOB.json``.

The process ends when the comparison that started it does: it reads its standard input, which the
system closes then.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path

from yolograft.compare import records
from yolograft.compare.records import Epoch, Memory, SpeedJob, TrainJob, TrainRecord, Transferred


def main(argv: list[str]) -> int:
    """Do one job, write its record.

    Args:
        argv: File of the job.
    """
    if not sys.stdin.isatty():
        threading.Thread(target=_end_with_parent, daemon=True).start()
    from yolograft.compare import jobs, speed  # this takes a while, so it comes after that

    job = records.load(TrainJob | SpeedJob, Path(argv[0]))
    wanted, here = job.inputs.versions, jobs.versions()
    if wanted != here:
        other = ", ".join(f"{k} {here[k]}, not {wanted[k]}" for k in here if here[k] != wanted[k])
        sys.exit(f"the comparison was planned with other versions: here {other}")
    records.save(job.record, train(job) if isinstance(job, TrainJob) else speed.measure(job))
    for name in ("state.pt", "weights/last.pt"):  # not before: a full disk takes no record
        Path(job.folder, name).unlink(missing_ok=True)
    return 0


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    for loader in multiprocessing.active_children():
        loader.kill()
    os._exit(1)


def train(job: TrainJob) -> TrainRecord:
    """Train and evaluate one model; return its record.

    Args:
        job: With ``device``.
    """
    from yolograft.compare import evaluate, speed, variants
    from yolograft.compare import train as training

    folder = Path(job.folder)
    task = variants.task_of(job.variant.config)
    trainer_class = training.trainer_of(task)
    trainer_class.job = job
    overrides = {
        **job.inputs.settings,
        "task": task,
        "mode": "train",
        "model": str(folder.parents[1] / "configs" / f"{job.variant.name}.yaml"),
        "data": job.data,
        "epochs": job.inputs.epochs,
        "seed": job.inputs.seed,
        "device": job.device,
        "project": str(folder.parent),
        "name": folder.name,
        "exist_ok": True,
        "pretrained": False,
    }
    trainer = trainer_class(overrides=overrides)
    training.callbacks(trainer)
    trainer.train()
    checkpoint = Path("runs", folder.name, "weights", "best.pt")
    on_gpu = trainer.device.type == "cuda"
    return TrainRecord(
        id=job.id,
        key=job.key,
        inputs=job.inputs,
        variant=job.variant.name,
        kind=job.variant.kind,
        seed=job.inputs.seed,
        what=job.variant.source,
        **evaluate.measure(trainer.validator),
        curve=curve(trainer.csv),
        best_epoch=trainer.stopper.best_epoch,
        seconds=round(trainer.spent, 3),
        peak_memory=Memory(int(trainer.peak), "tensors on the GPU" if on_gpu else "the process"),
        transferred=Transferred(*trainer.carried),
        checkpoint=str(checkpoint),
        gates=speed.gates(variants.load_checkpoint(str(folder.parents[1] / checkpoint))),
        environment=speed.environment(trainer.device),
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    )


def curve(file: Path) -> list[Epoch]:
    """Return AP by Ultralytics' own metric and summed losses, epoch by epoch.

    Args:
        file: The results.csv of a run.
    """
    rows = []
    with file.open(encoding="utf-8", newline="") as stream:
        for raw in csv.DictReader(stream, skipinitialspace=True):
            row = {k.strip(): float(v) for k, v in raw.items() if k and v}
            train, val = (
                _finite(sum(v for k, v in row.items() if k.startswith(part)))
                for part in ("train/", "val/")
            )
            ap = _finite(row.get("metrics/mAP50-95(B)"))
            rows.append(Epoch(int(row["epoch"]), ap, train, val))
    return rows


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) < float("inf") else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
