"""The ``yolograft`` command; one file per subcommand, whose docstring is its ``--help``."""

from __future__ import annotations

from yolograft.compare import interrupt  # noqa: F401

# isort: split

import argparse
import sys
from contextlib import nullcontext

from yolograft import __version__
from yolograft.cli import coco, compare, doctor, patch, train, val
from yolograft.cli import list as blocks
from yolograft.errors import ConfigError
from yolograft.training import watch


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments; those of the process when left out.

    Returns:
        The exit status.
    """
    given = sys.argv[1:] if argv is None else argv
    try:
        with watch.together() if watch.launched() and "train" in given[:1] else nullcontext():
            return _run(given)
    except ConfigError as error:
        sys.stderr.write(f"yolograft: {error}\n")
        return 2


class _Parser(argparse.ArgumentParser):
    """A parser whose errors hold their text: other machines print it too."""

    def error(self, message: str):
        try:
            super().error(message)
        except SystemExit as error:
            error.text = message
            raise


def _run(given: list[str]) -> int:
    parser = _Parser(
        prog="yolograft",
        description="Published blocks for any Ultralytics YOLO. Training, validation, prediction "
        "and export are the stock command's: yolo train model=yolov8n-sk.yaml data=shapes.yaml. "
        "`yolograft train` and `val` add COCO JSON by option, several machines, and the COCO table "
        "at the end.",
    )
    parser.add_argument("--version", action="version", version=f"yolograft {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (blocks, doctor, patch, train, val, coco, compare):
        command.add(commands)
    args, rest = parser.parse_known_args(given)
    pairs = hasattr(args, "overrides")
    if rest and (not pairs or any(word.startswith("-") for word in rest)):
        hint = "; Ultralytics' own are written key=value, as in epochs=100" if pairs else ""
        parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    if rest:  # argparse takes positional arguments from one place only
        args.overrides = [*args.overrides, *rest]
    if hasattr(sys.stdout, "reconfigure"):  # what a terminal cannot show is written in escapes
        sys.stdout.reconfigure(errors="backslashreplace")
    return args.run(args)
