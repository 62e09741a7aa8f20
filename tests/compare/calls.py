"""Whole comparisons by the command, and what two of them have to agree on."""

import json
import subprocess
import sys
from pathlib import Path

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
    found = {}
    for file in sorted((project / "records").glob("*-seed*.json")):
        record = json.loads(file.read_text())
        kept = ("status", "key", "metrics", "per_class", "curve", "best_epoch", "examples")
        found[file.stem] = {name: record[name] for name in kept}
    return found
