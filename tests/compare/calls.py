"""Whole comparisons by the command, and what two of them have to agree on."""

import subprocess
import sys
from pathlib import Path

from yolograft.compare import records

#: One seed of the base, one variant and the control, three epochs of two steps.
WORDS = ("--seeds", "1", "--epochs", "3")
SETTINGS = ("imgsz=32", "batch=4", "device=cpu", "lr0=0.01", "warmup_epochs=0")


def command(tiny, project, *more):
    """Return the words of a comparison of the tiny data."""
    words = ["--base", "yolov8n.yaml", "--recipes", "ca", "--data", tiny, "--project", project]
    script = Path(__file__).parents[2] / "scripts" / "compare.py"
    return [sys.executable, str(script), *map(str, words), *WORDS, *SETTINGS, *more]


def call(tiny, project, *more):
    """Return exit status and output of a comparison."""
    done = subprocess.run(
        command(tiny, project, *more), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def numbers(project):
    """Return of each record what has to be the same however the run came about."""
    kept = ("key", "metrics", "per_class", "curve", "best_epoch", "examples")
    return {
        name: {key: getattr(record, key) for key in kept}
        for name, record in records.read(project).items()
        if name != "speed"
    }
