"""Recipes on the pack's and the host's configs, by Python, by command and by name."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from ultralytics.engine.model import yaml_model_load
from ultralytics.nn import tasks
from ultralytics.utils import LOGGER, ROOT

import yolograft
from yolograft import ConfigError, cli, registry
from yolograft.graft import engine, graft, recipes, write
from yolograft.graft.graph import Graph
from yolograft.host.configs import CFG

PINNED = Path(__file__).with_name("yolov8-pinned.yaml")
RECIPES = sorted(path.stem for path in (CFG / "recipes").glob("*.yaml"))
#: A new backbone, which no recipe makes.
OWN = {"hrnet"}
STOCK = sorted((ROOT / "cfg" / "models").rglob("*.yaml"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(config):
    return [*config["backbone"], *config["head"]]


# ------------------------------------------------------------------------------ the pack's configs


def test_every_config_has_a_recipe_and_every_recipe_a_config():
    names = {path.stem.removeprefix("yolov8-") for path in CFG.glob("yolov8-*.yaml")}
    assert names - OWN == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_the_packs_configs_are_what_the_recipes_yield(name):
    grafted = yolograft.patch(yaml.safe_load(PINNED.read_text()), name)
    shipped = yaml.safe_load((CFG / f"yolov8-{name}.yaml").read_text())
    assert grafted["backbone"] == shipped["backbone"]
    assert grafted["head"] == shipped["head"]
    assert {k: grafted[k] for k in shipped} == shipped


# ------------------------------------------------------------------------------ the host's configs

NO_STAGE = {
    "yolo11-cls-resnet18",
    *(path.stem for path in STOCK if path.stem.startswith("rtdetr-")),
    *(path.stem for path in STOCK if "ghost" in path.stem or "cls-resnet" in path.stem),
}
RESNETS = {"yolo11-cls-resnet18", "yolov8-cls-resnet50", "yolov8-cls-resnet101"}
#: Where a recipe makes no sense, and what it says then.
REFUSED = {
    "sk": (NO_STAGE, "has no stage there"),
    "dcn": (NO_STAGE, "has no stage there"),
    "acmix": (NO_STAGE, "has no stage there"),
    "spd": (RESNETS, "has no downsampler there"),
    "combo": (NO_STAGE, "there"),
    "aspp": (
        {"rtdetr-l", "rtdetr-resnet50", "rtdetr-resnet101"} | RESNETS - {"yolo11-cls-resnet18"},
        "no number makes ASPP as wide",
    ),
}
ALSO_REFUSED = {
    ("acmix", "yolo12-cls"): "none of these rows at P4+",
    ("acmix", "yolov10x"): "none of these rows at P4+",
    ("acmix", "yolov9m"): "heads=4 does not divide c2=90",
}


@pytest.mark.parametrize("path", STOCK, ids=lambda path: path.stem)
def test_every_recipe_on_every_config_of_the_host(path):
    config = tasks.yaml_model_load(str(path))
    graph = Graph(config)
    for name in RECIPES:
        steps = list(recipes.load(name).steps)
        stems, says = REFUSED.get(name, ((), ""))
        says = says if path.stem in stems else ALSO_REFUSED.get((name, path.stem), "")
        if says:
            with pytest.raises(ConfigError, match=says):
                engine.plan(graph, steps)
            continue
        edits = engine.plan(graph, steps)
        new, origins = engine.splice(graph, edits)
        assert len(new) == len(graph.rows) + sum(map(len, edits.follow.values())) > 0
        assert edits.follow or edits.become
        last = {origin.row: i for i, origin in enumerate(origins)}
        for row, origin in zip(
            Graph({"backbone": new[:1], "head": new[1:]}).rows, origins, strict=True
        ):
            if origin.relation == "after":
                assert row.sources == (row.index - 1,)
            else:
                want = [last.get(s, -1) for s in graph.rows[origin.row].sources]
                assert list(row.sources) == want


@pytest.mark.parametrize(
    ("base", "recipe"),
    [
        ("yolov3-tiny", "spd"),
        ("yolov5-p6", "nl"),
        ("yolov6", "dcn"),
        ("yolov8-p2", "combo"),
        ("yolov8-world", "cbam"),
        ("yolov9e", "ca"),
        ("yolov10n", "spd,sk"),
        ("yolo11-cls", "aspp"),
        ("yolo12", "stn"),
        ("yolo26-seg", "sk"),
        ("yoloe-26", "gc"),
        ("rtdetr-l", "spd,cbam"),
    ],
)
def test_a_grafted_config_keeps_every_map(base, recipe):
    result = graft(f"{base}.yaml", recipe)
    new = Graph(result.config)
    for i, origin in enumerate(result.origins):
        assert new.shapes[i] == result.base.shapes[origin.row]


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        ("yolo11n", "DetectionModel"),
        ("yolo26n-seg", "SegmentationModel"),
        ("yolov8n-pose", "PoseModel"),
        ("yolo11n-obb", "OBBModel"),
        ("yolov8n-cls", "ClassificationModel"),
    ],
)
def test_the_hosts_models_take_what_patch_returns(base, kind):
    config = yolograft.patch(f"{base}.yaml", "cbam,sk")
    model = getattr(tasks, kind)(config, nc=4, verbose=False)
    assert model.yaml["scale"] == "n"
    assert any(type(m).__name__ == "CBAM" for m in model.modules())
    model.train()(torch.rand(2, 3, 64, 64))


def test_levels_are_read_off_the_maps():
    levels = {
        "yolov3-tiny": [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, None, 5],
        "yolov6": [1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 5, 4],  # the last is a transposed convolution
        "rtdetr-l": [2, 2, 3, 3, 4, 4, 4, 4, 5, 5],
        "yolov9t": [1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 4],
        "yolov8-spd": [1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 4],
        "yolov8-hrnet": [None, 3, 4, 5, 5, 4],
        "yolov8-cls-resnet50": [2, 2, 3, 4, 5],
    }
    for name, want in levels.items():
        graph = Graph(yaml_model_load(f"{name}.yaml"))
        assert [graph.level(i) for i in range(len(want))] == want


PLACES = [
    ({"section": "backbone"}, [*range(10)]),
    ({"section": "neck"}, [*range(10, 22)]),
    ({"module": "Concat"}, [11, 14, 17, 20]),
    ({"module": ["SPPF", "nn.Upsample"]}, [9, 10, 13]),
    ({"is": "downsampler"}, [0, 1, 3, 5, 7, 16, 19]),
    ({"is": "stage"}, [2, 4, 6, 8, 12, 15, 18, 21]),
    ({"is": "stage", "level": "P4"}, [6, 12, 18]),
    ({"is": "stage", "level": ["P2", "P5"]}, [2, 8, 21]),
    ({"is": "stage-end", "section": "backbone"}, [0, 2, 4, 6, 9]),
    ({"is": "stage-end", "section": "neck"}, [12, 15, 18, 21]),
    ({"is": "head-feeder"}, [15, 18, 21]),
    ({"is": "head-feeder", "level": "P4+"}, [18, 21]),
    ({"is": ["head-feeder", "stage"], "level": "coarsest"}, [21]),
    ({"rows": [4, 2]}, [2, 4]),
    ([{"rows": 4}, {"is": "head-feeder"}], [4, 15, 18, 21]),
]


@pytest.mark.parametrize(("at", "want"), PLACES, ids=str)
def test_selectors(at, want):
    config = {"steps": [{"insert": "SE", "at": at}]}
    result = graft(yaml.safe_load(PINNED.read_text()), config)
    assert [o.row for o in result.origins if o.relation == "after"] == want


def test_plain_convolutions_are_found():
    result = graft("yolov6.yaml", "sk")
    swapped = [(o.row, row) for o, row in zip(result.origins, result.rows, strict=True)]
    assert [i for i, row in swapped if row[2] == "SKConv"] == [
        4,
        6,
        8,
        *(13, 14, 18, 19),
        *(22, 23, 26, 27),
    ]
    assert result.rows[4] == [-1, 12, "SKConv", [256]]


@pytest.mark.parametrize(
    ("row", "want"),
    [
        (["Conv", [32, 3, 2]], ["SPDConv", [32]]),
        (["Conv", [32, 6, 2, 2]], ["SPDConv", [32]]),
        (["Conv", [32, 1, 2]], ["SPDConv", [32, {"k": 1}]]),
        (["Conv", [32, 7, 2]], ["SPDConv", [32, {"k": 5}]]),
        (["Conv", [32, 3, 2, "None", 1, 1, False]], ["SPDConv", [32, {"act": False}]]),
        (["DWConv", [32, 3, 2, 1, False]], ["SPDConv", [32, {"act": False}]]),
        (["ADown", [32]], ["SPDConv", [32]]),
        (["nn.MaxPool2d", [2, 2, 0]], ["SPDConv", [16]]),
    ],
)
def test_a_replacement_takes_over_width_view_and_activation(row, want):
    config = {
        "scales": {"n": [1.0, 0.5, 1024]},
        "backbone": [[-1, 1, "Conv", [16, 3, 1]], [-1, 1, *row]],
        "head": [[-1, 1, "Classify", ["nc"]]],
    }
    assert rows(yolograft.patch(config, "spd"))[1] == [-1, 1, *want]
    view = {"Conv": [32, 7, 2] if row[1][1:2] == [7] else [32, 3, 2]}.get(row[0], [row[1][0], 3, 2])
    if row[0] in ("Conv", "ADown") and row[1][-1] is not False and row[1][1:2] not in ([6], [1]):
        deformed = {"steps": [{"replace": "DCN", "at": {"is": "downsampler"}}]}
        assert rows(yolograft.patch(config, deformed))[1] == [-1, 1, "DCN", view]


# -------------------------------------------------------------------------- what a config remembers


def test_unknown_keys_and_the_base_are_left_alone():
    base = {**yaml.safe_load(PINNED.read_text()), "mine": {"a": [1, None]}, "end2end": True}
    before = yaml.safe_dump(base)
    config = yolograft.patch(base, "ca")
    assert config["mine"] == {"a": [1, None]}
    assert config["end2end"] is True
    assert yaml.safe_dump(base) == before


def test_origins_name_the_first_base_through_several_grafts():
    once = graft("yolov8n.yaml", "ca")
    assert once.config["graft"]["base"] == "yolov8.yaml"
    assert once.config["graft"]["rows"][4:8] == [4, "after 4", 5, 6]
    assert str(once.origins[5]) == "after 4"
    twice = graft(once.config, "sk,spd")
    assert twice.config["graft"]["recipe"] == ["ca", "sk", "spd"]
    assert twice.config["graft"]["rows"][4:8] == ["in 4", "after 4", "for 5", "in 6"]
    assert [str(o) for o in twice.origins[4:8]] == ["in 4", "5", "for 6", "in 7"]
    together = graft("yolov8n.yaml", "ca,sk,spd")
    assert twice.config["graft"] == together.config["graft"]
    assert rows(twice.config) == rows(together.config)


@pytest.mark.parametrize("base", ["yolov8s", "yolo26n-pose", "yolov9c", "yolov3-tiny", "rtdetr-l"])
def test_the_written_file_holds_the_config_and_reads_well(base):
    result = graft(f"{base}.yaml", "spd,stn")
    text = write.text(result)
    kept = {k: v for k, v in result.config.items() if k not in ("yaml_file", "scale")}
    assert yaml.safe_load(text) == kept
    assert max(map(len, text.splitlines())) <= 100
    for i, row in enumerate(result.rows):
        line = next(li for li in text.splitlines() if f"] # {i}" in li and li.startswith("  - ["))
        assert row[2] in line
    assert "STN" in next(line for line in text.splitlines() if "after" in line and "  - " in line)


# --------------------------------------------------------------------------------- what is refused

AT = {"level": "P3+"}


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({"insert": "CBAN", "at": AT}, ["unknown block 'CBAN'", "did you mean CBAM?"]),
        ({"insert": "Conv", "at": AT}, ["unknown block 'Conv'"]),
        ({"insert": "SPD", "at": AT}, ["insert SPD: SPDConv is a down block"]),
        ({"swap": "SPD", "at": AT}, ["swap SPD: SPDConv is a down block"]),
        ({"insert": "SE"}, ["it does not say where"]),
        ({"insert": "SE", "at": []}, ["`at` is empty"]),
        ({"insert": "SE", "at": "P3"}, ["'P3' is no selector"]),
        ({"insert": "SE", "at": {}}, ["{} is no selector"]),
        ({"insert": "SE", "swap": "SK", "at": AT}, ["it says insert and swap"]),
        ({"insrt": "SE", "at": AT}, ["it does nothing", "did you mean insert?"]),
        ({"insert": "SE", "at": AT, "rewire": "some"}, ["rewire='some' is unknown"]),
        ({"insert": "SE", "at": AT, "arg": {}}, ["the key 'arg' is unknown", "mean args?"]),
        ({"replace": "SK", "at": AT, "rewire": "next"}, ["the key 'rewire' is unknown"]),
        ({"insert": "SE", "at": AT, "args": [8]}, ["args=[8] is no mapping"]),
        ({"insert": "SE", "at": AT, "args": {"redction": 8}}, ["did you mean reduction?"]),
        ({"insert": "SE", "at": {"level": "p3"}}, ["level='p3' is unknown"]),
        ({"insert": "SE", "at": {"level": ["P3+"]}}, ["level='P3+' is unknown"]),
        ({"insert": "SE", "at": {"level": "P6"}}, ["has no P6", "levels are P1, P2, P3, P4, P5"]),
        ({"insert": "SE", "at": {"level": "P6+"}}, ["has no P6"]),
        ({"insert": "SE", "at": {"section": "head"}}, ["section='head' is unknown"]),
        ({"insert": "SE", "at": {"is": "stag"}}, ["is='stag' is unknown", "did you mean stage?"]),
        ({"insert": "SE", "at": {"module": "C3k2"}}, ["has no C3k2 there", "it has Conv, C2f"]),
        ({"insert": "SE", "at": {"rows": 22}}, ["row 22 is the head"]),
        ({"insert": "SE", "at": {"rows": 40}}, ["row 40 does not exist", "use 0 to 21"]),
        ({"insert": "SE", "at": {"rows": -1}}, ["rows=-1 is no row number"]),
        ({"insert": "SE", "at": {"is": "conv3x3"}}, ["has no conv3x3 there"]),
        ({"swap": "SK", "at": {"rows": 9}}, ["nothing can be swapped inside", "row 9 (SPPF)"]),
        ({"replace": "SPD", "at": {"rows": 2}}, ["halves the map", "row 2 (C2f) does not"]),
        ({"replace": "ASPP", "at": {"rows": 3}}, ["keeps the size", "row 3 (Conv) halves it"]),
        ({"replace": "SE", "at": {"rows": 12}}, ["SE returns", "row 12 (C2f) returns"]),
        ({"replace": "SK", "at": {"rows": 11}}, ["row 11 (Concat) reads 2 rows, SKConv one"]),
        ({"remove": "SPPF", "at": AT}, ["remove='SPPF'", "write `remove: true`"]),
        ({"use": "skk"}, ["unknown recipe 'skk'", "did you mean sk?"]),
        ("insert", ["'insert' is no step"]),
    ],
)  # fmt: skip
def test_bad_steps_are_refused_in_one_message(step, says):
    with pytest.raises(ConfigError) as error:
        yolograft.patch(yaml.safe_load(PINNED.read_text()), {"steps": [step]})
    for part in says:
        assert part in str(error.value)


def test_else_is_for_what_is_not_found_and_for_nothing_else():
    step = {"swap": "SK", "at": {"module": "C9"}, "else": {"insert": "SE", "at": {"rows": 4}}}
    base = yaml.safe_load(PINNED.read_text())
    assert rows(yolograft.patch(base, {"steps": [step]}))[5][2] == "SE"
    step["at"] = {"rows": 9}
    with pytest.raises(ConfigError, match="nothing can be swapped inside"):
        yolograft.patch(base, {"steps": [step]})
    step |= {"at": {"module": "C9"}, "else": {"insert": "SE", "at": {"module": "C8"}}}
    with pytest.raises(ConfigError, match=r"(?s)no C9 there.*no C8 there"):
        yolograft.patch(base, {"steps": [step]})


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("sk,dcn", ["row 4 (C2f) is changed by recipe sk, step 1 already"]),
        ("sk,sk", ["recipe 'sk' is given twice"]),
        ("", ["unknown recipe ''"]),
        ("nowhere.yaml", ["unknown recipe 'nowhere.yaml'"]),
        ({"about": "x"}, ["recipe: this is no recipe"]),
        ({"steps": []}, ["it has no step"]),
        ({"steps": [{"use": "sk"}], "warm": 1}, ["warm=1 is unknown"]),
        ([], ["no recipe is given"]),
    ],
)
def test_bad_recipes_are_refused(recipe, says):
    with pytest.raises(ConfigError) as error:
        yolograft.patch("yolov8n.yaml", recipe)
    for part in says:
        assert part in str(error.value)


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_already_there_is_not_grafted_again(name):
    with pytest.raises(ConfigError, match="already"):
        yolograft.patch(f"yolov8n-{name}.yaml", name)


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("yolov88n.yaml", ["no such model YAML", "did you mean yolov8.yaml?"]),
        ("best.pt", ["best.pt: there is no such file"]),
        ("coco8.yaml", ["coco8.yaml: the key 'backbone' is missing"]),
        ("broken.yaml", ["broken.yaml: this is no model YAML"]),
        ({"backbone": [], "head": []}, ["0 rows are no model"]),
        ({"backbone": [[-1, 1, "Conv"]], "head": [[-1, 1, "Conv", [8]]]}, ["row 0", "is no row"]),
        (
            {"backbone": [[-1, 1, "Conv", [8]]], "head": [[5, 1, "Conv", [8]]]},
            ["row 1 (head): from=5 does not exist", "use -1, or a row from 0 to 0"],
        ),
        (
            {"backbone": [[-1, 1, "Cnv", [8]]], "head": [[-1, 1, "Classify", ["nc"]]]},
            ["unknown block 'Cnv'", "did you mean Conv?"],
        ),
        (
            {"backbone": [[-1, 1, "Conv", ["x"]]], "head": [[-1, 1, "Classify", ["nc"]]]},
            ["the config: it cannot be built"],
        ),
    ],
)
def test_bad_bases_are_refused(base, says, here):
    (here / "broken.yaml").write_text("nc: [1, 2\nbackbone: {\n")
    with pytest.raises(ConfigError) as error:
        yolograft.patch(base, "cbam")
    for part in says:
        assert part in str(error.value)


def test_recipes_of_ones_own(here):
    (here / "recipes").mkdir()
    mine = {"about": "mine", "steps": [{"insert": "SE", "at": {"rows": 4}}]}
    (here / "recipes" / "sk.yaml").write_text(yaml.safe_dump(mine))
    assert recipes.load("sk").about == "mine"  # it wins over the pack's
    (here / "recipes" / "loop.yaml").write_text("steps: [{use: pool}]")
    (here / "recipes" / "pool.yaml").write_text("steps: [{use: loop}]")
    with pytest.raises(ConfigError, match="recipe pool: it uses 'loop', which leads back"):
        recipes.load("loop")
    shutil.copy(here / "recipes" / "sk.yaml", here / "x.yaml")
    assert len(rows(yolograft.patch("yolov8n.yaml", "x.yaml"))) == 24
    assert {"sk", "loop", "cbam"} <= set(recipes.names())


# --------------------------------------------------------------------------------------- by command


def test_patch_writes_a_config_that_needs_no_recipe(here, capsys):
    args = ["patch", "yolo11n.yaml", "--recipe", "sk,cbam"]
    assert cli.main([*args, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert not list(here.iterdir())
    assert cli.main(args) == 0
    assert capsys.readouterr().out == printed + "\nwrote yolo11-sk+cbam.yaml\n"
    written = yaml_model_load("yolo11n-sk+cbam.yaml")
    assert rows(written) == rows(yolograft.patch("yolo11n.yaml", "sk,cbam"))
    assert written["scale"] == "n"

    lines = [line.split() for line in printed.splitlines()]
    assert printed.startswith("yolo11n.yaml + sk + cbam (scale n, 640 pixels)\n")
    assert [line[1] for line in lines if line[0] == "+"] == ["5", "8", "13", "20", "24", "28"]
    assert len([line for line in lines if line[0] == "~"]) == 7
    model = tasks.DetectionModel(written, verbose=False)
    base = tasks.DetectionModel("yolo11n.yaml", verbose=False)
    total = printed.splitlines()[-1].split()
    want = [yolograft.count(m, 640) for m in (base, model)]
    assert total[1:4] == [f"{want[0].params:,}", "->", f"{want[1].params:,}"]
    assert total[4:] == [f"{want[0].gflops:.2f}", "->", f"{want[1].gflops:.2f}"]
    inserted = next(line for line in lines if line[:2] == ["+", "5"])
    assert inserted[2:5] == ["CBAM", "[]", f"{model.model[5].np:,}"]
    assert inserted[-1] == "128x80x80"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["yolov8n.yaml", "--recipe", "cbma"], "unknown recipe 'cbma'"),
        (["nothing.yaml", "--recipe", "sk"], "nothing.yaml: no such model YAML"),
        (["yolov8n.yaml", "--recipe", "sk", "-o", "there.yaml"], "there.yaml: it exists"),
        (["yolov8n.yaml", "--recipe", "sk", "-o", "a/b.yaml"], "there is no folder a"),
        (["yolov8n.yaml", "--recipe", "sk", "-o", "b.pt"], "ends in .yaml"),
        (["there.yaml", "--recipe", "sk"], "the key 'backbone' is missing"),
    ],
)
def test_bad_commands_write_nothing_and_exit_with_2(args, says, here, capsys):
    (here / "there.yaml").write_text("mine: 1\n")
    assert cli.main(["patch", *args]) == 2
    assert says in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["there.yaml"]
    assert (here / "there.yaml").read_text() == "mine: 1\n"


def test_force_writes_over(here):
    (here / "there.yaml").write_text("mine: 1\n")
    assert cli.main(["patch", "yolov8n.yaml", "--recipe", "se", "-o", "there.yaml", "--force"]) == 0
    assert "C2f_SE" in (here / "there.yaml").read_text()


# ------------------------------------------------------------------------------------------ by name


@pytest.fixture
def logged(monkeypatch):
    from yolograft.host import configs

    lines = []
    monkeypatch.setattr(configs, "_told", set())
    monkeypatch.setattr(LOGGER, "info", lines.append)
    return lines


@pytest.mark.parametrize(
    ("name", "base", "recipe", "scale"),
    [
        ("yolo11s-cbam", "yolo11s", "cbam", "s"),
        ("yolo26n-seg-sk", "yolo26n-seg", "sk", "n"),
        ("yolov8m-p2-spd+ca", "yolov8m-p2", "spd,ca", "m"),
        ("yolov8x-sk-cbam", "yolov8x-sk", "cbam", "x"),
        ("rtdetr-l-spd", "rtdetr-l", "spd", ""),
        ("yolov9c-seg-gc", "yolov9c-seg", "gc", ""),
        ("yolo11-cbam", "yolo11", "cbam", ""),
    ],
)
def test_a_name_is_a_base_and_a_recipe(name, base, recipe, scale, logged, here):
    config = yaml_model_load(f"{name}.yaml")
    assert config["scale"] == scale
    assert config["yaml_file"] == f"{name}.yaml"
    assert rows(config) == rows(yolograft.patch(f"{base}.yaml", recipe))
    yaml_model_load(f"{name}.yaml")
    assert len(logged) == 1  # once, however often it is loaded
    assert f"yolograft: {name}.yaml is {base}.yaml + {recipe.replace(',', '+')} (" in logged[0]
    assert str(CFG / "recipes") in logged[0]


def test_a_real_file_always_wins(here):
    tiny = "nc: 7\nbackbone: [[-1, 1, Conv, [8]]]\nhead: [[-1, 1, Classify, [nc]]]\n"
    (here / "yolo11-cbam.yaml").write_text(tiny)
    assert yaml_model_load("yolo11s-cbam.yaml")["nc"] == 7
    assert len(rows(yaml_model_load("yolo26s-cbam.yaml"))) > 20


def test_only_the_name_is_taken_apart(here):
    folder = here / "yolov8n-sk"
    folder.mkdir()
    with pytest.raises(FileNotFoundError):
        yaml_model_load(str(folder / "nothing.yaml"))
    with pytest.raises(FileNotFoundError, match=r"there is no yolov8n\.yaml"):
        yaml_model_load("yolov8n-sk/yolov8n-cbam.yaml")  # a base in a folder has to be there
    shutil.copy(PINNED, folder / "yolov8-mine.yaml")
    config = yaml_model_load("yolov8n-sk/yolov8s-mine-cbam.yaml")
    assert (config["scale"], len(rows(config))) == ("s", 29)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("yolo11s-cbma", ["'cbma' is no recipe", "did you mean cbam?"]),
        ("yolov8m-p2-spd+cz", ["'cz' is no recipe"]),
        ("yolo111s-cbam", ["there is no yolo111s.yaml to graft cbam into", "did you mean yolo11?"]),
    ],
)
def test_typing_errors_get_suggestions(name, says, here):
    with pytest.raises(FileNotFoundError) as error:
        yaml_model_load(f"{name}.yaml")
    assert isinstance(error.value, ConfigError)
    for part in says:
        assert part in str(error.value)


def test_what_looks_like_no_graft_keeps_the_stock_error(here):
    with pytest.raises(FileNotFoundError) as error:
        yaml_model_load("some-thing.yaml")
    assert not isinstance(error.value, ConfigError)


def test_a_recipe_may_be_gone_once_a_model_is_trained(here, shapes, yolo):
    (here / "recipes").mkdir()
    recipe = here / "recipes" / "mine.yaml"
    recipe.write_text("steps: [{insert: SE, at: {is: head-feeder}}]\n")
    small = ["imgsz=64", "batch=16", "fraction=0.1", "workers=0", "plots=False", "device=cpu"]
    place = [f"project={here / 'runs'}", "name=first"]
    train = ["model=yolo11n-mine.yaml", f"data={shapes}", "epochs=2", "save_period=1"]
    out = yolo("detect", "train", *train, *small, *place, cwd=here)
    assert "yolograft: yolo11n-mine.yaml is yolo11n.yaml + mine (recipes/mine.yaml)" in out
    recipe.unlink()
    weights = here / "runs" / "first" / "weights"
    config = torch.load(weights / "best.pt", weights_only=False)["model"].yaml
    assert [row[2] for row in rows(config)].count("SE") == 3
    assert config["graft"]["recipe"] == ["mine"]
    out = yolo("train", "resume", f"model={weights / 'epoch0.pt'}", cwd=here)
    assert "Resuming training" in out
    assert registry.find("SE").load().__module__ in out  # the table shows the grafted rows
