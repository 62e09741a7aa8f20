"""Ctrl-C ends a comparison in one line, from the first import on.

``yolograft.cli`` imports this first, and this imports next to nothing. What takes long is imported
later, and may turn the interrupt into an error of its own, or lose it: both end here.
"""

from __future__ import annotations

import _signal  # what `signal` wraps in enumerations, which take a while to import
import _thread
import os
import sys

#: Seconds that cleaning up may take.
_GRACE = 5.0
#: Seconds until an interrupt within an import is tried again.
_PAUSE = 0.02

_watching = _came = _held = False


def watch() -> None:
    """Let Ctrl-C end this process in one line; for a program, not for a caller in Python."""
    global _watching
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # not below `nohup`
        _watching = True
        _signal.signal(_signal.SIGINT, _interrupt)
        sys.excepthook = _report


def came() -> bool:
    """Tell whether Ctrl-C was pressed."""
    return _came


def end() -> int:
    """Say that the comparison was stopped; return the exit status, or exit if it is a program."""
    sys.stderr.write("yolograft: stopped; start the same command again to continue\n")
    if _watching:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, RuntimeError):  # closed, or interrupted while it was written to
                pass
        os._exit(130)  # threads and destructors of a half import have nothing to add
    return 130


def _interrupt(number, frame) -> None:
    global _came, _held
    if _came and not _held:
        end()
    if not _came:
        _came = True
        sys.unraisablehook = lambda _: None  # the interrupt, where a destructor was running
        _after(_GRACE, end)
    _held = _importing(frame)
    if not _held:
        raise KeyboardInterrupt
    _after(_PAUSE, _thread.interrupt_main)


def _importing(frame) -> bool:
    """Tell whether an import is running, of a C++ extension, say: an error aborts the process."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _after(seconds: float, call) -> None:
    from threading import Timer

    timer = Timer(seconds, call)
    timer.daemon = True
    timer.start()


def _report(kind, error, trace) -> None:
    if _came:
        end()
    sys.__excepthook__(kind, error, trace)


if sys.argv[1:2] == ["compare"] and os.path.basename(sys.argv[0]).startswith("yolograft"):
    watch()
