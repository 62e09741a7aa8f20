"""Several machines end together: a process that stops sends the others the reason.

torchrun starts one process for each GPU, on every machine, and watches its own machine only. If a
process stops because of its arguments or its data, fails, or is killed, those on other machines
would wait for it in the next collective operation until a timeout of hours. Here each process
keeps a TCP connection to process 0 from its start on. One that stops sends its message, which
process 0 passes on; one that is killed closes its connection. The others print the message and
end, after a few seconds for a checkpoint that is being written.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import TextIO

from yolograft.errors import ConfigError

#: Seconds that a process has to end by itself once another one has stopped.
GRACE = 10
#: Seconds that process 0 waits, before it stops, for those that have not connected yet.
JOIN = 25
#: As long as a training may wait for its slowest process: to index or to download data.
TIMEOUT = timedelta(hours=3)


def launched() -> bool:
    """Return whether torchrun has started this process as one of several."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@functools.cache
def store():
    """Return torchrun's store, which all processes share."""
    from torch import distributed

    return next(distributed.rendezvous("env://", timeout=TIMEOUT))[0]


def exchange(key: str, value: str) -> list[str]:
    """Return what each process gives, in the order of their ranks.

    Args:
        key: What it is about.
        value: What this process gives.
    """
    store().set(f"{key}/{os.environ['RANK']}", value)
    ranks = range(int(os.environ["WORLD_SIZE"]))
    return [store().get(f"{key}/{rank}").decode() for rank in ranks]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """End with the others: report to them why this process stops, and stop when one of them does.

    Raises:
        SystemExit: With status 2, if another process stopped. Its message is printed then.
    """
    watch = _Watch()
    _current.append(watch)
    try:
        yield
    except BaseException as error:
        report(error)
        if watch.stopped.is_set() and not isinstance(error, _OWN):
            raise SystemExit(2) from None  # it failed because another one was gone
        raise
    finally:
        _current.remove(watch)
        watch.leave()


#: Errors of a process that have nothing to do with the others.
_OWN = (ConfigError, SystemExit, KeyboardInterrupt)
_current: list[_Watch] = []


def report(error: BaseException) -> None:
    """Send the other processes the reason why this one stops, before it waits for them.

    Args:
        error: What it stops with.
    """
    if isinstance(error, SystemExit) and not error.code:
        return
    text = getattr(error, "text", "") or str(error)
    if not isinstance(error, ConfigError | SystemExit):
        text = f"{type(error).__name__}: {text}"
    for watch in _current:
        if isinstance(error, _OWN) or not watch.stopped.wait(2):
            watch.send(text)


class _Watch:
    """The connections of one process; those of process 0 lead to all others."""

    def __init__(self):
        self.rank, self.count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.name = f"process {self.rank} on {socket.gethostname()}"
        self.stopped, self.left = threading.Event(), threading.Event()
        self.joined = threading.Semaphore(0)
        self.lines: list[socket.socket] = []
        self.lock = threading.Lock()
        if self.rank == 0:
            dual = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if dual else socket.AF_INET
            server = socket.create_server(("", 0), family=family, dualstack_ipv6=dual)
            self.key = secrets.token_hex(8)
            store().set("watch", json.dumps([server.getsockname()[1], self.key]))
            self._start(self._accept, server)
            return
        port, self.key = json.loads(store().get("watch"))
        first = os.environ["MASTER_ADDR"]
        try:
            line = socket.create_connection((first, port), timeout=60)
        except OSError as error:
            sys.stderr.write(
                f"yolograft: {self.name} cannot connect to {first}:{port} ({error}): if a machine "
                "fails, the others may wait for hours\n"
            )
            return
        line.settimeout(None)
        self._send(line, [self.key, self.name])
        self._add(line, line.makefile(), f"process 0 on {first}")

    def send(self, text: str) -> None:
        """Send the others a message, once; process 0 waits for those that are still starting."""
        if self.left.is_set() or self.stopped.is_set():
            return
        self.left.set()
        if self.rank == 0:
            for _ in range(self.count - 1):
                self.joined.acquire(timeout=JOIN / (self.count - 1))
        self._send_all(f"{self.name} stopped: {text}")
        self._start(self._end)

    def leave(self) -> None:
        """Let the others continue alone."""
        self.left.set()
        self._send_all(None)

    def _start(self, what, *args) -> None:
        threading.Thread(target=what, args=args, daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        while True:
            line, _ = server.accept()
            self._start(self._greet, line)

    def _greet(self, line: socket.socket) -> None:
        with contextlib.suppress(ValueError, OSError):
            file = line.makefile()
            key, name = json.loads(file.readline())
            if secrets.compare_digest(key, self.key):
                self._add(line, file, name)

    def _add(self, line: socket.socket, file: TextIO, name: str) -> None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # for a machine without power
        for option, seconds in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6)):
            if hasattr(socket, option):
                line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
        with self.lock:
            self.lines.append(line)
        self.joined.release()
        self._start(self._listen, file, name)

    def _listen(self, file: TextIO, name: str) -> None:
        try:
            text = file.readline()
        except OSError:
            text = ""
        lost = f"{name} was killed or disconnected"
        message = json.loads(text) if text.endswith("\n") else lost
        with self.lock:
            if message is None or self.left.is_set() or self.stopped.is_set():
                return
            self.stopped.set()
        if self.rank == 0:
            self._send_all(message)
        if os.environ["LOCAL_RANK"] == "0":  # one message for each machine
            sys.stderr.write(f"yolograft: {message}\n")
        self._end()

    def _end(self) -> None:
        """End the process, which may hang in a collective operation, if it does not by itself."""
        threading.Event().wait(GRACE)
        os._exit(2)

    def _send_all(self, message: str | None) -> None:
        with self.lock:
            lines = list(self.lines)
        for line in lines:
            self._send(line, message)

    def _send(self, line: socket.socket, message: object) -> None:
        with contextlib.suppress(OSError):
            line.sendall(json.dumps(message).encode() + b"\n")
