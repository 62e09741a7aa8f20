"""Validate on COCO JSON or on a data YAML: `yolograft val`, from a checkout. See --help."""

import sys

from yolograft.cli import main

if __name__ == "__main__":
    sys.exit(main(["val", *sys.argv[1:]]))
