"""Comparisons whose trainings take no time: records and checkpoints without what is in them."""

from yolograft.compare import process, records
from yolograft.compare.records import (
    Epoch,
    Memory,
    SpeedJob,
    SpeedRecord,
    Timing,
    TrainRecord,
    Transferred,
)


class Instant:
    """An engine that leaves of each run what a training leaves, and counts them."""

    slots = ("cpu",)

    def __init__(self):
        self.ran = []

    def start(self, job, slot):
        self.ran.append(job.id)
        folder = process.prepare(job)
        if isinstance(job, SpeedJob):
            record = timed(job)
        else:
            (folder / "weights").mkdir()
            (folder / "weights" / "best.pt").write_text(job.key)
            record = finished(job)
        records.save(job.record, record)
        return self

    def poll(self):
        return ""

    def stop(self):
        pass


def timed(job):
    """Return the record of a speed measurement."""
    return SpeedRecord(
        id=job.id,
        key=job.key,
        inputs=job.inputs,
        models=dict.fromkeys(job.models, dict.fromkeys(("1", "32"), Timing(1.0, 1.0, 1.0, 1.0, 9))),
        precision="float32",
        imgsz=64,
        environment={"device": "a processor"},
    )


def finished(job, ap=0.5):
    """Return the record of a run."""
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "ultralytics_AP")
    return TrainRecord(
        id=job.id,
        key=job.key,
        inputs=job.inputs,
        variant=job.variant.name,
        seed=job.inputs.seed,
        kind=job.variant.kind,
        what=job.variant.source,
        metrics=dict.fromkeys(names, ap),
        curve=[Epoch(1, ap, 1.0, 1.0)],
        per_class={"circle": ap},
        examples=[],
        source="label files",
        best_epoch=1,
        seconds=1.0,
        peak_memory=Memory(1, "the process"),
        transferred=Transferred(0, 1),
        checkpoint=f"runs/{job.id}/weights/best.pt",
        environment={"device": "a processor"},
    )


def trainings(project):
    """Return the records of trainings in a folder by their ids."""
    found = records.read(project)
    return {name: one for name, one in sorted(found.items()) if isinstance(one, TrainRecord)}


def states(project):
    """Return of each run in a folder the key of its record and that of its checkpoint."""
    found = trainings(project)
    return {name: (one.key, (project / one.checkpoint).read_text()) for name, one in found.items()}
