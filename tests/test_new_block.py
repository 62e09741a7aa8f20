"""A block from outside joins in four steps, as CONTRIBUTING.md says: nothing else is touched."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="needs a checkout"),
    pytest.mark.long,
]

#: The four things.
FILES = {
    "modules/yolograft/blocks/damp.py": '''"""Damping, made up for this test: https://arxiv.org/abs/0000.00001."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yolograft.blocks import _layers
from yolograft.blocks._row import Block


class Damp(nn.Module):
    """Divide each channel by one plus its learned square.

    Paper: nobody, https://arxiv.org/abs/0000.00001.

    Args:
        c: Input and output channels.
        start: First value, in percent.

    Shape:
        - Input, output: ``(B, c, H, W)``

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is below 1.
    """

    def __init__(self, c: int, start: int = 50):
        super().__init__()
        _layers.check_int("Damp", c=c, start=start)
        self.weight = nn.Parameter(torch.full((c,), start / 100))

    def forward(self, x: Tensor) -> Tensor:
        """Return the damped map."""
        return x / (1 + self.weight**2)[:, None, None]


BLOCKS = (Block(Damp, role="attention", paper="0000.00001", config="yolov8-damp.yaml"),)
''',
    "cfg/recipes/damp.yaml": """about: Damping (https://arxiv.org/abs/0000.00001) before the head
why: Made up for a test.
steps:
  - insert: Damp
    at: {is: head-feeder}
""",
    "tests/blocks/references/damp.py": '''"""Damping."""

import torch

from ..case import Case
from .tools import Weights


def damp(p: Weights, x, training, /, c: int, start: int = 50):
    weights = p["weight"].view(c)
    maps = [x[:, i] / (1 + weights[i] * weights[i]) for i in range(c)]
    return torch.stack(maps, 1) + 0 * start


CASES = [Case("Damp", damp, {"c": 6}), Case("Damp", damp, {"c": 3, "start": 20})]
''',
    "scripts/bench/contenders/damp.py": '''"""Damping."""

from torch import Tensor, nn

from ._row import Row


def _naive(block: nn.Module, x: Tensor) -> Tensor:
    """The divisor expanded to the shape of the map."""
    return x / (1 + block.weight * block.weight)[None, :, None, None].expand_as(x)


ROWS = {"Damp": Row(_naive)}
''',
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout with a block more, and how to run Python there."""
    root = tmp_path_factory.mktemp("checkout")
    kept = (
        "modules",
        "cfg",
        "scripts",
        "tests",
        "docs/assets/blocks",
        "docs/blocks",
        "docs/results",
    )
    for name in kept:
        ignored = shutil.ignore_patterns("__pycache__", "released", "*.pt")
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for name in ("README.md", "README.zh-CN.md", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    for name, text in FILES.items():
        assert not (root / name).exists()
        (root / name).write_text(text)

    def run(*args, ok=True):
        environment = {**os.environ, "PYTHONPATH": str(root / "modules")}
        done = subprocess.run(
            [sys.executable, *args],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == ok, done.stdout[-3000:]
        return done.stdout

    return run


def test_one_command_writes_what_follows_from_the_four(checkout):
    stale = checkout("scripts/generate.py", "--check", ok=False).split()
    assert sorted(stale[1::2]) == [
        "README.md",
        "README.zh-CN.md",
        "cfg/yolov8-damp.yaml",
        "docs/blocks/Damp.md",
        "docs/blocks/index.md",
        "modules/yolograft/blocks/__init__.pyi",
    ]
    checkout("scripts/generate.py")
    assert checkout("scripts/generate.py", "--check") == ""


def test_the_block_is_listed_built_and_grafted(checkout):
    listed = checkout("-c", "from yolograft.cli import main; main(['list'])")
    line = next(line for line in listed.splitlines() if line.startswith("  Damp "))
    assert line.split()[:2] == ["Damp", "damp"]
    code = (
        "import torch, yolograft; from ultralytics import YOLO\n"
        "model = YOLO('yolo11n-damp.yaml').model.eval()\n"
        "print(sum(type(m).__name__ == 'Damp' for m in model.modules()))\n"
        "from yolograft.blocks import Damp; print(Damp.__module__)"
    )
    assert checkout("-c", code).split()[-2:] == ["3", "yolograft.blocks.damp"]


def test_the_block_joins_the_tests_of_all_blocks(checkout):
    which = "Damp and (reference or refuses or signature or float32 or learns or odd)"
    command = ("-m", "pytest", "-vv", "-m", "", "-p", "no:cacheprovider", "tests/blocks")
    assert checkout(*command, "-k", which).count(" PASSED") >= 8


def test_the_bench_knows_the_contender(checkout):
    code = "from scripts.bench.contenders import ROWS; print('Damp' in ROWS)"
    assert checkout("-c", code).split()[-1] == "True"
