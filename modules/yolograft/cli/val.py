"""Validate on a data YAML or on COCO JSON.

Validates a checkpoint and prints the COCO table; `yolo val` does the same.

  yolograft val --model best.pt --data coco.yaml
  yolograft val --model best.pt --coco-val val.json --val-images val imgsz=640
"""

from __future__ import annotations

import argparse

from yolograft.cli import _options


def add(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand.

    Args:
        commands: Of the ``yolograft`` command.
    """
    parser = _options.command(commands, "val", __doc__, main)
    parser.add_argument("--model", help="a checkpoint, or an exported model")
    _options.add_data(parser, ("val",))
    _options.add_device_and_overrides(parser)


def main(args: argparse.Namespace) -> int:
    """Validate; return the exit status."""
    from yolograft.training import run

    return run.val(args)
