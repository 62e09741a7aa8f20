"""Schedule the runs of a comparison, keep their records, go on where it was killed.

A project folder holds::

    plan.json             what is compared
    configs/NAME.yaml     the model of each variant
    records/ID.json       one for each finished or failed run, and speed.json
    runs/ID/              the host's own files of a run: args.yaml, results.csv, weights, log.txt
    report.html, ...      written when all runs are over
    aside/DATE/           the same, of runs that were moved out of the way
    moving.json           what is being moved there

Paths in records are relative to the folder, so that it can be moved as a whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from yolograft import files
from yolograft.compare.plan import Plan, Variant, key_of, rows_of, threads, versions
from yolograft.compare.worker import as_json
from yolograft.errors import refuse

#: Seconds between two looks at the runs.
_PAUSE = 0.2

#: Why a record does not hold, besides other inputs.
_CORRUPT, _FAILED = "is corrupt", "failed"

#: What belongs to a comparison as a whole.
_WHOLE = ("plan.json", "configs", "report.html", "report.md", "results.csv", "table.tex", "figures")


class Handle(Protocol):
    """A run that is going on."""

    def poll(self) -> str | None:
        """Return ``None`` while it runs, then why it failed, ``""`` if it did not."""

    def stop(self) -> None:
        """End it."""


class Engine(Protocol):
    """Where runs go: processes of this machine, or a cluster."""

    slots: list[str]

    def start(self, job: dict[str, Any], record: Path, slot: int) -> Handle:
        """Start a run that is to leave a record."""


# ---------------------------------------------------------------------------------------- records


def keep(file: Path, job: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Return the record of a job if it still holds, else why it does not.

    Args:
        file: Of the record.
        job: What it has to be the record of.
    """
    if not file.is_file():
        return None, ""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        whole = {"key", "status", "inputs"} <= {*record}
        if whole and record["status"] == "finished":
            if job["kind"] == "speed":
                whole = isinstance(record["models"], dict)
            else:
                whole = isinstance(record["metrics"]["AP"], float | int | None) and record["curve"]
        if not whole:
            return None, _CORRUPT
        if record["status"] != "finished":
            return None, _FAILED
        if record["key"] != job["key"]:
            return None, "; ".join(_changes(record["inputs"], job))
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return None, _CORRUPT
    return record, ""


def _changes(old: dict[str, Any], job: dict[str, Any]) -> list[str]:
    """Return in what the inputs of a record differ from those of a job."""
    new, changes = job["inputs"], []
    for name in ("versions", "settings"):
        before, now = old.get(name) or {}, new.get(name) or {}
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                changes.append(f"{key} {before.get(key, 'not set')}, now {now.get(key, 'not set')}")
    for name in ("epochs", "processor"):
        if old.get(name) != new.get(name):
            changes.append(f"{name} {old.get(name)}, now {new.get(name)}")
    if old.get("data") != new.get("data"):
        changes.append("the data")
    if old.get("config") != new.get("config"):
        changes.append(f"the model {job['variant']}")
    elif old.get("start") != new.get("start"):
        changes.append(f"the start of {job['variant']}")
    return changes or ["the models"]


def survey(plan: Plan) -> list[tuple[dict[str, Any], dict[str, Any] | None, str]]:
    """Return each run of a comparison, its record if it holds, else why not.

    Args:
        plan: What is compared.
    """
    folder = plan.project / "records"
    return [(job, *keep(folder / f"{job['id']}.json", job)) for job in plan.jobs]


def others(found: list[tuple[dict[str, Any], dict[str, Any] | None, str]]) -> tuple[list[str], str]:
    """Return the ids of finished runs that are of other inputs, and in what they differ.

    Args:
        found: From :func:`survey`.
    """
    stale = {job["id"]: why for job, _, why in found if why not in ("", _CORRUPT, _FAILED)}
    changes = list(dict.fromkeys(part for why in stale.values() for part in why.split("; ")))
    more = f"; {len(changes) - 8} more" if len(changes) > 8 else ""
    return list(stale), "; ".join(changes[:8]) + more


# ------------------------------------------------------------------------------------------- aside


def set_aside(project: Path, ids: list[str]) -> Path:
    """Move runs out of the way, each record together with its run folder.

    What is moved is written down first, so that the next start finishes what was killed.

    Args:
        project: Folder of the comparison.
        ids: Of the runs.

    Returns:
        Where they are now: a folder like that of a comparison, with the report as it was.
    """
    folder = _aside(project)
    files.write(project / "moving.json", as_json({"to": folder.name, "ids": ids}))
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
    for part in ("runs", "records"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name in _WHOLE:
        if (project / name).is_dir():
            shutil.copytree(project / name, folder / name, dirs_exist_ok=True)
        elif (project / name).is_file():
            shutil.copy2(project / name, folder / name)
    for one in content["ids"]:
        for path in (Path("runs", one), Path("records", f"{one}.json")):
            if (project / path).exists():
                os.replace(project / path, folder / path)
    note.unlink()


def _aside(project: Path) -> Path:
    """Return a folder of today that is not there yet."""
    name, number = time.strftime("%Y-%m-%d"), 1
    folder = project / "aside" / name
    while folder.exists():
        number += 1
        folder = folder.with_name(f"{name}-{number}")
    return folder


@contextlib.contextmanager
def locked(project: Path) -> Iterator[None]:
    """Hold a project folder for this process; the system lets go when the process ends.

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


# ------------------------------------------------------------------------------------------ engine


class Local:
    """Processes of this machine.

    Args:
        devices: One run at a time on each.
        each: How many at a time instead.
    """

    def __init__(self, devices: list[str], each: int = 1):
        self.slots = [device for _ in range(each) for device in devices]

    def start(self, job: dict[str, Any], record: Path, slot: int) -> Process:
        """Start a process for a job."""
        return Process({**job, "device": self.slots[slot]}, record)


class Process:
    """A job in a process of its own, which ends when this one does.

    Args:
        job: With ``folder`` and ``device``.
        record: What it is to write.
    """

    def __init__(self, job: dict[str, Any], record: Path):
        folder = prepare(job)
        self.record, self.log = record, folder / "log.txt"
        command = [sys.executable, "-m", "yolograft.compare.worker"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(folder / "job.json"), str(record)],
                stdin=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the comparison, which ends its runs
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": job["threads"]},
            )

    def poll(self) -> str | None:
        """Return as :class:`Handle` says."""
        status = self.process.poll()
        if status is None:
            return None
        self.process.stdin.close()
        if status == 0 and self.record.is_file():
            return ""
        if status < 0:
            return f"killed by signal {-status}"
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"ended with {status}"

    def stop(self) -> None:
        """End the process, and its data loaders with it."""
        if self.process.poll() is None and hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


def prepare(job: dict[str, Any]) -> Path:
    """Return the folder of a run: as it is where the run continues, else empty.

    What was trained with other inputs is moved aside.

    Args:
        job: With ``folder``.
    """
    folder = Path(job["folder"])
    note = folder / "job.json"
    try:
        same = json.loads(note.read_text(encoding="utf-8"))["key"] == job["key"]
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if folder.exists() and not (same and (folder / "state.pt").is_file()):
        if not same and (folder / "weights" / "best.pt").is_file():
            target = _aside(folder.parent.parent) / "runs" / folder.name
            target.parent.mkdir(parents=True)
            os.replace(folder, target)
        else:
            shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files.write(note, as_json(job))
    return folder


# ------------------------------------------------------------------------------------------- runs


def run(plan: Plan, engine: Engine, force: bool = False) -> list[str]:
    """Do what is missing of a comparison.

    Args:
        plan: What is compared.
        engine: Where runs go.
        force: Set finished runs of other versions or settings aside, and do them again.

    Returns:
        The ids of the runs that failed.

    Raises:
        ConfigError: If there are such runs, and ``force`` is not set.
    """
    project = plan.project
    records = project / "records"
    with locked(project):
        finish_moving(project)
        records.mkdir(exist_ok=True)
        found = _make_room(plan, survey(plan), force)
        write_plan(plan)
        board = Board(plan, project)
        todo: deque[dict[str, Any]] = deque()
        for job, record, reason in found:
            job["folder"] = str(project / "runs" / job["id"])
            if reason == _FAILED:
                print(f"{job['id']}: failed before, runs again")
            board.set(job, "finished" if record else "waiting", record)
            if not record:
                todo.append(job)
        failed = _schedule(todo, engine, records, board)
        speed = speed_job(plan)
        if speed["models"] and not keep(records / "speed.json", speed)[0]:
            board.say("measuring latency and throughput")
            failed += _schedule(deque([speed]), engine, records, board)
        return [job["id"] for job in failed]


def _make_room(plan: Plan, found: list, force: bool) -> list:
    """Set aside what cannot stay where a run is to go; return the survey after that."""
    stale, changes = others(found)
    if stale and not force:
        refuse(
            f"{plan.project}: {_runs(stale)} of other versions or settings: {changes}",
            "choose another --project, which keeps both; or add --force: it first moves these "
            f"runs, with their checkpoints and the report, to {plan.project / 'aside'}",
        )
    corrupt = [job["id"] for job, _, why in found if why == _CORRUPT]
    if stale or corrupt:
        more = [*_leftover(plan), "speed"] if stale else []
        folder = set_aside(plan.project, [*stale, *more, *corrupt])
        where = folder.relative_to(plan.project)
        if stale:
            print(f"{_runs(stale)} of other versions or settings: moved to {where}")
        for one in corrupt:
            print(f"{one}.json is corrupt: moved to {where} with its run, which runs again")
        found = survey(plan)
    return found


def _leftover(plan: Plan) -> list[str]:
    """Return the ids of runs in the folder that are no longer asked for, and of other settings."""
    jobs = {job["id"]: job["inputs"] for job in plan.jobs}
    now = next(iter(jobs.values()))
    found = []
    for file in (plan.project / "records").glob("*-seed*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            old = json.loads(file.read_text(encoding="utf-8"))["inputs"]
            shared = ("versions", "settings", "epochs", "data", "processor")
            if file.stem not in jobs and any(old[name] != now[name] for name in shared):
                found.append(file.stem)
    return found


def _runs(ids: list[str]) -> str:
    return "1 finished run is" if len(ids) == 1 else f"{len(ids)} finished runs are"


def speed_job(plan: Plan) -> dict[str, Any]:
    """Return the job that times all models of a comparison that have a finished run.

    Args:
        plan: What is compared.
    """
    gates: dict[str, list[float] | None] = {}
    for job, record, _ in survey(plan):
        if record:
            gates.setdefault(job["variant"], record.get("gates"))
    models = {one.name: one.config for one in plan.variants if one.name in gates}
    inputs = {
        "configs": {name: rows_of(config) for name, config in models.items()},
        "gates": gates,
        "imgsz": plan.settings["imgsz"],
        "versions": versions(),
        "processor": "cpu" if plan.devices[0] == "cpu" else "gpu",
    }
    return {
        "id": "speed",
        "variant": "",
        "seed": -1,
        "kind": "speed",
        "key": key_of(inputs),
        "inputs": inputs,
        "models": models,
        "gates": gates,
        "imgsz": plan.settings["imgsz"],
        "threads": threads(),
        "folder": str(plan.project / "runs" / "speed"),
    }


def _schedule(
    todo: deque[dict[str, Any]], engine: Engine, records: Path, board: Board
) -> list[dict[str, Any]]:
    """Run jobs, as many at once as there are slots; return those that failed."""
    running: dict[int, tuple[dict[str, Any], Handle]] = {}
    failed: list[dict[str, Any]] = []
    try:
        while todo or running:
            for slot in range(len(engine.slots)):
                while slot not in running and todo:
                    job = todo.popleft()
                    if any(one["variant"] == job["variant"] for one in failed):
                        error = "not run: another seed of this variant failed"
                        _fail(job, error, records, board, failed)
                        continue
                    handle = engine.start(job, records / f"{job['id']}.json", slot)
                    running[slot] = job, handle
                    board.set(job, "running")
            for slot, (job, handle) in list(running.items()):
                error = handle.poll()
                if error is None:
                    continue
                del running[slot]
                record = keep(records / f"{job['id']}.json", job)[0]
                if error == "" and record:
                    board.set(job, "finished", record)
                else:
                    _fail(job, error or "left no record", records, board, failed)
            board.draw()
            time.sleep(_PAUSE)
    finally:
        for _, handle in running.values():
            handle.stop()
    return failed


def _fail(job, error: str, records: Path, board: Board, failed: list) -> None:
    failed.append(job)
    kept = {k: job[k] for k in ("id", "variant", "seed", "key", "inputs", "kind")}
    log = str(Path("runs", job["id"], "log.txt"))
    files.write(
        records / f"{job['id']}.json",
        as_json({**kept, "status": "failed", "error": error, "log": log}),
    )
    board.set(job, "failed")
    board.say(f"{job['id']} failed: {error} (see {log})")


def write_plan(plan: Plan) -> None:
    """Write down what is compared: ``plan.json``, and a model YAML for each variant.

    Args:
        plan: What is compared.
    """
    for one in plan.variants:
        files.write(plan.project / "configs" / f"{one.name}.yaml", config_text(one))
    files.write(plan.project / "plan.json", as_json(summary(plan)))


def summary(plan: Plan) -> dict[str, Any]:
    """Return what the report has to know of a plan.

    Args:
        plan: What is compared.
    """
    names = ("name", "kind", "source", "params", "gflops", "weights")
    return {
        "variants": [{k: getattr(one, k) for k in names} for one in plan.variants],
        "keys": {job["id"]: job["key"] for job in plan.jobs},
        "data": plan.data,
        "digest": plan.digest,
        "images": plan.images,
        "seeds": plan.seeds,
        "epochs": plan.epochs,
        "settings": plan.settings,
        "devices": plan.devices,
        "command": plan.command,
        "notes": plan.notes,
        "unequal": plan.unequal,
        "versions": versions(),
    }


def config_text(one: Variant) -> str:
    """Return the model YAML of a variant.

    Args:
        one: The variant.
    """
    from yolograft.config.write import flow

    lines = [f"# {one.name}: {one.source}, as compared"]
    config = {k: v for k, v in one.config.items() if k != "scales" or v}
    for key, value in config.items():
        if key in ("backbone", "head"):
            lines += [f"{key}:", *(f"  - {flow(row)}" for row in value)]
        elif key == "scales":  # its own alone: the file's name does not tell which
            scale = one.config["scale"]
            lines.append(f"{key}: {flow({scale: value[scale]})}")
        elif key not in ("yaml_file", "graft", "scale"):
            lines.append(f"{key}: {flow(value)}")
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------ table


class Board:
    """A live table of the runs: variants down, seeds across. Without a terminal, a line an event.

    Args:
        plan: What is compared.
        project: Its folder, where running trainings leave their results.csv.
    """

    def __init__(self, plan: Plan, project: Path):
        self.plan, self.project = plan, project
        self.cells = {(one.name, seed): "" for one in plan.variants for seed in plan.seeds}
        self.states: dict[tuple[str, int], str] = {}
        self.live = sys.stdout.isatty()
        self.height, self.drawn = 0, 0.0

    def set(self, job: dict[str, Any], state: str, record: dict[str, Any] | None = None) -> None:
        """Note what became of a run."""
        place = (job["variant"], job["seed"])
        if place not in self.cells:
            return
        self.states[place] = state
        text = {"waiting": ".", "running": "starts", "failed": "failed"}.get(state, "")
        if record:
            value = record["metrics"]["AP"]
            text = "finished" if value is None else f"AP {value:.4f}"
        self.cells[place] = text
        if not self.live and state != "waiting":
            print(f"{job['id']}: {text if state == 'finished' else state}", flush=True)
        self.draw(force=True)

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._erase()
        print(text, flush=True)
        self.draw(force=True)

    def draw(self, force: bool = False) -> None:
        """Draw the table anew, once a second at most unless ``force``."""
        if not self.live or (not force and time.monotonic() - self.drawn < 1):
            return
        self.drawn = time.monotonic()
        for place, state in self.states.items():
            if state == "running":
                self.cells[place] = self._progress(*place)
        head = ["", *(f"seed {seed}" for seed in self.plan.seeds)]
        rows = [
            [one.name, *(self.cells[one.name, seed] for seed in self.plan.seeds)]
            for one in self.plan.variants
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in (head, *rows)
        ]
        width = shutil.get_terminal_size().columns
        self._erase()
        print("\n".join(line[: width - 1] for line in lines), flush=True)
        self.height = len(lines)

    def _erase(self) -> None:
        if self.height:
            sys.stdout.write(f"\x1b[{self.height}A\x1b[J")
            self.height = 0

    def _progress(self, name: str, seed: int) -> str:
        from yolograft.compare.worker import _curve

        try:
            last = _curve(self.project / "runs" / f"{name}-seed{seed}" / "results.csv")[-1]
        except (OSError, IndexError, KeyError, ValueError):
            return "starts"
        value = "" if last["AP"] is None else f" {last['AP']:.3f}"
        return f"{last['epoch']}/{self.plan.epochs}{value}"
