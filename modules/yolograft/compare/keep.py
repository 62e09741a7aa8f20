"""Which records still hold, and moving those that do not out of the way: nothing is deleted."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from yolograft import files
from yolograft.compare import jobs, records
from yolograft.compare.records import AnyRecord, Failure, Plan, SpeedJob, TrainJob, TrainRecord
from yolograft.errors import refuse

#: Why a record does not hold, besides other inputs.
CORRUPT, FAILED = "is corrupt", "failed"

#: What belongs to a comparison as a whole.
_WHOLE = (
    *("plan.json", "configs", records.PACK),
    *("report.html", "report.md", "results.csv", "table.tex", "figures"),
)


@dataclass(frozen=True)
class State:
    """A run, its record if that holds, else why not."""

    job: TrainJob
    record: TrainRecord | None
    why: str


def holds(
    job: TrainJob | SpeedJob, found: dict[str, AnyRecord | None]
) -> tuple[AnyRecord | None, str]:
    """Return the record of a job if it still holds, else why it does not.

    Args:
        job: What it has to be the record of.
        found: From :func:`yolograft.compare.records.read`.
    """
    record = found.get(job.id)
    if record is None:
        return None, CORRUPT if job.id in found else ""
    if isinstance(record, Failure):
        return None, FAILED
    if record.key == job.key:
        return record, ""
    if not isinstance(job, TrainJob):
        return None, "the models"
    return None, "; ".join(jobs.differences(job, record.inputs))


def survey(plan: Plan) -> list[State]:
    """Return the state of each run of a comparison.

    Args:
        plan: What is compared.
    """
    found = records.read(plan.project)
    return [State(job, *holds(job, found)) for job in jobs.trainings(plan)]


def stale(states: list[State]) -> tuple[list[str], str]:
    """Return the ids of finished runs that are of other inputs, and in what they differ.

    Args:
        states: From :func:`survey`.
    """
    found = {one.job.id: one.why for one in states if one.why not in ("", CORRUPT, FAILED)}
    changes = list(dict.fromkeys(part for why in found.values() for part in why.split("; ")))
    more = f"; {len(changes) - 8} more" if len(changes) > 8 else ""
    return list(found), "; ".join(changes[:8]) + more


def make_room(plan: Plan, force: bool) -> list[State]:
    """Move out of the way what cannot stay where a run is to go; return the states after that.

    Args:
        plan: What is compared.
        force: Move finished runs of other versions or settings.

    Raises:
        ConfigError: If there are such runs, and ``force`` is not set.
    """
    states = survey(plan)
    old, changes = stale(states)
    if old and not force:
        refuse(
            f"{plan.project}: {_runs(old)} of other versions or settings: {changes}",
            "choose another --project, which keeps both; or add --force: it first moves these "
            f"runs, with their checkpoints and the report, to {plan.project / 'aside'}",
        )
    records.adopt(plan.project)
    corrupt = [one.job.id for one in states if one.why == CORRUPT]
    if not old and not corrupt:
        return states
    more = [*_no_longer_asked_for(plan), "speed"] if old else []
    where = set_aside(plan.project, [*old, *more, *corrupt]).relative_to(plan.project)
    if old:
        print(f"{_runs(old)} of other versions or settings: moved to {where}")
    for one in corrupt:
        print(f"the record of {one} is corrupt: moved to {where} with its run, which runs again")
    return survey(plan)


def _no_longer_asked_for(plan: Plan) -> list[str]:
    """Return the ids of runs of other settings in the folder that the plan does not hold."""
    wanted = {job.id: job.inputs for job in jobs.trainings(plan)}
    now = next(iter(wanted.values()))
    return [
        name
        for name, one in records.read(plan.project).items()
        if isinstance(one, TrainRecord)
        and name not in wanted
        and jobs.of_other_settings(one.inputs, now)
    ]


def _runs(ids: list[str]) -> str:
    return "1 finished run is" if len(ids) == 1 else f"{len(ids)} finished runs are"


# ------------------------------------------------------------------------------------------- aside


def set_aside(project: Path, ids: list[str]) -> Path:
    """Move runs out of the way, each with its record.

    What is moved is written down first, so that the next start finishes what was killed.

    Args:
        project: Folder of the comparison.
        ids: Of the runs.

    Returns:
        Where they are now: a folder like that of a comparison, with the report as it was.
    """
    folder = aside(project)
    files.write(project / "moving.json", json.dumps({"to": folder.name, "ids": ids}))
    finish_moving(project)
    return folder


def finish_moving(project: Path) -> None:
    """Move what :func:`set_aside` wrote down, if it was killed.

    Args:
        project: Folder of the comparison.
    """
    note = project / "moving.json"
    if not note.is_file():
        return
    content = json.loads(note.read_text(encoding="utf-8"))
    folder = project / "aside" / content["to"]
    for name in _WHOLE:
        if (project / name).is_dir():
            shutil.copytree(project / name, folder / name, dirs_exist_ok=True)
        elif (project / name).is_file() and not (folder / name).exists():
            files.write(folder / name, (project / name).read_bytes())
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    for one in content["ids"]:
        if (project / "runs" / one).exists():
            os.replace(project / "runs" / one, folder / "runs" / one)
    if (project / records.PACK).is_file():
        records.pack(project, content["ids"])
    note.unlink()


def aside(project: Path) -> Path:
    """Return a folder of today that is not there yet.

    Args:
        project: Folder of the comparison.
    """
    name, number = time.strftime("%Y-%m-%d"), 1
    folder = project / "aside" / name
    while folder.exists():
        number += 1
        folder = folder.with_name(f"{name}-{number}")
    return folder


@contextlib.contextmanager
def locked(project: Path) -> Iterator[None]:
    """Hold a project folder for this process; the system releases it when the process ends.

    Args:
        project: The folder.

    Raises:
        ConfigError: If another process holds it.
    """
    with files.locked(project / ".lock", wait=False) as held:
        if not held:
            refuse(
                f"{project}: another comparison is running in this folder",
                "wait for it, or choose another --project",
            )
        yield
