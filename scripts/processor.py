"""Which processor this is, for the machine line of a report."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """Return the processor's name, as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    return name or platform.processor() or platform.machine()
