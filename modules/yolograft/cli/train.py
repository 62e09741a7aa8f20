r"""Train on a data YAML or on COCO JSON.

Trains, validates after each epoch, and ends with the COCO table of the best
checkpoint. Everything else is as in the stock command, `yolo train`, which
reads the same data YAMLs.

  yolograft train --model yolov8n-sk.yaml --data coco.yaml epochs=100
  yolograft train --model yolov8n.yaml --device 0,1 batch=64 \
      --coco-train train.json --train-images train \
      --coco-val val.json --val-images val

Defaults depend on the device: amp=True and up to eight workers on a GPU,
neither on a CPU; cache=False on both. batch is the sum over all GPUs.

Several machines, here two with eight GPUs each; the second says --node-rank 1,
HOST is the first:

  torchrun --nnodes 2 --nproc-per-node 8 --node-rank 0 --master-addr HOST \
      --master-port 29500 --no-python \
      yolograft train --model yolov8n-sk.yaml --data coco.yaml batch=256

If one process stops, those on the other machines print its message and end
within 30 seconds.
"""

from __future__ import annotations

import argparse

from yolograft.cli import _options


def add(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand.

    Args:
        commands: Of the ``yolograft`` command.
    """
    parser = _options.command(commands, "train", __doc__, main)
    add_option = parser.add_argument
    add_option("--model", help="a model YAML, or a checkpoint to start from")
    add_option("--recipe", metavar="NAME[,NAME...]", help="graft blocks into the YAML: sk,cbam")
    _options.add_data(parser, ("train", "val"))
    add_option("--pretrained", metavar="FILE", help="checkpoint whose weights are used if they fit")
    add_option("--seed", type=int, metavar="N", help="of weights and augmentation (0)")
    add_option(
        "--resume",
        nargs="?",
        const=True,
        metavar="LAST.PT",
        help="continue an interrupted run: its last.pt, or the newest below this folder",
    )
    _options.add_device_and_overrides(parser)


def main(args: argparse.Namespace) -> int:
    """Train; return the exit status."""
    from yolograft.training import run

    return run.train(args)
