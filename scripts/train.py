"""Train on COCO JSON or on a data YAML: `yolograft train`, from a checkout. See --help."""

import sys

from yolograft.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
