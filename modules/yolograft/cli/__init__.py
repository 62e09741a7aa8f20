"""The ``yolograft`` command; one file per subcommand, whose docstring is its ``--help``."""

from __future__ import annotations

from yolograft.compare import interrupt  # noqa: F401

# isort: split

import argparse
import os
import sys
from contextlib import nullcontext

from yolograft import __version__
from yolograft.cli import (
    _options,
    _screen,
    coco,
    compare,
    completion,
    doctor,
    patch,
    recipes,
    train,
    val,
)
from yolograft.cli import list as blocks
from yolograft.errors import ConfigError, nearest, refuse
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
            status = _run(given)
            sys.stdout.flush()
            return status
    except ConfigError as error:
        _screen.error(str(error))
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("yolograft: stopped\n")
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _Parser(argparse.ArgumentParser):
    """A parser that knows the nearest choice, and whose errors hold their text.

    Other machines print the text too.
    """

    def error(self, message: str):
        try:
            super().error(message)
        except SystemExit as error:
            error.text = message
            raise

    def _check_value(self, action: argparse.Action, value: str) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            if hint := nearest(str(value), map(str, action.choices)):
                error.message = f"{value!r} is unknown; {hint}"
            raise


_DESCRIPTION = """Published blocks for any Ultralytics YOLO.

Training, validation, prediction and export are those of the stock command:

  yolo train model=yolov8n-sk.yaml data=shapes.yaml
  yolo train model=yolo11s-cbam.yaml data=coco8.yaml

yolograft shows what there is, puts blocks into models and checkpoints, reads
COCO JSON, and compares variants.
"""

_EPILOG = """\
Exit codes: 0 all went well; 1 it ran, and something failed or was found; 2 the
command or a file is wrong, and nothing was done; 130 stopped by Ctrl-C.
"""

_COMMANDS = (blocks, recipes, patch, train, val, coco, compare, doctor, completion)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the ``yolograft`` command."""
    made = _Parser(
        prog="yolograft",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=_options.formatter,
    )
    made.add_argument("--version", action="version", version=f"yolograft {__version__}")
    commands = made.add_subparsers(
        title="commands", prog=made.prog, dest="command", required=True, metavar="COMMAND"
    )
    for command in _COMMANDS:
        command.add(commands)
    return made


def _run(given: list[str]) -> int:
    made = parser()
    if not given:
        made.print_help()
        return 0
    known = next(a for a in made._actions if isinstance(a, argparse._SubParsersAction)).choices
    if not given[0].startswith("-") and given[0] not in known:
        hint = nearest(given[0], known) or f"the commands are {', '.join(known)}"
        refuse(f"unknown command {given[0]!r}", hint)
    if given[0] in known:
        _check_options(made, known[given[0]], given[1:])
    args, rest = made.parse_known_args(given)
    pairs = hasattr(args, "overrides")
    if rest and (not pairs or any(word.startswith("-") for word in rest)):
        hint = "; Ultralytics' own are written key=value, as in epochs=100" if pairs else ""
        made.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    if rest:  # argparse takes positional arguments from one place only
        args.overrides = [*args.overrides, *rest]
    if hasattr(sys.stdout, "reconfigure"):  # what a terminal cannot show is written in escapes
        sys.stdout.reconfigure(errors="backslashreplace")
    return args.run(args)


def _check_options(
    made: argparse.ArgumentParser, command: argparse.ArgumentParser, words: list[str]
) -> None:
    """End with the nearest option for one that does not exist."""
    options = []
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            command = action.choices.get(words[0] if words else "", command)
            options += [name for one in command._actions for name in one.option_strings]
        options += action.option_strings
    for word in words:
        name = word.partition("=")[0]
        if word.startswith("--") and not any(one.startswith(name) for one in options):
            hint = nearest(
                name, [one for one in options if one.startswith("--") and one != "--help"]
            )
            if hint:
                made.error(f"unrecognized arguments: {word}; {hint}")
