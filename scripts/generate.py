#!/usr/bin/env python3
"""Write what follows from the table of blocks and the recipes, or check that it is written.

These are `cfg/yolov8-RECIPE.yaml` for each recipe, the tables of blocks in README.md and
README.zh-CN.md, a page for each block in `docs/blocks`, and the names of the blocks for editors.
With --check, nothing is written: stale files are listed, and the exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

import yolograft
from yolograft import blocks, describe, files, registry, roles, signatures
from yolograft.blocks._row import Block
from yolograft.config import origin
from yolograft.graft import file, graft, recipes
from yolograft.graft.recipes import Recipe
from yolograft.roles import Role

ROOT = Path(__file__).resolve().parents[1]
NOTE = "Written by `python scripts/generate.py`; do not edit."
#: Around the table in a README.
START = "<!-- blocks: written by `python scripts/generate.py` -->\n\n"
END = "\n\n<!-- end of blocks -->"
#: The order of the roles in tables.
ROLES = ("attention", "conv", "down", "widen", "backbone", "classifier")
#: The READMEs, and what columns and roles are called there.
READMES = {
    "README.md": {
        "role": "role",
        "blocks": "blocks",
        "recipes": "recipes and configs",
        "attention": "**attention**: keeps channels and size",
        "conv": "**convolution**: in place of a convolution",
        "down": "**downsampling**: halves the map",
        "widen": "**space-to-depth**: half the size, four times the channels",
        "backbone": "**backbone**: returns maps of several sizes",
        "classifier": "**classifier**: ends a classification net",
    },
    "README.zh-CN.md": {
        "role": "类型",
        "blocks": "模块",
        "recipes": "配方与配置",
        "attention": "**注意力**：通道数和尺寸不变",
        "conv": "**卷积**：替换普通卷积",
        "down": "**下采样**：特征图尺寸减半",
        "widen": "**空间到深度**：尺寸减半，通道数变为四倍",
        "backbone": "**骨干网络**：输出多个尺度的特征图",
        "classifier": "**分类头**：分类网络的最后一层",
    },
}
#: Models of which the page of a block says where its recipe puts it.
BASES = ("yolov8n.yaml", "yolo11n.yaml", "yolo26n.yaml")
#: Pages of results, and what they are about.
RESULTS = {
    "bench.md": "Time and memory against other implementations",
    "shapes.md": "training on drawn shapes",
    "compare.md": "the blocks compared",
    "warm-start.md": "warm starts",
    "bccd.md": "real images",
}
#: The first words of the page of all blocks.
INTRO = (
    "Every block of the pack, by role. A role says what the block does to channels and size, and "
    "so where it can stand. A row is one line of a model YAML: `[from, repeats, module, "
    "arguments]`. A recipe puts the block into any model: `yolo11n-cbam.yaml` is `yolo11n.yaml` "
    "with the recipe `cbam`."
)
#: The map on which the cost of a block is given.
WIDTH, SIZE = 256, 40


def main(argv: list[str] | None = None) -> int:
    """Write all files, or check them; return 1 if a file is stale.

    Args:
        argv: Arguments, those of the process when left out.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, list stale files")
    check = parser.parse_args(argv).check
    texts = dict(all_files())
    names = {path for path in (ROOT / "docs" / "blocks").glob("*.md") if path not in texts}
    names |= {path for path, text in texts.items() if _read(path) != text}
    for path in sorted(names):
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
        if check:
            continue
        if path in texts:
            files.write(path, texts[path])
        else:  # the page of a block that is gone
            path.unlink()
    return 1 if check and names else 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def all_files() -> Iterator[tuple[Path, str]]:
    """Yield each generated file and its text."""
    for recipe in pack_recipes().values():
        yield ROOT / "cfg" / f"yolov8-{recipe.name}.yaml", config(recipe)
    for name, words in READMES.items():
        yield ROOT / name, readme(name, words)
    yield ROOT / "modules" / "yolograft" / "blocks" / "__init__.pyi", stub()
    folder = ROOT / "docs" / "blocks"
    yield folder / "index.md", index()
    for block in registry.OURS:
        yield folder / f"{block.name}.md", page(block)


@cache
def pack_recipes() -> dict[str, Recipe]:
    """Return the recipes of the pack, by name."""
    names = sorted(path.stem for path in (ROOT / "cfg" / "recipes").glob("*.yaml"))
    return {name: recipes.load(recipes.BUILT_IN + name) for name in names}


def config(recipe: Recipe) -> str:
    """Return the model YAML that a recipe makes of yolov8.yaml, with its record for warm starts."""
    name = f"yolov8-{recipe.name}.yaml"
    text = file.text(graft("yolov8.yaml", recipes.BUILT_IN + recipe.name), name)
    note = f"Written by `python scripts/generate.py` from cfg/recipes/{recipe.name}.yaml."
    paragraphs = [f"YOLOv8 with {recipe.about}.", recipe.why, note]
    header = "\n#\n".join(
        textwrap.fill(one, 98, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        for one in paragraphs
    )
    return f"{header}\n\n{text.partition(chr(10) * 2)[2]}"


def stub() -> str:
    """Return the names of `yolograft.blocks`, which Python finds by itself and editors do not."""
    classes = [getattr(blocks, name) for name in blocks.__all__]
    lines = [f"from {c.__module__} import {c.__name__} as {c.__name__}" for c in classes]
    lines.append("from yolograft.blocks._row import Block")
    return "\n".join(
        [f"# {NOTE}", "# ruff: noqa: I001", "", *sorted(lines), "", "BLOCKS: list[Block]", ""]
    )


# ---------------------------------------------------------------------------------------- a block


def by_role() -> Iterator[tuple[Role, list[Block]]]:
    """Yield each role with its blocks."""
    for role in sorted(roles.ROLES.values(), key=lambda role: ROLES.index(role.name)):
        yield role, [block for block in registry.OURS if block.role is role]


def readme(name: str, words: dict[str, str]) -> str:
    """Return a README with its table of blocks, one line for each role.

    Args:
        name: Its file.
        words: What the columns and the roles are called there.
    """
    before, start, rest = _read(ROOT / name).partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        sys.exit(f"{name}: no place for the table\n\nHint: write {START.strip()} and {END.strip()}")
    lines = []
    for role, members in by_role():
        names = [f"[`{block.name}`](docs/blocks/{block.name}.md)" for block in members]
        found = [f"`{recipe}`" for recipe in dict.fromkeys(map(describe.recipe, members)) if recipe]
        lines.append((words[role.name], ", ".join(names), ", ".join(found)))
    head = (words["role"], words["blocks"], words["recipes"])
    return "".join((before, START, _table(head, lines), END, after))


def index() -> str:
    """Return the page of all blocks, a table for each role."""
    parts = [f"<!-- {NOTE} -->", "# Blocks", INTRO]
    for role, members in by_role():
        lines = []
        for block in members:
            aliases = "".join(f" (`{alias}`)" for alias in block.aliases)
            recipe = describe.recipe(block)
            lines.append(
                (
                    f"[`{block.name}`]({block.name}.md){aliases}",
                    f"{_markdown(describe.read(block).about)} ([paper]({describe.paper(block)}))",
                    f"`{describe.row(block)}`",
                    f"`{recipe}`" if recipe else "",
                )
            )
        head = ("block (alias)", "what it does", "a row", "recipe or config")
        parts += [f"## {_sentence(role.name)}", f"{_sentence(role.about)}.", _table(head, lines)]
    return "\n\n".join(parts) + "\n"


def page(block: Block) -> str:
    """Return the page of a block."""
    cls, parts = block.load(), describe.read(block)
    title = re.match(r"(.*?)\.?$", (inspect.getmodule(cls).__doc__ or "").splitlines()[0])[1]
    facts = [
        ("topic", _markdown(title)),
        ("paper", f"[arXiv {block.paper}]({describe.paper(block)})"),
        ("names in a row", ", ".join(f"`{name}`" for name in (block.name, *block.aliases))),
        ("role", f"{block.role.name}: {block.role.about}"),
        ("class", f"`{block.path.replace(':', '.')}`"),
    ]
    texts = [f"<!-- {NOTE} -->", f"# {block.name}", _markdown(parts.about)]
    if (ROOT / "docs" / "assets" / "blocks" / f"{block.name}.svg").is_file():
        texts.append(f"![The flow of maps through {block.name}](../assets/blocks/{block.name}.svg)")
    texts += [_table(("", ""), facts), *map(_markdown, parts.body)]
    texts += ["## Rows", f"```yaml\n{describe.rows(block)}\n```"]
    if parts.arguments:
        rows = [(f"`{n}`", d and f"`{d}`", _markdown(meaning)) for n, d, meaning in parts.arguments]
        texts += ["## Arguments", _table(("argument", "default", "meaning"), rows)]
    if parts.shape:
        texts += ["## Shape", _markdown(parts.shape)]
    points = [f"- {_sentence(what)}: {why}." for what, why in block.limits.items()]
    limits = [*map(_markdown, parts.differs), *["\n".join(points)] * bool(points)]
    texts += ["## Limits", *limits] if limits else []
    texts += [*_in_models(block), *_warm(block), *_cost(block), *_measured(block)]
    return "\n\n".join(texts) + "\n"


def _markdown(text: str) -> str:
    """Return text of a docstring as Markdown."""
    text = re.sub(r":\w+:`[\w.]*?(\w+)`", r"`\1`", text.replace("``", "`"))
    before, literal, formula = text.partition("::\n\n")
    if not literal:
        return text
    formula, _, after = formula.partition("\n\n")
    return f"{before}:\n\n```text\n{textwrap.dedent(formula)}\n```\n\n{after}".strip()


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _in_models(block: Block) -> Iterator[str]:
    """Yield the recipe and the model YAML of a block, and which rows the recipe changes."""
    if not block.config:
        return
    yield "## In a model"
    recipe = pack_recipes().get(Path(block.config).stem.removeprefix("yolov8-"))
    if not recipe:
        yield f"`{block.config}` shows it; there is no recipe for it."
        return
    yield f"The recipe `{recipe.name}`: {recipe.about}. {recipe.why}"
    yield (
        "<!-- not run: it downloads COCO8, and needs a checkpoint -->\n"
        "```bash\n"
        f"yolo train model=yolov8n-{recipe.name}.yaml data=coco8.yaml # also yolo11n, yolo26n\n"
        f"yolograft patch best.pt --recipe {recipe.name} --warm exact # from trained weights\n"
        "```"
    )
    yield "The rows of the new model that are inserted or changed, with their levels:"
    yield _table(("model", "inserted", "changed"), [_places(name, recipe) for name in BASES])


def _places(base: str, recipe: Recipe) -> tuple[str, str, str]:
    result = graft(base, recipes.BUILT_IN + recipe.name)
    found: dict[bool, list[str]] = {True: [], False: []}
    for i, one in enumerate(result.origins):
        if one.relation != origin.KEPT:
            level = result.base.level(one.row)
            found[one.inserted].append(f"{i} (P{level})" if level is not None else str(i))
    return f"`{base}`", ", ".join(found[True]), ", ".join(found[False])


def _warm(block: Block) -> Iterator[str]:
    """Yield how a block starts where it replaces a layer of a trained model."""
    if not {"replace", "swap"} & {*block.role.actions}:
        return
    yield "## From trained weights"
    if block.take_over:
        text = "It starts exactly as the convolution that it replaces, wherever that is possible."
        if block.drifts:
            text += f" With `--warm exact` it gets a residual gate all the same: {block.drifts}."
        yield text
    else:
        yield (
            "It starts with new weights. With `--warm exact`, a residual gate leads from the old "
            "layer to the block, so that the model starts with the same outputs."
        )


def _cost(block: Block) -> Iterator[str]:
    """Yield parameters and work of a block on one map, beside a 3x3 convolution."""
    if not block.role.one_map:
        return
    widths = (WIDTH,) * len(block.role.prefix)
    torch.manual_seed(0)
    x = torch.rand(1, WIDTH, SIZE, SIZE)
    conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
    rows = [
        (f"`{block.name}`", *_figures(signatures.build(block.load(), block.role, widths, {}), x)),
        ("3x3 convolution", *_figures(conv, x)),
    ]
    yield "## Cost"
    yield f"With its defaults, on a map of {WIDTH} channels and {SIZE}x{SIZE} positions:"
    yield _table(("", "parameters", "GFLOPs"), rows)


def _measured(block: Block) -> Iterator[str]:
    """Yield links to what was measured with a block."""
    recipe = describe.recipe(block)
    found = [
        f"[{title}](../results/{name})"
        for name, title in RESULTS.items()
        if re.search(rf"\b({block.name}|{recipe})\b", _read(ROOT / "docs" / "results" / name))
    ]
    if found:
        yield "## Measured"
        yield f"{'; '.join(found)}."


def _figures(module: nn.Module, x: Tensor) -> tuple[str, str]:
    found = yolograft.count(module.eval(), inputs=x)
    return f"{found.params:,}", f"{found.gflops:.3g}"


if __name__ == "__main__":
    sys.exit(main())
