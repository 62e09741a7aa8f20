"""README.md and README.zh-CN.md say the same, and what they say is so."""

import re
import subprocess
from pathlib import Path

import pages
import pytest
import yaml
from scripts import badges

import yolograft
from yolograft import registry

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="needs a checkout")

ENGLISH, CHINESE = ((ROOT / name).read_text() for name in ("README.md", "README.zh-CN.md"))
#: Pages that there are in Chinese too.
TRANSLATED = {f"docs/{path.name}" for path in (ROOT / "docs" / "zh").glob("*.md")}


def code(text):
    """Return the code blocks without their comments, which are translated."""
    found = []
    for block in pages.blocks(text):
        lines = [re.sub(r"\s+# .*| *#.*$", "", line) for line in block.body.splitlines()]
        found.append((block.language, block.title, bool(block.skip), lines, block.output))
    return found


def tables(text):
    """Return each table as its rows of cells."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif rows:
            found.append(rows)
            rows = []
    return found


def test_both_have_the_same_commands():
    assert code(ENGLISH) == code(CHINESE)
    assert len(code(ENGLISH)) >= 10


def test_both_have_the_same_tables():
    pairs = list(zip(tables(ENGLISH), tables(CHINESE), strict=True))
    for english, chinese in pairs:
        assert [len(row) for row in english] == [len(row) for row in chinese]
        for one, other in zip(english, chinese, strict=True):
            names = [re.findall(r"`[^`]+`", " ".join(row)) for row in (one, other)]
            assert sorted(names[0]) == sorted(names[1])
    assert len(pairs) == 2


def test_both_have_the_same_pictures_and_links():
    def targets(text):
        found = [link for link in pages.links(text) if not link.startswith("README")]
        return sorted(re.sub(r"^docs/zh/", "docs/", link) for link in found)

    assert targets(ENGLISH) == targets(CHINESE)
    for page in TRANSLATED:  # the first link to a page leads to one's own language
        first = next(x for x in pages.links(CHINESE) if x.replace("/zh/", "/") == page)
        assert "/zh/" in first


def test_both_have_the_same_sections():
    levels = [re.findall(r"^(#+) ", pages.prose(text), re.MULTILINE) for text in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1]


def test_nothing_was_left_to_fill_in():
    for text in (ENGLISH, CHINESE):
        assert re.findall(r"@[A-Z_]+@?", text) == []


def test_it_is_two_screens_long():
    text = re.sub(r"^\|.*$", "", pages.prose(ENGLISH), flags=re.MULTILINE)
    assert 500 < len(text.split()) < 1100


def test_every_block_is_named():
    index = (ROOT / "docs" / "blocks" / "index.md").read_text()
    for block in registry.OURS:
        for text in (ENGLISH, CHINESE):
            assert f"[`{block.name}`](docs/blocks/{block.name}.md)" in text
        row = next(x for x in index.splitlines() if x.startswith(f"| [`{block.name}`]"))
        assert f"arxiv.org/abs/{block.paper}" in row
        assert all(f"`{alias}`" in row for alias in block.aliases)


def test_command_two_is_what_ci_takes_from_it():
    script = (ROOT / ".ci" / "run").read_text()
    take = re.search(r"test_command=\$\((sed .*)\)", script)[1]
    done = subprocess.run(
        ["bash", "-c", take], cwd=ROOT, capture_output=True, text=True, check=True
    )
    block = next(b for b in pages.blocks(ENGLISH) if "pytest" in b.body)
    assert done.stdout == block.body
    assert done.stdout.startswith(". .venv/bin/activate && pip install -e")
    assert "pytest -n 2 -m quick" in done.stdout


def test_the_badges_are_true(capsys):
    assert badges.main(["--check"]) == 0, capsys.readouterr().out
    for name in badges.facts():
        assert f"docs/assets/badges/{name}.svg" in ENGLISH


def test_the_citation_is_of_this_version():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert found["cff-version"] == "1.2.0"
    assert found["version"] == yolograft.__version__
    assert {"message", "title", "authors", "license"} <= {*found}
