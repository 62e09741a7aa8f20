"""Check that the stock `yolo` command knows the blocks.

Checks versions, the Python that `yolo` runs in, the line that loads yolograft
when Python starts, the functions of Ultralytics that are wrapped, and that a
small model builds. The last line says whether all is well, and what to do if
not; it then exits with 1.

  yolograft doctor
  yolograft doctor --hooks
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from yolograft import install
from yolograft.cli import _options, _screen
from yolograft.tables import aligned


def add(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand.

    Args:
        commands: Of the ``yolograft`` command.
    """
    parser = _options.command(commands, "doctor", __doc__, main)
    parser.add_argument(
        "--hooks",
        action="store_true",
        help="print why each function is wrapped, and what would make that unnecessary",
    )


def main(args: argparse.Namespace) -> int:
    """Check the installation, or print the table of hooks; return the exit status."""
    if args.hooks:
        return _print_hooks()
    rows = [("python", f"{platform.python_version()}  {sys.executable}")]
    for name in ("yolograft", "ultralytics", "torch", "torchvision"):
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            rows.append((name, "not installed"))
    _screen.table(rows, head=False)
    found = []
    for title, check in (
        ("`yolo` on the PATH", _check_command),
        ("start-up line", _check_autoload),
        ("wrapped functions", _check_hooks),
        ("a small model", _check_model),
    ):
        with _screen.working(f"Checking {title}"):
            remedy = check()
        found.append(("BAD" if remedy else "ok", title, remedy))
    print()
    _screen.table(found, head=False)
    bad = [(title, remedy) for _, title, remedy in found if remedy]
    print()
    if not bad:
        _screen.text("All is well: `yolo` knows the blocks.", "bold green")
        return 0
    first = f"Start with {bad[0][0]}: {bad[0][1]}"
    _screen.text(f"Not well: {len(bad)} of {len(found)} checks failed. {first}", "bold red")
    return 1


def _check_command() -> str:
    """Return a remedy if ``yolo`` belongs to another Python than this one."""
    command = shutil.which("yolo")
    if command is None:
        return "there is none; run `pip install ultralytics` in this environment"
    first = Path(command).read_bytes().split(b"\n", 1)[0].decode(errors="replace")
    other = first.removeprefix("#!").strip().strip('"')
    here = Path(sys.executable).parent.resolve()
    if here in (Path(command).parent.resolve(), Path(other).parent.resolve()):
        return ""
    return (
        f"{command} runs {other or 'another Python'}, not {sys.executable}; install yolograft "
        f"there: `{other or 'python'} -m {install.line()}`"
    )


def _check_autoload() -> str:
    """Return a remedy if a fresh Python does not load yolograft by itself."""
    if os.environ.get("YOLOGRAFT_AUTOLOAD") == "0":
        return "YOLOGRAFT_AUTOLOAD=0 switches it off; unset it, or `import yolograft` yourself"
    fresh = subprocess.run(
        [sys.executable, "-c", "import sys; sys.exit('yolograft' not in sys.modules)"],
        cwd=Path(sys.executable).parent,
        check=False,
    )
    if fresh.returncode == 0:
        return ""
    return f"a fresh Python does not load yolograft; run `{install.line()} --force-reinstall`"


def _check_hooks() -> str:
    """Return a remedy if a function of Ultralytics is not wrapped."""
    from yolograft.hooks import HOOKS, STATUS

    try:
        for hook in HOOKS:
            import_module(hook.module)
    except Exception as error:
        return f"ultralytics does not import ({error}); run `pip install -U ultralytics`"
    reasons = {hook.target: STATUS.get(hook.target, "not attached") for hook in HOOKS}
    bad = [f"{target} ({reason})" for target, reason in reasons.items() if reason]
    fact = f"not wrapped: {', '.join(bad)}; update yolograft, or install an Ultralytics that fits"
    return fact if bad else ""


def _check_model() -> str:
    """Return a remedy if a grafted model does not build and run."""
    try:
        import torch
        from ultralytics.nn.tasks import DetectionModel

        model = DetectionModel("yolov8n-sk.yaml", verbose=False).eval()
        with torch.no_grad():
            model(torch.zeros(1, 3, 64, 64))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _print_hooks() -> int:
    from yolograft.hooks import HOOKS

    for hook in HOOKS:
        print(f"{hook.target.replace(':', '.')}({', '.join(hook.parameters)})")
        facts = [("    why", hook.why), ("    instead", hook.instead)]
        print(
            aligned([*facts, ("    since", hook.since), ("    by", f"yolograft.hooks.{hook.make}")])
        )
    return 0
