"""A job in a process of its own, on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from yolograft.compare import keep, records
from yolograft.compare.records import Job, Unreadable


class Local:
    """An engine as :mod:`yolograft.compare.run` takes it: processes of this machine.

    Args:
        devices: One run at a time on each.
        each: How many at a time instead.
    """

    def __init__(self, devices: list[str], each: int = 1):
        self.slots = [device for _ in range(each) for device in devices]

    def start(self, job: Job, slot: int) -> Process:
        """Start a process for a job."""
        return Process(replace(job, device=self.slots[slot]))


class Process:
    """A job in a process of its own, which ends when this one does.

    Args:
        job: With ``device``.
    """

    def __init__(self, job: Job):
        folder = prepare(job)
        self.job, self.log = job, folder / "log.txt"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "yolograft.compare.worker", str(folder / "job.json")],
                stdin=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the comparison, which ends its runs
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": job.threads},
            )

    def poll(self) -> str | None:
        """Return ``None`` while it runs, then why it failed, ``""`` if it did not."""
        status = self.process.poll()
        if status is None:
            return None
        self.process.stdin.close()
        if status == 0 and self.job.record.is_file():
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


def prepare(job: Job) -> Path:
    """Return the folder of a run: as it is where the run continues, else empty.

    What was trained with other inputs is moved aside.

    Args:
        job: What is to run in it.
    """
    folder = Path(job.folder)
    note = folder / "job.json"
    try:
        same = records.load(Job, note).key == job.key
    except Unreadable:
        same = False
    if folder.exists() and not (same and (folder / "state.pt").is_file()):
        if not same and (folder / "weights" / "best.pt").is_file():
            target = keep.aside(folder.parent.parent) / "runs" / folder.name
            target.parent.mkdir(parents=True)
            os.replace(folder, target)
        else:
            shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    job.record.unlink(missing_ok=True)  # of an attempt that failed
    records.save(note, job)
    return folder
