"""The runs of a comparison on a Ray cluster.

Every node needs the same packages and the data at the same path. A run takes one GPU, or on a
processor a whole node, shared by ``--jobs-per-device``. The records come back to the node that the
comparison was started on; checkpoints stay where they were trained, below the same project path.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from dataclasses import replace
from typing import Any

from yolograft import install
from yolograft.compare import records
from yolograft.compare.process import Process
from yolograft.compare.records import AnyRecord, Job
from yolograft.errors import ConfigError, refuse


class Cluster:
    """Tasks of a Ray cluster, an engine as :mod:`yolograft.compare.run` takes it.

    Args:
        address: Of the cluster: ``auto``, ``HOST:PORT``, ``ray://HOST:10001``.
        device: ``cpu``, or anything else for GPUs.
        each: Runs at a time on each GPU or node.

    Raises:
        ConfigError: If Ray is missing, there is no cluster, or it has no such device.
    """

    def __init__(self, address: str, device: str, each: int = 1):
        try:
            import ray
        except ImportError:
            refuse(
                "--ray needs Ray, which is not installed",
                f"install it: {install.line('ray')}",
            )
        self.ray = ray
        try:
            if match := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):  # Ray asks for minutes
                socket.create_connection((match[1], int(match[2])), timeout=10).close()
            if not ray.is_initialized():
                ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError) as error:
            msg = (
                f"--ray {address}: no cluster answers ({' '.join(str(error).split())[:200]})\n\n"
                "Hint: start one with `ray start --head`, and give its address"
            )
            raise ConfigError(msg) from error
        kind = "CPU" if device == "cpu" else "GPU"
        nodes = [n["Resources"].get(kind, 0) for n in ray.nodes() if n["Alive"]]
        nodes = [int(n) for n in nodes if n >= 1]
        if not nodes:
            refuse(f"--ray {address}: no node of the cluster has a {kind}", "give device=cpu")
        if kind == "CPU":
            self.need = {"num_cpus": min(nodes) / each if each > 1 else min(nodes)}
            count = len(nodes) * each
        else:
            self.need = {"num_cpus": 0, "num_gpus": 1 / each}
            count = sum(nodes) * each
        self.slots = ["cpu" if kind == "CPU" else "0"] * count

    def start(self, job: Job, slot: int) -> Task:
        """Start a task for a job."""
        work = self.ray.remote(**self.need, max_retries=0)(_work)
        task = work.remote(replace(job, device=self.slots[slot]), list(sys.path))
        return Task(self.ray, task, job)


class Task:
    """A job on some node.

    Args:
        ray: The module.
        reference: Of the task.
        job: Whose record is to be written on this node.
    """

    def __init__(self, ray: Any, reference: Any, job: Job):
        self.ray, self.reference, self.job = ray, reference, job

    def poll(self) -> str | None:
        """Return ``None`` while it runs, then why it failed, ``""`` if it did not."""
        done, _ = self.ray.wait([self.reference], timeout=0)
        if not done:
            return None
        try:
            record, error = self.ray.get(done[0])
        except self.ray.exceptions.RayError as lost:
            return " ".join(str(lost).split())[:300]
        if record:
            records.save(self.job.record, record)
        return error

    def stop(self) -> None:
        """End the task."""
        self.ray.cancel(self.reference, force=True)


def _work(job: Job, paths: list[str]) -> tuple[AnyRecord | None, str]:
    """Do a job on a node, in a process of its own; return its record, or why there is none."""
    sys.path += [path for path in paths if path not in sys.path]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    process = Process(job)
    try:
        while (error := process.poll()) is None:
            time.sleep(0.2)
    finally:
        process.stop()
    return (records.load(AnyRecord, job.record) if not error else None), error
