"""What the project says of itself in several places, and which tests run when."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import yolograft
from yolograft import registry

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="needs a checkout")


def test_ruff_has_one_version():
    pinned = re.search(r'"ruff==([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert f"rev: v{pinned}\n" in (ROOT / ".pre-commit-config.yaml").read_text()


def test_the_readme_names_every_block_and_config():
    readme = (ROOT / "README.md").read_text()
    for block in registry.OURS:
        row = next(line for line in readme.splitlines() if line.startswith(f"| [`{block.name}`]"))
        assert block.config in row
        assert block.paper in row
        assert all(f"`{alias}`" in row for alias in block.aliases)


def test_the_changelog_knows_this_version():
    assert f"## {yolograft.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


# Which tests run when


@pytest.fixture
def inner(tmp_path):
    """Run pytest on a file beside a copy of our conftest; returns status and output."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    def call(text, *options, **env):
        (tmp_path / "test_inner.py").write_text(f"import pytest\n{text}")
        environment = {k: v for k, v in os.environ.items() if k != "YOLOGRAFT_CI"}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, tmp_path]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env={**environment, **env}
        )
        return done.returncode, done.stdout

    return call


QUICK = """
class Case:
    def __init__(self, block, size): self.block, self.size = block, size
    def __str__(self): return f"{self.block}{self.size}"

@pytest.mark.parametrize("n", [pytest.param(0, marks=pytest.mark.slow), 1, 2])
def test_some(n): pass

@pytest.mark.each("case")
@pytest.mark.parametrize("case", [Case("SE", 1), Case("SE", 2), Case("SK", 1)], ids=str)
@pytest.mark.parametrize("train", [False, True])
def test_blocks(case, train): pass

@pytest.fixture
def yolo(): pass
def test_the_stock_command(yolo): pass
@pytest.mark.long
def test_a_training(): pass
def test_plain(): pass
"""


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["-m", "quick"], ["some[1]", "blocks[False-SE1]", "blocks[False-SK1]", "plain"]),
        (["-m", "slow"], ["some[0]"]),
        ([], 11),
        (["-m", "not quick"], 8),
    ],
    ids=["quick", "slow", "plain", "the rest"],
)
def test_a_run_takes_the_tests_it_is_for(inner, options, names):
    status, out = inner(QUICK, "--collect-only", *options)
    assert status == 0, out
    found = re.findall(r"::test_(.+)", out)
    assert (found if isinstance(names, list) else len(found)) == names


SKIPS = {
    "a missing package": "pytest.importorskip('no_such_package')",
    "a missing package, of one test": "def test(): pytest.importorskip('no_such_package')",
    "a missing browser": "@pytest.mark.skipif(True, reason='no browser')\ndef test(): pass",
}


@pytest.mark.parametrize("text", SKIPS.values(), ids=SKIPS)
def test_nothing_is_skipped_in_ci(inner, text):
    status, out = inner(f"{text}\ndef test_more(): pass")
    assert status in (0, 5), out  # 5: a file that skips holds no test
    assert out.count("SKIPPED") == 1
    status, out = inner(f"{text}\ndef test_more(): pass", YOLOGRAFT_CI="true")
    assert status != 0
    assert "Nothing is skipped in CI. " in out


def test_what_a_machine_cannot_do_is_skipped_in_ci_too(inner):
    text = "@pytest.mark.skipif(True, reason='needs a GPU')\ndef test(): pass"
    status, out = inner(text, YOLOGRAFT_CI="true")
    assert (status, out.count("SKIPPED")) == (0, 1), out
    assert "needs a GPU" in out
