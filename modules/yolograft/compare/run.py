"""Schedule the runs of a comparison, keep their records, go on where it was killed.

A project folder holds::

    plan.json             what is compared
    configs/NAME.yaml     the model of each variant
    records/ID.json       one for each finished or failed run, and speed.json
    records/aside/        records that no longer fit: corrupt, of other inputs or versions
    runs/ID/              the host's own files of a run: args.yaml, results.csv, weights, log.txt
    report.html, ...      written when all runs are over
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from yolograft.compare.plan import Plan, Variant, key_of, rows_of, threads, versions
from yolograft.compare.worker import write
from yolograft.registry import refuse

#: Seconds between two looks at the runs.
_PAUSE = 0.2


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
                whole = record["models"].keys() == job["models"].keys()
            else:
                whole = isinstance(record["metrics"]["AP"], float | int | None) and record["curve"]
        if not whole:
            return None, "is corrupt"
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return None, "is corrupt"
    if record["key"] != job["key"]:
        return None, _changes(record.get("inputs") or {}, job.get("inputs") or {})
    if record["status"] != "finished":
        return None, "failed"
    return record, ""


def _changes(old: dict[str, Any], new: dict[str, Any]) -> str:
    before, after = old.get("versions") or {}, new.get("versions") or {}
    other = [k for k in after if before.get(k) != after[k]]
    if other:
        parts = [f"{k} {before.get(k) or '?'}, now {after[k]}" for k in other]
        return f"is from another version ({'; '.join(parts)})"
    changed = [k for k in new if old.get(k) != new[k]]
    return f"is of other inputs ({', '.join(changed) or 'the models'})"


def set_aside(file: Path) -> Path:
    """Move a record to ``records/aside``, where nothing of that name is yet.

    Args:
        file: Of the record.
    """
    folder = file.parent / "aside"
    folder.mkdir(exist_ok=True)
    number = 1
    while (target := folder / f"{file.stem}.{number}.json").exists():
        number += 1
    os.replace(file, target)
    return target


@contextlib.contextmanager
def locked(project: Path) -> Iterator[None]:
    """Hold a project folder for this process; the system lets go when the process ends.

    Args:
        project: The folder.

    Raises:
        ConfigError: If another process holds it.
    """
    project.mkdir(parents=True, exist_ok=True)
    with (project / ".lock").open("w") as stream:
        with contextlib.suppress(ImportError):  # Windows has no fcntl; there, nothing is held
            import fcntl

            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
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
        """End the process."""
        self.process.kill()
        self.process.wait()


def prepare(job: dict[str, Any]) -> Path:
    """Return the folder of a run: as it is where the run goes on, else empty.

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
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(note, job)
    return folder


# ------------------------------------------------------------------------------------------- runs


def run(plan: Plan, engine: Engine) -> list[str]:
    """Do what is missing of a comparison.

    Args:
        plan: What is compared.
        engine: Where runs go.

    Returns:
        The ids of the runs that failed.
    """
    project = plan.project
    records = project / "records"
    with locked(project):
        records.mkdir(exist_ok=True)
        write_plan(plan)
        jobs = plan.jobs
        board = Board(plan, project)
        todo: deque[dict[str, Any]] = deque()
        for job in jobs:
            job["folder"] = str(project / "runs" / job["id"])
            record = _look(records / f"{job['id']}.json", job)
            board.set(job, "finished" if record else "waiting", record)
            if not record:
                todo.append(job)
        failed = _schedule(todo, engine, records, board)
        speed = speed_job(plan)
        alive = {job["variant"] for job in jobs} - {job["variant"] for job in failed}
        if alive and not _look(records / "speed.json", speed):
            board.say("measuring latency and throughput")
            failed += _schedule(deque([speed]), engine, records, board)
        return [job["id"] for job in failed]


def _look(file: Path, job: dict[str, Any]) -> dict[str, Any] | None:
    record, reason = keep(file, job)
    if reason == "failed":
        print(f"{job['id']}: failed before, runs again")
    elif reason:
        target = set_aside(file)
        print(f"{file.name} {reason}: set aside as {target.relative_to(file.parent)}, runs again")
    return record


def speed_job(plan: Plan) -> dict[str, Any]:
    """Return the job that times all models of a comparison.

    Args:
        plan: What is compared.
    """
    models = {one.name: one.config for one in plan.variants}
    inputs = {
        "configs": {name: rows_of(config) for name, config in models.items()},
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
    write(records / f"{job['id']}.json", {**kept, "status": "failed", "error": error, "log": log})
    board.set(job, "failed")
    board.say(f"{job['id']} failed: {error} (see {log})")


def write_plan(plan: Plan) -> None:
    """Write down what is compared: ``plan.json``, and a model YAML for each variant.

    Args:
        plan: What is compared.
    """
    for one in plan.variants:
        file = plan.project / "configs" / f"{one.name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(config_text(one), encoding="utf-8")
        os.replace(part, file)
    write(plan.project / "plan.json", summary(plan))


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
        "versions": versions(),
    }


def config_text(one: Variant) -> str:
    """Return the model YAML of a variant.

    Args:
        one: The variant.
    """
    from yolograft.graft.write import flow

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
