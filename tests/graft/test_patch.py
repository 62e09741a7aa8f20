"""Recipes on the pack's and the host's configs, by Python, by command and by name."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from ultralytics.engine.model import yaml_model_load
from ultralytics.nn import tasks
from ultralytics.utils import LOGGER, ROOT

import yolograft
from yolograft import ConfigError, cli, registry
from yolograft.files import CFG
from yolograft.graft import edits, file, graft, preview, recipes
from yolograft.graft.graph import Graph
from yolograft.graft.splice import splice

PINNED = Path(__file__).parents[1] / "yolov8-pinned.yaml"
RECIPES = sorted(path.stem for path in (CFG / "recipes").glob("*.yaml"))
#: A new backbone, which no recipe makes.
OWN = {"hrnet"}
STOCK = sorted((ROOT / "cfg" / "models").rglob("*.yaml"))


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
    shipped["graft"]["base"] = ""  # a mapping has no name
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
                edits.plan(graph, steps)
            continue
        made = edits.plan(graph, steps)
        new, origins = splice(graph, made)
        assert len(new) == len(graph.rows) + sum(map(len, made.follow.values())) > 0
        assert made.follow or made.become
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


@pytest.mark.parametrize(("written", "made"), [("ca", ["ca", "sk"]), (None, ["sk"])])
def test_the_names_in_a_record_may_be_edited(written, made):
    config = yolograft.patch("yolov8n.yaml", "ca")
    config["graft"]["recipe"] = written
    assert yolograft.patch(config, "sk")["graft"]["recipe"] == made


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
    text = file.text(result)
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
        ({"insert": "SPD", "at": AT}, ["insert SPD: SPDConv has the role down"]),
        ({"swap": "SPD", "at": AT}, ["swap SPD: SPDConv has the role down"]),
        ({"insert": "SE"}, ["it does not say where"]),
        ({"insert": "SE", "at": []}, ["`at` is empty"]),
        ({"insert": "SE", "at": "P3"}, ["'P3' is not a selector"]),
        ({"insert": "SE", "at": {}}, ["{} is not a selector"]),
        ({"insert": "SE", "swap": "SK", "at": AT}, ["it says insert and swap"]),
        ({"insrt": "SE", "at": AT}, ["it does nothing", "did you mean insert?"]),
        ({"insert": "SE", "at": AT, "rewire": "some"}, ["rewire='some' is unknown"]),
        ({"insert": "SE", "at": AT, "arg": {}}, ["the key 'arg' is unknown", "mean args?"]),
        ({"replace": "SK", "at": AT, "rewire": "next"}, ["the key 'rewire' is unknown"]),
        ({"insert": "SE", "at": AT, "args": [8]}, ["args=[8] is not a mapping"]),
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
        ({"insert": "SE", "at": {"rows": -1}}, ["rows=-1 is not a row number"]),
        ({"insert": "SE", "at": {"is": "conv3x3"}}, ["has no conv3x3 there"]),
        ({"swap": "SK", "at": {"rows": 9}}, ["nothing can be swapped inside", "row 9 (SPPF)"]),
        ({"replace": "SPD", "at": {"rows": 2}}, ["halves the map", "row 2 (C2f) does not"]),
        ({"replace": "ASPP", "at": {"rows": 3}}, ["keeps the size", "row 3 (Conv) halves it"]),
        ({"replace": "SE", "at": {"rows": 12}}, ["SE returns", "row 12 (C2f) returns"]),
        ({"replace": "SK", "at": {"rows": 11}}, ["row 11 (Concat) reads 2 rows, SKConv one"]),
        ({"remove": "SPPF", "at": AT}, ["remove='SPPF'", "write `remove: true`"]),
        ({"use": "skk"}, ["unknown recipe 'skk'", "did you mean sk?"]),
        ("insert", ["'insert' is not a step"]),
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
        ({"about": "x"}, ["recipe: this is not a recipe"]),
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
        ("broken.yaml", ["broken.yaml: this is not a model YAML"]),
        ({"backbone": [], "head": []}, ["0 rows are not a model"]),
        (
            {"backbone": [[-1, 1, "Conv"]], "head": [[-1, 1, "Conv", [8]]]},
            ["row 0", "not a row"],
        ),
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


def test_a_recipe_of_ones_own_extends_the_packs(here):
    """``builtin:`` names the pack's; what the pack's own recipes use is always the pack's."""
    folder = here / "recipes"
    folder.mkdir()
    plain = {name: recipes.load(name).steps for name in RECIPES}
    more = {"insert": "SE", "at": {"rows": 2}}
    for name in RECIPES:
        steps = [{"use": f"builtin:{name}"}, more] if name in ("cbam", "combo") else [more]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"steps": steps}))
    for name in RECIPES:
        own, packs = recipes.load(name), recipes.load(f"builtin:{name}")
        assert packs.steps == plain[name]
        extends = name in ("cbam", "combo")
        assert [s.label for s in own.steps] == [s.label for s in plain[name] if extends] + ["SE"]
        assert own.file == f"recipes/{name}.yaml"
    config = yaml_model_load("yolo11n-cbam.yaml")
    assert [row[2] for row in rows(config)].count("SE") == 1
    assert [row[2] for row in rows(config)].count("CBAM") == 6
    config = yaml_model_load("yolo11n-builtin:cbam.yaml")
    assert [row[2] for row in rows(config)].count("SE") == 0
    with pytest.raises(ConfigError, match="'cbam' is given twice"):
        recipes.load_all("cbam,builtin:cbam")
    # a combination of one's own takes one's own, and the pack's under another name is not touched
    (folder / "mine.yaml").write_text("steps: [{use: spd}, {use: builtin:ca}]")
    mine = recipes.load("mine").steps
    assert [s.label for s in mine] == ["SE", *(s.label for s in plain["ca"])]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"cbam": "use: cbam"}, "(cbam -> cbam)\n\nHint: the pack's own is `use: builtin:cbam`"),
        ({"x": "use: y", "y": "use: z", "z": "use: x"}, "(x -> y -> z -> x)\n\nHint: remove one"),
        ({"x": "use: y", "y": "use: y"}, "(y -> y)"),
        ({"x": "use: recipes/x.yaml"}, "(x -> x)"),
        ({"x": "insert: SE, at: {level: P9}, else: {use: x}"}, "(x -> x)"),
        ({"x": "use: builtin:y"}, "recipe x, step 1: unknown recipe 'builtin:y'"),
        ({"x": "use: [sk, ca]"}, "recipe x, step 1: use=['sk', 'ca'] is not a recipe"),
        ({"x": "use:"}, "recipe x, step 1: use=None is not a recipe"),
    ],
)
def test_recipes_that_lead_nowhere(files, says, here):
    (here / "recipes").mkdir()
    for name, step in files.items():
        (here / "recipes" / f"{name}.yaml").write_text(f"steps: [{{{step}}}]")
    with pytest.raises(ConfigError) as error:
        recipes.load(next(iter(files)))
    assert says in str(error.value)


def test_a_recipe_that_contains_itself(here):
    Path("x.yaml").write_text("steps: [&s {insert: SE, at: {level: P3}, else: *s}]")
    with pytest.raises(ConfigError, match="a part of it contains itself"):
        recipes.load("x.yaml")


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
    params, gflops = (line.split() for line in printed.splitlines()[-2:])
    want = [yolograft.count(m, 640) for m in (base, model)]
    assert params[:4] == ["total:", f"{want[0].params:,}", "->", f"{want[1].params:,}"]
    assert gflops[:4] == [f"{want[0].gflops:.2f}", "->", f"{want[1].gflops:.2f}", "GFLOPs"]
    assert params[5] == f"({100 * (want[1].params / want[0].params - 1):+.1f}"
    inserted = next(line for line in lines if line[:2] == ["+", "5"])
    assert inserted[2:5] == ["CBAM", "[]", f"+{model.model[5].np:,}"]
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


TINY = """\
nc: 4
scales: {n: [1.0, 0.5, 1024], s: [1.0, 1.0, 1024], m: [1.0, 1.5, 1024], x: [1.0, 2.0, 1024]}
backbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 2]]]
head: [[-1, 1, Classify, [4]]]
"""


def scale_and_width(file):
    """What the host builds from a file: the scale, and the channels of its first layer."""
    model = tasks.ClassificationModel(file, verbose=False)
    return model.yaml["scale"], model.model[0].conv.out_channels


@pytest.mark.parametrize(
    ("name", "builds", "width"),
    [
        ("mine.yaml", "x", 32),
        ("mine.yml", "x", 32),
        ("v8s/n.yaml", "x", 32),
        ("YOLOv8n.yaml", "x", 32),
        ("yolov8x-mine.yaml", "x", 32),
        ("my-yolo11x.yaml", "x", 32),
        ("yolov8s-mine.yaml", "s", 16),
        ("yolov8-mine.yaml", "n", 8),
        ("yolo11.yaml", "n", 8),
        ("yolo11mine.yaml", "m", 24),
        (None, "n", 8),  # yolov8-t-own.yaml
    ],
)
def test_the_written_file_is_built_at_the_scale_that_was_asked_for(
    name, builds, width, here, capsys
):
    for folder in ("v8s", "recipes"):
        (here / folder).mkdir()
    (here / "yolov8-t.yaml").write_text(TINY)
    (here / "recipes" / "own.yaml").write_text("steps: [{insert: SE, at: {rows: 1}}]")
    where = ["-o", name] if name else []
    assert cli.main(["patch", "yolov8x-t.yaml", "--recipe", "own", *where]) == 0
    out, name = capsys.readouterr().out, name or "yolov8-t-own.yaml"
    scale, got = scale_and_width(name)
    assert (scale or builds, got) == (builds, width)
    note = f"The name decides the scale: {Path(name).name} is built at scale {builds}, not x."
    assert (note in out) == (builds != "x")
    if builds != "x":
        remedy = out.rpartition("For x, ")[2].strip()
        named = remedy.removeprefix("give model=").removeprefix("write it with -o ")
        if "-o" in remedy:
            assert cli.main(["patch", "yolov8x-t.yaml", "--recipe", "own", "-o", named]) == 0
        assert scale_and_width(named) == ("x", 32)


def test_a_stock_model_keeps_its_scale_under_another_name(here):
    assert cli.main(["patch", "yolov8s.yaml", "--recipe", "se", "-o", "mine.yaml"]) == 0
    model = tasks.DetectionModel("mine.yaml", verbose=False)
    assert model.model[0].conv.out_channels == 32
    assert sum(type(m).__name__ == "SE" for m in model.modules()) > 3


def test_names_that_ask_for_what_is_not_there_are_refused(here, capsys):
    for base, name, says in (
        ("yolov10x.yaml", "yolov10n-mine.yaml", "the name asks for scale n, and yolov10x.yaml has"),
        ("yolov8x.yaml", "yolov8x6.yaml", "Ultralytics reads this name as yolov8x-p6.yaml"),
    ):
        assert cli.main(["patch", base, "--recipe", "se", "-o", name]) == 2
        assert says in capsys.readouterr().err
        assert not list(here.iterdir())
    (here / "yolov8-one.yaml").write_text("scales: {x: [1, 1, 512]}\nbackbone: []\nhead: []\n")
    with pytest.raises(ConfigError, match="the name asks for scale n, and the file has x"):
        yaml_model_load("yolov8n-one.yaml")


# ------------------------------------------------------------------------------------------ by name


@pytest.fixture
def logged(monkeypatch):
    from yolograft.config import read

    lines = []
    monkeypatch.setattr(read, "_said", set())
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
    shutil.copy(PINNED, folder / "yolov8-mine.yaml")
    config = yaml_model_load("yolov8n-sk/yolov8s-mine-cbam.yaml")
    assert (config["scale"], len(rows(config))) == ("s", 29)


@pytest.mark.parametrize("folder", ["./", "sub/", "run1x/v8s/", "absolute", "gone/", "sub/../"])
def test_a_folder_in_front_is_looked_into_first(folder, here, logged):
    (here / "run1x" / "v8s").mkdir(parents=True)
    (here / "sub").mkdir()
    folder = f"{here}/run1x/" if folder == "absolute" else folder
    for name, base, recipe, scale in (
        ("yolo11n-sk", "yolo11n", "sk", "n"),
        ("yolov8m-p2-spd+ca", "yolov8m-p2", "spd,ca", "m"),
        ("yolov8x-cbam", "yolov8x", "cbam", "x"),  # a config of the pack
        ("yolov8-sk-cbam", "yolov8-sk", "cbam", ""),
    ):
        config = yaml_model_load(f"{folder}{name}.yaml")
        assert (config["scale"], config["yaml_file"]) == (scale, f"{folder}{name}.yaml")
        assert rows(config) == rows(yolograft.patch(f"{base}.yaml", recipe))
    if folder != "./":
        assert any(f"{folder}yolov8x-cbam.yaml is the pack's" in line for line in logged)
    if folder in ("sub/", "run1x/v8s/"):  # what lies there wins
        shutil.copy(PINNED, here / folder / "yolo11.yaml")
        config = yaml_model_load(f"{folder}yolo11n-cbam.yaml")
        assert len(rows(config)) == len(yaml.safe_load(PINNED.read_text())["backbone"]) + 19


NAMES = ["my recipe", "My.v2-x", "deep-sk", "grüße", "2", "-", "a=b", "über_cool", "a" * 60]
ODD = ["a,b", "sk+z", ".hidden", " x", "x ", "builtin:z", "x.yaml"]


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_a_recipe_is_listed_if_and_only_if_its_name_finds_it(suffix, here):
    (here / "recipes" / "folder.yaml").mkdir(parents=True)
    text = "steps: [{insert: SE, at: {rows: 4}}]"
    for name in (*NAMES, *ODD):
        (here / "recipes" / f"{name}{suffix}").write_text(text)
    assert {*recipes.names()} == {*RECIPES, *NAMES}
    for name in NAMES:
        assert recipes.load(name).name == name
        assert [r.name for r in recipes.load_all(f"{name}, ca")] == [name, "ca"]
        config = yaml_model_load(f"yolo11n-{name}.yaml")
        assert [row[2] for row in rows(config)].count("SE") == 1
    config = yaml_model_load("yolo11n-my recipe+ca+deep-sk.yaml")
    assert [row[2] for row in rows(config)].count("SE") == 1
    for name in (*ODD, "folder"):
        assert recipes.find(name) is None
        if name != "folder":
            assert len(recipes.load(f"recipes/{name}{suffix}").steps) == 1  # by its path
    composed, taken_apart = "gr\u00fc\u00dfe", "gru\u0308\u00dfe"  # macOS stores the second
    assert composed in NAMES
    assert recipes.find(taken_apart) == recipes.find(composed)


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("yolo11n-sk-cbam", "yolo11n-sk+cbam.yaml"),
        ("sub/yolo11n-seg-sk-ca-cbam", "yolo11n-seg-sk+ca+cbam.yaml"),
        ("yolo11n-sk+ca-cbam", "yolo11n-sk+ca+cbam.yaml"),
        ("yolov8n-sk-ca-cbam", "yolov8n-sk-ca+cbam.yaml"),  # yolov8-sk.yaml is a file of the pack
        ("sub\\yolo11n-sk", "write / between folders: sub/yolo11n-sk.yaml"),
    ],
)
def test_a_name_that_nearly_is_one_gets_the_right_one(name, better, here):
    with pytest.raises(ConfigError) as error:
        yaml_model_load(f"{name}.yaml")
    hint = str(error.value).partition("\n\nHint: ")[2]
    assert hint.endswith(better)
    if "+" in better:
        assert rows(yaml_model_load(better))


def test_a_folder_is_no_model(here):
    (here / "yolov8n-sk.yaml").mkdir()
    (here / "yolo11n.yaml").mkdir()
    assert "C2f_SK" in [row[2] for row in rows(yaml_model_load("yolov8n-sk.yaml"))]  # the pack's
    for name in ("yolo11n-sk.yaml", "./yolo11n.yaml"):
        with pytest.raises(ConfigError, match="this is a folder"):
            yaml_model_load(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("yolo11s-cbma", ["'cbma' is not a recipe", "did you mean cbam?"]),
        ("yolov8m-p2-spd+cz", ["'cz' is not a recipe"]),
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


class OnlyReal(nn.Module):
    """Somebody's block that cannot run without memory."""

    def __init__(self, c):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c))

    def forward(self, x):
        if x.is_meta:
            msg = "this block needs real memory"
            raise RuntimeError(msg)
        return x * self.weight[:, None, None]


@pytest.mark.parametrize("block", ["STN", "OnlyReal"])
def test_the_preview_counts_blocks_that_need_real_memory(block, own_blocks):
    yolograft.register(OnlyReal)
    result = graft("yolov8n.yaml", {"steps": [{"insert": block, "at": {"rows": [9]}}]})
    line = next(line for line in preview.text(result).splitlines() if line.startswith("+"))
    assert line.split()[1:3] == ["10", block]
    assert line.split()[-1] == "256x20x20"
