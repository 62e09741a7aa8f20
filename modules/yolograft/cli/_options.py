"""What several subcommands share: how a parser is made, and options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from yolograft.cli import _screen


def command(
    commands: argparse._SubParsersAction, name: str, doc: str | None, run: Callable[[Any], int]
) -> argparse.ArgumentParser:
    """Add a subcommand.

    Args:
        commands: Of the ``yolograft`` command.
        name: Its name.
        doc: Its ``--help``; the first line stands in the list of commands.
        run: Takes the parsed arguments, returns the exit status.

    Returns:
        Its parser.
    """
    text = doc or ""  # Python removes docstrings under -OO
    parser = commands.add_parser(
        name,
        help=text[:1].lower() + text[1:].partition("\n")[0].removesuffix("."),
        description=text,
        formatter_class=formatter,
    )
    parser.set_defaults(run=run)
    return parser


def formatter(prog: str) -> argparse.HelpFormatter:
    """Return what lays out a ``--help``: in colour where it is read in a terminal.

    Args:
        prog: The command.
    """
    if not _screen.coloured():
        return argparse.RawDescriptionHelpFormatter(prog, max_help_position=28)
    from rich_argparse import RawDescriptionRichHelpFormatter

    made = RawDescriptionRichHelpFormatter(prog, max_help_position=28)
    made.group_name_formatter = str  # titles as they are without colour
    return made


def add_data(parser: argparse.ArgumentParser, splits: tuple[str, ...]) -> None:
    """Add the options that name data.

    Args:
        parser: Of a subcommand.
        splits: The splits that COCO JSON can be named for.
    """
    data = parser.add_argument_group(
        "data", "A YAML, or COCO JSON directly; give an option again for one more file."
    )
    data.add_argument("--data", metavar="YAML", help="data YAML, with COCO JSON or label files")
    for split in splits:
        data.add_argument(
            f"--coco-{split}", action="append", metavar="JSON", help=f"COCO JSON of {split}"
        )
        data.add_argument(
            f"--{split}-images",
            action="append",
            metavar="DIR",
            help="its images; left out: the usual layouts beside the JSON",
        )
    add_allow_missing(data)


def add_allow_missing(parser: argparse._ActionsContainer) -> None:
    """Add ``--allow-missing``.

    Args:
        parser: Of a subcommand, or a group of options.
    """
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="skip images that are missing; without this, more than 5%% of them are an error",
    )


def add_device_and_overrides(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, and Ultralytics' arguments as ``key=value``.

    Args:
        parser: Of a subcommand.
    """
    parser.add_argument(
        "--device", metavar="0|0,1|cpu", help="GPUs by number, or cpu (default: GPU 0 if any)"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="any argument of Ultralytics, as `yolo` reads it: epochs=100 imgsz=640 lr0=1e-3; "
        "`yolo cfg` lists them",
    )
