"""What the project says of itself in several places, and which tests run when."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import yolograft

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="needs a checkout")


def test_ruff_has_one_version():
    pinned = re.search(r'"ruff==([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert f"rev: v{pinned}\n" in (ROOT / ".pre-commit-config.yaml").read_text()


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


@pytest.mark.long
def test_each_run_takes_the_tests_it_is_for(inner):
    found = {}
    for marks in ("quick", "not quick"):
        status, out = inner(QUICK, "--collect-only", "-m", marks)
        assert status == 0, out
        found[marks] = re.findall(r"::test_(.+)", out)
    assert found["quick"] == ["some[1]", "blocks[False-SE1]", "blocks[False-SK1]", "plain"]
    assert len(found["not quick"]) == 8  # the others, the slow one too


SKIPS = (
    """
pytest.importorskip("no_such_package")
""",
    """
def test(): pytest.importorskip("no_such_package")
""",
    """
@pytest.mark.skipif(True, reason="no browser")
def test(): pass
""",
    """
@pytest.mark.skipif(True, reason="needs a GPU")
def test(): pass
""",
)


@pytest.mark.long
def test_in_ci_nothing_is_skipped_but_what_a_machine_cannot_do(inner, tmp_path):
    for i, text in enumerate(SKIPS):
        (tmp_path / f"test_{i}.py").write_text(f"import pytest\n{text}")
    passes = "def test(): pass"
    status, out = inner(passes)
    assert status == 0, out
    assert re.findall(r"^SKIPPED \[1\] [^:]+:\d+: (.+)$", out, re.M) == [
        "could not import 'no_such_package': No module named 'no_such_package'",
        "could not import 'no_such_package': No module named 'no_such_package'",
        "no browser",
        "needs a GPU",
    ]
    status, out = inner(passes, "--continue-on-collection-errors", YOLOGRAFT_CI="true")
    assert status == 1
    assert re.findall(r"^SKIPPED \[1\] [^:]+:\d+: (.+)$", out, re.M) == ["needs a GPU"]
    assert "1 failed, 1 passed, 1 skipped, 2 errors" in out
    assert out.count("Nothing is skipped in CI. Skipped: could not import 'no_such_package'") >= 2
    assert "Nothing is skipped in CI. Skipped: no browser" in out
