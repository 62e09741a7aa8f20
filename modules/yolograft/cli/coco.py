"""Check a COCO dataset: count what it holds, list its issues, draw its images.

`coco check` reads COCO JSON and looks at each image: what it holds, what
training would leave out or change and why, and a contact sheet of images with
their boxes, masks and keypoints. Several files, or a data YAML that names them,
are also compared: which images do they share?

  yolograft coco check instances_train.json --images train -o sheet.jpg
  yolograft coco check my-coco.yaml --json

Exits with 0 if there are no issues, 1 if something was dropped, changed or
looks wrong, 2 if the dataset cannot be used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yolograft.cli import _options


def add(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand.

    Args:
        commands: Of the ``yolograft`` command.
    """
    parser = _options.command(commands, "coco", __doc__, main)
    actions = parser.add_subparsers(
        title="actions", prog=parser.prog, dest="action", required=True, metavar="ACTION"
    )
    check = _options.command(actions, "check", __doc__, main)
    check.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="COCO instances JSON, or a data YAML that names some",
    )
    check.add_argument(
        "--images",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder of the images, one for all files or one each; left out: the usual layouts",
    )
    check.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the sheet here")
    check.add_argument("--json", action="store_true", help="print the counts and issues as JSON")
    _options.add_allow_missing(check)


def main(args: argparse.Namespace) -> int:
    """Check; return the exit status."""
    from yolograft.coco.check import check

    return check(args.files, args.images, args.output, args.allow_missing, args.json)
