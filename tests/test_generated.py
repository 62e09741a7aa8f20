"""What is written from the table of blocks and the recipes is up to date, and what it was."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from scripts import generate
from ultralytics.nn import tasks

from yolograft import describe, registry
from yolograft.config import origin, rows
from yolograft.config.labels import split

ROOT = Path(__file__).parents[1]
#: Of each model that was written by hand before there was a generator: parameters at the scales n
#: and x, and type and parameters of each layer at n.
FACTS = json.loads((ROOT / "tests" / "yolov8-facts.json").read_text())


def test_everything_is_up_to_date(capsys):
    assert generate.main(["--check"]) == 0, capsys.readouterr().out


def test_every_recipe_has_a_config_and_every_block_a_page():
    written = {path.relative_to(ROOT).as_posix() for path, _ in generate.all_files()}
    assert written == {
        "README.md",
        "README.zh-CN.md",
        "docs/blocks/index.md",
        "modules/yolograft/blocks/__init__.pyi",
        *(f"cfg/yolov8-{name}.yaml" for name in FACTS),
        *(f"docs/blocks/{block.name}.md" for block in registry.OURS),
    }


@pytest.mark.long
def test_stale_files_are_listed_and_written(tmp_path, monkeypatch, capsys):
    for name in (
        "cfg",
        "docs/assets/blocks",
        "docs/blocks",
        "docs/results",
        "modules/yolograft/blocks",
    ):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "README.zh-CN.md", tmp_path)
    readme = (ROOT / "README.md").read_text()
    (tmp_path / "README.md").write_text(readme.replace("`cbam`, ", "`old`, "))
    config, page, gone = (
        tmp_path / name
        for name in ("cfg/yolov8-se.yaml", "docs/blocks/SE.md", "docs/blocks/Gone.md")
    )
    was = config.read_text()
    config.write_text(was.replace("C2f_SE", "C2f"))
    page.unlink()
    gone.write_text("# A block that is gone\n")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    names = ["README.md", "cfg/yolov8-se.yaml", "docs/blocks/Gone.md", "docs/blocks/SE.md"]
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out.splitlines() == [f"stale: {name}" for name in names]
    assert not page.exists()
    assert generate.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [f"written: {name}" for name in names]
    assert config.read_text() == was
    assert (tmp_path / "README.md").read_text() == readme
    assert not gone.exists()
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize("name", FACTS)
def test_models_are_those_of_the_files_written_by_hand(name):
    config = tasks.yaml_model_load(str(ROOT / "cfg" / f"yolov8-{name}.yaml"))
    models = {
        scale: tasks.DetectionModel({**config, "scale": scale}, verbose=False) for scale in "nx"
    }
    for scale, model in models.items():
        assert sum(p.numel() for p in model.parameters()) == FACTS[name][scale]
    layers = [[layer.type.rpartition(".")[2], layer.np] for layer in models["n"].model]
    assert layers == FACTS[name]["layers"]


@pytest.mark.parametrize("name", FACTS)
def test_configs_say_where_their_rows_come_from(name):
    config = yaml.safe_load((ROOT / "cfg" / f"yolov8-{name}.yaml").read_text())
    record = origin.read(config)
    assert (record.base, record.recipes) == ("yolov8.yaml", [name])
    changed = [split(row[2])[1] is not None for row in rows.raw(config)]
    assert [one.relation != origin.KEPT for one in record.origins] == changed
    kept = [one.row for one in record.origins if not one.inserted]
    assert kept == list(range(23))


@pytest.mark.parametrize("block", registry.OURS, ids=lambda block: block.name)
def test_the_row_that_a_page_shows_builds(block):
    row = yaml.safe_load(describe.row(block))
    assert f"- {describe.row(block)}" in (ROOT / "docs/blocks" / f"{block.name}.md").read_text()
    config = {"nc": 3, "backbone": [[-1, 1, "Conv", [256, 3, 2]]], "head": [row]}
    model, _ = tasks.parse_model(config, 3, verbose=False)
    assert type(model[1]) is block.load()
