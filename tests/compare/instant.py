"""Comparisons whose trainings take no time: records and checkpoints without what is in them."""

import json

from yolograft.compare import run


class Instant:
    """An engine that leaves of each run what a training leaves, and counts them."""

    slots = ("cpu",)

    def __init__(self, gates=None):
        self.ran, self.gates = [], gates

    def start(self, job, record, slot):
        self.ran.append(job["id"])
        if job["kind"] == "speed":
            one = {"milliseconds": 1.0, "low": 1.0, "high": 1.0, "calls": 9}
            both = {batch: {**one, "images_per_second": 1.0} for batch in ("1", "32")}
            kept = {k: job[k] for k in ("id", "key", "inputs", "kind")}
            content = {
                **kept,
                "status": "finished",
                "models": {name: both for name in job["models"]},
            }
        else:
            folder = run.prepare(job)
            (folder / "weights").mkdir()
            (folder / "weights" / "best.pt").write_text(job["key"])
            content = finished(job)
        record.write_text(json.dumps(content))
        return self

    def poll(self):
        return ""

    def stop(self):
        pass


def finished(job, ap=0.5):
    """Return the record of a run."""
    kept = {k: job[k] for k in ("id", "variant", "seed", "key", "inputs", "kind", "what")}
    return {
        **kept,
        "status": "finished",
        "metrics": dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl", "ultralytics_AP"), ap),
        "curve": [{"epoch": 1, "AP": ap, "train_loss": 1.0, "val_loss": 1.0}],
        "per_class": {"circle": ap},
        "examples": [],
        "source": "label files",
        "best_epoch": 1,
        "seconds": 1.0,
        "peak_memory": {"bytes": 1, "of": "the process"},
        "transferred": {"tensors": 0, "of": 1},
        "checkpoint": f"runs/{job['id']}/weights/best.pt",
        "environment": {"device": "a processor"},
    }


def states(project):
    """Return of each run in a folder the key of its record and that of its checkpoint."""
    found = {}
    for file in sorted((project / "records").glob("*-seed*.json")):
        record = json.loads(file.read_text())
        found[file.stem] = (record["key"], (project / record["checkpoint"]).read_text())
    return found
