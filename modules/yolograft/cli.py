"""The ``yolograft`` command: list the blocks, look at one, check the installation."""

from __future__ import annotations

import argparse
import inspect
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from yolograft import __version__, registry


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments; those of the process when left out.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="yolograft",
        description="Published blocks for any Ultralytics YOLO. Training, validation, prediction "
        "and export are the stock command's: yolo train model=yolov8n-sk.yaml data=shapes.yaml",
    )
    parser.add_argument("--version", action="version", version=f"yolograft {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    show = commands.add_parser(
        "list",
        help="show the blocks that a model YAML can name",
        description="Show every block with its aliases, role, paper, config and limits. A block's "
        "row in a model YAML: [-1, 1, CBAM, [{reduction: 8}]]; inside a stage: [-1, 3, C2f_SK, "
        "[256, True]].",
    )
    show.add_argument("block", nargs="?", help="a name or alias: show its signature and docstring")
    doctor = commands.add_parser(
        "doctor",
        help="check that the stock `yolo` command knows the blocks",
        description="Check versions, the interpreter of `yolo`, the start-up line, the wrapped "
        "host functions, and that a small model builds. Exits with 1 and a remedy if not.",
    )
    doctor.set_defaults(run=lambda args: _doctor())
    show.set_defaults(run=lambda args: _show(args.block) if args.block else _list())
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except registry.ConfigError as error:
        sys.stderr.write(f"yolograft: {error}\n")
        return 2


# -------------------------------------------------------------------------------------------- list


def _list() -> int:
    rows = [("block", "aliases", "role", "paper", "config")]
    rows += [(b.name, ", ".join(b.aliases), b.role, b.paper, b.config) for b in registry.table()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
    print(f"\nInside a stage, as in C2f_SK: conv and gate blocks, in {', '.join(registry.HOSTS)}.")
    for block in registry.table():
        for condition, reason in block.limits.items():
            print(f"{block.name}: {condition}: {reason}")
    return 0


def _show(name: str) -> int:
    block = registry.find(name)
    if block is None:
        registry.refuse(f"unknown block {name!r}", registry.suggest(name))
    cls = registry.load(block)
    signature = str(inspect.signature(cls)).replace("'", "")  # annotations are strings
    print(f"{block.name}{signature}\n")
    print(inspect.getdoc(cls))
    facts = {"Aliases": ", ".join(block.aliases), "Role": block.role, "Config": block.config}
    print("\n" + "\n".join(f"{key}: {value}" for key, value in facts.items() if value))
    for condition, reason in block.limits.items():
        print(f"Limit: {condition}: {reason}")
    return 0


# ------------------------------------------------------------------------------------------ doctor


def _doctor() -> int:
    print(f"python       {platform.python_version()}  {sys.executable}")
    for name in ("yolograft", "ultralytics", "torch", "torchvision"):
        try:
            print(f"{name:<12} {version(name)}")
        except PackageNotFoundError:
            print(f"{name:<12} not installed")
    problems = 0
    for title, check in (
        ("`yolo` on the PATH", _check_command),
        ("start-up line", _check_autoload),
        ("host functions", _check_wraps),
        ("small model", _check_model),
    ):
        remedy = check()
        print(f"{'ok ' if not remedy else 'BAD'} {title}" + (f": {remedy}" if remedy else ""))
        problems += bool(remedy)
    return 1 if problems else 0


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
        f"there: `{other or 'python'} -m pip install yolograft`"
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
    return "a fresh Python does not load yolograft; run `pip install --force-reinstall yolograft`"


def _check_wraps() -> str:
    """Return a remedy if a host function is not wrapped."""
    try:
        import ultralytics.models.yolo
        import ultralytics.nn.tasks  # noqa: F401
    except Exception as error:
        return f"ultralytics does not import ({error}); run `pip install -U ultralytics`"
    from yolograft.host import STATUS

    for target, reason in STATUS.items():
        print(f"    {'wrapped' if reason is None else 'left  '}  {target.replace(':', '.')}")
    bad = [reason for reason in STATUS.values() if reason]
    if not STATUS:
        bad = ["none was wrapped"]
    return f"{'; '.join(bad)}; run `pip install -U yolograft ultralytics`" if bad else ""


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
