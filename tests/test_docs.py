"""Documentation: every link leads somewhere, every snippet runs, the site is built."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pages
import pytest
import yaml

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="needs a checkout")

PAGES = sorted(
    [
        *(
            ROOT / name
            for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md")
        ),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "docs" / "tour.ipynb",
    ]
)
#: What runs when a block of these languages is not a file.
RUNS = ("bash", "python")
#: Folders of records, whose commands take hours.
RECORDS = ROOT / "docs" / "results"
SNIPPETS = [
    page
    for page in PAGES
    if page.suffix == ".md"
    and page.name not in ("CONTRIBUTING.md", "CHANGELOG.md", "README.zh-CN.md")
    and page.parent.name != "zh"  # the same blocks as in English: tests below, and test_readme.py
    and RECORDS not in page.parents
    and any(b.language in RUNS and not b.skip for b in pages.blocks(page.read_text()))
]


def name(page):
    return page.relative_to(ROOT).as_posix()


# ------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page):
    assert pages.dead(page, ROOT) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_nothing_was_left_to_fill_in(page):
    assert re.findall(r"@[A-Z_]+@|TODO|FIXME", pages.text_of(page)) == []


def test_dead_links_are_found(tmp_path):
    (tmp_path / "a.md").write_text(
        "# A `b` c\n[x](b.md) [y](#a-b-c) [z](#nope) ![p](p.png) [w](https://host/x) [v](http://h)\n"
        "```text\n[no](link.md)\n```\n[u](../other.md)\n"
    )
    wrong = pages.dead(tmp_path / "a.md", tmp_path)
    assert wrong == ["b.md", "#nope", "p.png", "http://h", "../other.md"]


# ---------------------------------------------------------------------------------------- snippets


@pytest.mark.parametrize("page", [p for p in PAGES if p.suffix == ".md"], ids=name)
def test_snippets_are_well_formed(page):
    for block in pages.blocks(page.read_text()):
        if block.language == "python":
            ast.parse(block.body)
        elif block.language == "bash":
            subprocess.run(["bash", "-n"], input=block.body, text=True, check=True)
        elif block.language == "yaml":
            yaml.safe_load(block.body)
        elif block.language == "toml":
            tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
            tomllib.loads(block.body)


def run(page, folder, environment):
    """Run the blocks of a page in their order; fail where one fails or prints something else."""
    for block in pages.blocks(page.read_text()):
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.body)
            continue
        if block.skip or block.language not in RUNS:
            continue
        script = folder / ("snippet.py" if block.language == "python" else "snippet.sh")
        script.write_text(block.body)
        command = [sys.executable] if block.language == "python" else ["bash", "-euo", "pipefail"]
        done = subprocess.run(
            [*command, script],
            cwd=folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        script.unlink()
        printed = re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", done.stdout)
        assert done.returncode == 0, f"{block.body}\n{printed[-3000:]}"
        if block.output:
            line = pages.missing(block.output, printed)
            assert line is None, f"{block.body}\nnot printed: {line}\n{printed[-3000:]}"


@pytest.fixture
def environment(tmp_path_factory, shapes):
    """The environment of a reader whose data set of shapes is drawn already."""
    home = tmp_path_factory.getbasetemp() / "reader"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}  # no reader has them
    kept |= {"YOLO_CONFIG_DIR": str(home), "PATH": path, "YOLO_OFFLINE": "true"}
    if not home.exists():
        (home / "datasets").mkdir(parents=True)
        os.symlink(shapes.parent / "shapes", home / "datasets" / "yolograft-shapes")
        code = "import sys, ultralytics; ultralytics.settings.update(eval(sys.argv[1]))"
        paths = {"datasets_dir": str(home / "datasets"), "runs_dir": "runs"}
        command = [sys.executable, "-c", code, repr(paths)]
        subprocess.run(command, env=kept, cwd=home, check=True)
    return kept


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", SNIPPETS, ids=name)
def test_snippets_run_and_print_what_the_page_shows(page, tmp_path, environment):
    run(page, tmp_path, environment)


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "zh").glob("*.md")), ids=name)
def test_a_translation_has_the_same_snippets(page):
    english = ROOT / "docs" / page.name
    assert pages.blocks(page.read_text()) == pages.blocks(english.read_text())
    levels = [re.findall(r"^#+ ", p.read_text(), re.MULTILINE) for p in (page, english)]
    assert levels[0] == levels[1]


def test_wrong_snippets_are_found(tmp_path):
    page = tmp_path / "page.md"
    folder = tmp_path / "here"
    folder.mkdir()
    good = '```yaml title="a/b.yaml"\nx: 1\n```\n```bash\ncat a/b.yaml; echo one; echo two\n```\n'
    cases = {
        good + "<!-- output -->\n```text\nx: 1\n...\ntwo\n```\n": True,
        good + "<!-- output -->\n```text\nx: 1\ntwo\n```\n": False,
        good + "<!-- output -->\n```text\n...\nthree\n```\n": False,
        "```bash\nfalse\n```\n": False,
        "<!-- not run: it fails -->\n```bash\nfalse\n```\n": True,
        "```python\nraise SystemExit(3)\n```\n": False,
    }
    for text, right in cases.items():
        page.write_text(text)
        if right:
            run(page, folder, {**os.environ})
        else:
            with pytest.raises(AssertionError):
                run(page, folder, {**os.environ})


# -------------------------------------------------------------------------------------------- site


@pytest.mark.long
def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path):
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://0.0.0.0:9"}
    environment |= {"https_proxy": "http://0.0.0.0:9"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = list((tmp_path / "site").rglob("*.html"))
    assert len(built) > 40
    for file in built:
        if "results" in file.parts and file.name == "report.html":
            continue  # a report of a comparison, which has a test of its own
        found = re.findall(
            r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(https?://[^\"' >]+)",
            file.read_text(),
        )
        assert found == [], file


def test_every_page_is_in_the_navigation():
    text = re.sub(r"!!\S+", "", (ROOT / "mkdocs.yml").read_text())
    listed = re.findall(r"[\w/.-]+\.md\b", text[text.index("\nnav:") :])
    written = [p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(p for p in written if not re.match(r"results/compare/", p))


# ---------------------------------------------------------------------------------------- notebook


@pytest.mark.long
@pytest.mark.timeout(1800)  # four minutes, where nothing else runs
def test_the_notebook_runs(tmp_path, environment):
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(ROOT / "docs" / "tour.ipynb", 4)
    first = next(cell for cell in book.cells if cell.cell_type == "code")
    assert first.source.startswith("from ultralytics import YOLO")  # imported before yolograft
    NotebookClient(
        book, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute(env=environment)
    kinds = {
        kind
        for cell in book.cells
        for out in cell.get("outputs", ())
        for kind in out.get("data", ())
    }
    assert "image/png" in kinds
    kept = nbformat.read(ROOT / "docs" / "tour.ipynb", 4)
    assert all(
        cell.outputs or "train(" not in cell.source
        for cell in kept.cells
        if cell.cell_type == "code"
    )
