#!/usr/bin/env python3
"""Compare blocks: the same as `yolograft compare`, from a checkout. See --help.

Example: python scripts/compare.py --base yolov8n.yaml --recipes sk,ca,spd \
    --data cfg/data/shapes.yaml --seeds 2 --epochs 3 imgsz=160
"""

import sys

from yolograft.compare import interrupt

interrupt.watch()

from yolograft.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
