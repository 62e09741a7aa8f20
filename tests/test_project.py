"""What the project says of itself in several places."""

import re
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
