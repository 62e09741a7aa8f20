#!/usr/bin/env python3
"""Graft blocks into a model YAML: the same as `yolograft patch`, from a checkout.

Example: python scripts/patch.py yolo11n.yaml --recipe sk,cbam
"""

import sys

from yolograft.cli import main

if __name__ == "__main__":
    sys.exit(main(["patch", *sys.argv[1:]]))
