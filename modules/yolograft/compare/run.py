"""Schedule the runs of a comparison, and continue where it was killed."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from yolograft import files
from yolograft.compare import jobs, keep, records
from yolograft.compare.records import (
    AnyRecord,
    Failure,
    Job,
    Plan,
    TrainJob,
    TrainRecord,
    Unreadable,
)
from yolograft.compare.variants import yaml_of
from yolograft.compare.worker import curve

#: Seconds between two looks at the runs.
_PAUSE = 0.2


class Handle(Protocol):
    """A run in progress."""

    def poll(self) -> str | None:
        """Return ``None`` while it runs, then why it failed, ``""`` if it did not."""

    def stop(self) -> None:
        """End it."""


class Engine(Protocol):
    """Where runs go: processes of this machine, or a cluster."""

    slots: list[str]

    def start(self, job: Job, slot: int) -> Handle:
        """Start a run that is to leave a record."""


def run(plan: Plan, engine: Engine, force: bool = False) -> list[str]:
    """Do what is missing of a comparison.

    Args:
        plan: What is compared.
        engine: Where runs go.
        force: Move finished runs of other versions or settings aside, and do them again.

    Returns:
        The ids of the runs that failed.

    Raises:
        ConfigError: If there are such runs, and ``force`` is not set.
    """
    with keep.locked(plan.project):
        keep.finish_moving(plan.project)
        states = keep.make_room(plan, force)
        write_plan(plan)
        for one in states:
            if one.why == keep.FAILED:
                print(f"{one.job.id}: failed before, runs again")
        todo = [one.job for one in states if not one.record]
        print(f"{len(states) - len(todo)} of {len(states)} runs are finished", flush=True)
        failed = _schedule(todo, engine, plan.epochs)
        gates = {}
        for one in keep.survey(plan):
            if one.record:
                gates.setdefault(one.job.variant.name, one.record.gates)
        speed = jobs.speed(plan, gates)
        if speed.models and not keep.holds(speed, records.read(plan.project))[0]:
            print("measuring latency and throughput", flush=True)
            failed += _schedule([speed], engine, plan.epochs)
        records.pack(plan.project)
        return [job.id for job in failed]


def write_plan(plan: Plan) -> None:
    """Write ``plan.json``, and a model YAML for each variant.

    Args:
        plan: What is compared.
    """
    for one in plan.variants:
        files.write(plan.project / "configs" / f"{one.name}.yaml", yaml_of(one))
    keys = {job.id: job.key for job in jobs.trainings(plan)}
    records.save(plan.project / "plan.json", replace(plan, keys=keys, versions=jobs.versions()))


def _schedule(todo: Sequence[Job], engine: Engine, epochs: int) -> list[Job]:
    """Run jobs, as many at once as there are slots; return those that failed."""
    from ultralytics.utils import TQDM

    waiting, failed = deque(todo), []
    running: dict[int, tuple[Job, Handle]] = {}
    bar = TQDM(total=len(todo), unit="run", leave=False, disable=not sys.stdout.isatty())

    def say(text: str) -> None:
        bar.clear()
        print(text, flush=True)

    def fail(job: Job, error: str) -> None:
        failed.append(job)
        log = str(Path("runs", job.id, "log.txt"))
        records.save(job.record, Failure(id=job.id, key=job.key, error=error, log=log))
        say(f"{job.id} failed: {error} (see {log})")
        bar.update()

    try:
        while waiting or running:
            for slot in range(len(engine.slots)):
                while slot not in running and waiting:
                    job = waiting.popleft()
                    if any(_variant(one) == _variant(job) for one in failed):
                        fail(job, "not run: another seed of this variant failed")
                        continue
                    running[slot] = job, engine.start(job, slot)
                    say(f"{job.id}: running")
            for slot, (job, handle) in list(running.items()):
                error = handle.poll()
                if error is None:
                    continue
                del running[slot]
                record = _result(job)
                if error or not record:
                    fail(job, error or "left no record")
                    continue
                say(f"{job.id}: {_outcome(record)}")
                bar.update()
            if not bar.disable:
                about = ", ".join(_progress(job, epochs) for job, _ in running.values())
                bar.set_description(about[: max(20, shutil.get_terminal_size().columns - 45)])
            time.sleep(_PAUSE)
    finally:
        for _, handle in running.values():
            handle.stop()
        bar.close()
    return failed


def _variant(job: Job) -> str:
    return job.variant.name if isinstance(job, TrainJob) else ""


def _result(job: Job) -> AnyRecord | None:
    """Return the record that a job has left, if it is one of this job."""
    try:
        record = records.load(AnyRecord, job.record)
    except Unreadable:
        return None
    return record if record.key == job.key and not isinstance(record, Failure) else None


def _outcome(record: AnyRecord) -> str:
    ap = record.metrics["AP"] if isinstance(record, TrainRecord) else None
    return "finished" if ap is None else f"AP {ap:.4f}"


def _progress(job: Job, epochs: int) -> str:
    """Return how far a training is, from the results.csv that it writes."""
    try:
        last = curve(Path(job.folder, "results.csv"))[-1]
    except (OSError, IndexError, KeyError, ValueError):
        return job.id
    return f"{job.id} {last.epoch}/{epochs}"
