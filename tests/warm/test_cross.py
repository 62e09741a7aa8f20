"""Samples of the matrix of all recipes and all model YAMLs of Ultralytics, and its report."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from scripts.bench import cells, common, cross
from torch import nn

from yolograft import ConfigError
from yolograft.blocks._row import Block, NoGradient

SCRIPTS = Path(__file__).parents[2] / "scripts"

#: Each recipe and each family, once or twice; three of them are exported.
CELLS = [
    ("yolov3-tiny", "spd"),
    ("yolov5", "dcn"),
    ("yolov5-p6", "aspp"),
    ("yolov6", "sk"),
    ("yolov8-world", "gc"),
    ("yolov8-p2", "spm"),
    ("yolov8-ghost", "ca"),
    ("yolov8-obb", "acmix"),
    ("yoloe-v8-seg", "se"),
    ("yolov9t", "combo"),
    ("yolov10n", "stn"),
    ("yolo11-cls", "mpm"),
    ("yolo12", "nl"),
    ("yolo26-pose", "dcn"),
    ("yolo26-depth", "cbam"),
    ("yolov8-rtdetr", "se"),
]
EXPORTS = [("yolov8", "sk"), ("yolo11-cls", "stn"), ("yolo26", "cbam")]

#: Every seventh cell; the shift gives each recipe each kind of YAML.
MORE = [
    (base, recipe)
    for i, base in enumerate(sorted(cells.stock(), key=cross.order))
    for j, recipe in enumerate(common.recipe_names())
    if (i + j) % 7 == 0
]


def test_the_samples_hold_every_recipe_and_every_family():
    assert {recipe for _, recipe in CELLS} == set(common.recipe_names())
    assert set(cells.EXPORTED) <= set(cells.stock())
    assert {base for base, _ in MORE} == set(cells.stock())
    assert {recipe for _, recipe in MORE} == set(common.recipe_names())


@pytest.mark.parametrize(("base", "recipe"), CELLS)
def test_cells_build_and_train(base, recipe):
    assert cells.cell(base, recipe)["blocks"] > 0


@pytest.mark.parametrize(("base", "recipe"), EXPORTS)
def test_cells_export(base, recipe):
    found = cells.cell(base, recipe, export=True)
    assert found["gap"] <= cells.TOLERANCE
    assert found["opset"] <= 18


@pytest.mark.slow
@pytest.mark.parametrize(("base", "recipe"), MORE)
def test_more_cells(base, recipe):
    record = cells.record_of(base, recipe)
    assert record["mark"] != "F", record["reason"]
    if base in cells.EXPORTED and record["mark"] != "refused":
        assert record["mark"] == "E"


def test_a_scale_may_be_given():
    small, large = (cells.cell("yolo11-cls", "aspp", scale)["at"] for scale in ("", "s"))
    assert (small, large) == ("n", "s")


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="no stage there"):
        cells.cell("yolov8-ghost", "sk")
    record = cells.record_of("yolov8-ghost", "sk")
    assert record["mark"] == "refused"
    assert "no stage there" in record["reason"]
    assert "Hint" not in record["reason"]


# ----------------------------------------------------------------------------- what a cell checks


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Parameter(torch.ones(3))
        self.other = nn.Parameter(torch.ones(3))


@pytest.mark.parametrize(
    ("gradients", "says"),
    [
        ({"used": 1.0, "other": 0.0}, ""),
        ({"used": 1.0}, "the gradient of other is none"),
        ({"used": 1.0, "other": math.nan}, "the gradient of other is not finite"),
        ({"used": 0.0, "other": 0.0}, "all gradients are zero"),
    ],
)
@pytest.mark.parametrize("excused", [(), (NoGradient("other", "why"),)])
def test_gradients_are_checked(gradients, says, excused):
    module = Two()
    for name, value in gradients.items():
        getattr(module, name).grad = torch.full((3,), value)
    block = Block(Two, "attention", no_gradient=excused)
    if not says or (excused and "none" in says):
        cells.check_gradients(module, block)
        return
    with pytest.raises(RuntimeError, match=says):
        cells.check_gradients(module, block)


def test_a_gap_is_the_largest_difference_wherever_a_detection_went():
    one = torch.rand(2, 30, 6)
    moved = one[:, torch.randperm(30)]
    assert cells.gap(one, moved) > 0.1
    assert cells.gap(one, moved, moved=True) == 0
    other = moved.clone()
    other[1, 7, 2] += 3
    assert cells.gap(one, other, moved=True) > 1
    assert cells.gap(one, one + 0.5) == pytest.approx(0.5)
    with pytest.raises(RuntimeError, match="returns"):
        cells.gap(one, one[:, :5])
    other[0, 0, 0] = math.nan
    with pytest.raises(RuntimeError, match="not finite"):
        cells.gap(one, other, moved=True)


# -------------------------------------------------------------------------------------- the script


def record(base, recipe, mark, **more):
    return {
        **{"base": base, "recipe": recipe, "scale": "", "mark": mark, "seconds": 1.5},
        **{"versions": cells.versions(), **more},
    }


@pytest.mark.long
def test_the_script_continues_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    records = [
        record("yolo11-cls", "cbam", "E", at="n", gap=2e-6, opset=18),
        record("yolo11-cls", "sk", "F", reason="ValueError: so it is"),
    ]
    lines = [json.dumps(one) for one in records]
    (tmp_path / "kept.jsonl").write_text("\n".join([*lines, lines[0][:20]]) + "\n")
    args = ["--bases", "yolo11-cls,yolov8-ghost", "--recipes", "cbam,sk", "--jobs", "1"]
    args += ["--out", tmp_path / "cross.md", "--records", tmp_path / "kept.jsonl"]
    monkeypatch.setattr(cross, "ROUNDS", 1)
    assert cross.main([*map(str, args)]) == 1
    assert "yolo11-cls + sk: ValueError: so it is" in capsys.readouterr().err
    kept = cross.read(tmp_path / "kept.jsonl")
    assert len(kept) == 4
    assert kept["yolo11-cls", "cbam", ""]["seconds"] == 1.5  # was not computed again
    assert kept["yolov8-ghost", "cbam", ""]["mark"] == "+"
    text = (tmp_path / "cross.md").read_text()
    assert "4 cells: 2 build and train, of which 1 were exported too" in text
    assert "1 are refused with a reason; 1 failed" in text
    assert "| yolo11-cls | n | E | F |" in text
    assert "| yolov8-ghost | n | + | a |" in text
    assert "- `a`: recipe sk, step 1: it has no stage there" in text
    assert "- `F`: yolo11-cls + sk: ValueError: so it is" in text
    costs = [line.split("|")[2:-1] for line in text.splitlines() if line.startswith("| cbam |")]
    stock, grafted, blocks, wrap, ratio, rest = map(float, costs[0])
    assert 0 < wrap < blocks + wrap < grafted
    assert ratio == pytest.approx(grafted / stock, abs=0.02)
    assert rest == pytest.approx((grafted - blocks) / stock, abs=0.02)


def test_records_of_other_versions_do_not_count(tmp_path, monkeypatch):
    old = record("yolo11-cls", "se", "F", reason="old") | {"versions": {"torch": "1.0"}}
    (tmp_path / "kept.jsonl").write_text(json.dumps(old) + "\n")
    done = []

    def work(keys, scale, jobs):
        done.extend(keys)
        yield from (record(*key, "+") for key in keys)

    monkeypatch.setattr(cross, "work", work)
    monkeypatch.setattr(cross, "costs", lambda names: "")
    args = ["--bases", "yolo11-cls", "--recipes", "se", "--out", str(tmp_path / "cross.md")]
    args += ["--records", str(tmp_path / "kept.jsonl")]
    assert cross.main(args) == 0
    assert done == [("yolo11-cls", "se")]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--recipes", "cbma"], "'cbma' is unknown; did you mean cbam?"),
        (["--bases", "yolo11,yolo111"], "'yolo111' is unknown; did you mean yolo11?"),
    ],
)
def test_unknown_names_are_refused(args, says, capsys):
    with pytest.raises(SystemExit) as error:
        cross.main(args)
    assert error.value.code == 2
    assert says in capsys.readouterr().err


def test_the_patch_script_is_the_command(tmp_path, monkeypatch):
    import runpy

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["patch.py", "yolov8n.yaml", "--recipe", "se"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPTS / "patch.py"), run_name="__main__")
    assert end.value.code == 0
    assert "C2f_SE" in (tmp_path / "yolov8-se.yaml").read_text()
