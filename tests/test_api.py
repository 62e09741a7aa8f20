"""The public functions, on models that are not the pack's, and what type checkers see of them."""

import ast
import inspect
import re
import subprocess
import sys
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from ultralytics import RTDETR, YOLO, YOLOWorld
from ultralytics.data.augment import classify_transforms
from ultralytics.nn import tasks

import yolograft
from yolograft import ConfigError, graft_config, graft_model
from yolograft.blocks.blend import Blend
from yolograft.graft import recipes
from yolograft.warm.trace import flat

PACKAGE = Path(yolograft.__file__).parent
STUB = ast.parse((PACKAGE / "__init__.pyi").read_text())
SMALL = {"imgsz": 64, "batch": 16, "workers": 0, "plots": False, "device": "cpu", "verbose": False}
TINY = {
    "nc": 5,
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "C2f", [16, True]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "C2f", [32, True]],
    ],
    "head": [[-1, 1, "SPPF", [32, 5]], [[4, 5], 1, "Detect", ["nc"]]],
}
#: A row more, and a block inside a stage.
RECIPE = {"steps": [{"insert": "CBAM", "at": {"rows": 2}}, {"swap": "SKConv", "at": {"rows": 4}}]}

pytestmark = pytest.mark.usefixtures("here")


def outputs(model, size=64):
    """Return what a model predicts, in float64."""
    x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        return flat(deepcopy(model).double().eval()(x))


def difference(one, other, size=64):
    pairs = list(zip(outputs(one, size), outputs(other, size), strict=True))
    assert pairs
    return max(float((a - b).abs().max()) for a, b in pairs)


def shaken(model):
    """Return a model with statistics as after a training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def gates(model):
    return [module for module in model.modules() if isinstance(module, Blend)]


def trained(model, classes):
    """Return the model that ``train()`` hands to its trainer, before the first step."""
    trainer = object.__new__(model.task_map["detect"]["trainer"])
    names = {i: f"thing {i}" for i in range(classes)}
    trainer.data = {"nc": classes, "channels": 3, "names": names}
    trainer.args = SimpleNamespace(resume=False, single_cls=False)
    trainer.callbacks = {"on_pretrain_routine_end": []}
    return trainer.get_model(cfg=model.model.yaml, weights=model.model, verbose=False)


@pytest.fixture(scope="module")
def stock(shapes, yolo, tmp_path_factory):
    """A checkpoint of one epoch by the stock command, with the pack switched off."""
    folder = tmp_path_factory.mktemp("stock")
    (folder / "yolov8n-tiny.yaml").write_text(yaml.safe_dump(TINY))
    small = [f"{k}={v}" for k, v in SMALL.items()]
    run = [f"project={folder / 'runs'}", "name=a", "epochs=1", "fraction=0.1"]
    command = ["detect", "train", "model=yolov8n-tiny.yaml", f"data={shapes}", *run, *small]
    yolo(*command, cwd=folder, env={"YOLOGRAFT_AUTOLOAD": "0"})
    return folder / "runs" / "a" / "weights" / "best.pt"


@pytest.fixture
def live(stock):
    return YOLO(stock)


# ------------------------------------------------------------------------------------ live models


@pytest.mark.parametrize("kind", ["path", "text", "live", "module"])
def test_an_exact_graft_predicts_as_the_base(kind, stock, live):
    given = {"path": stock, "text": str(stock), "live": live, "module": live.model}[kind]
    model = graft_model(given, RECIPE, warm="exact")
    assert type(model) is YOLO
    assert [type(layer).__name__ for layer in model.model.model].count("Blend") == 1
    assert len(gates(model.model)) == 2
    assert difference(model.model, live.model) == 0
    assert (
        model.names == live.names == {0: "circle", 1: "square", 2: "triangle", 3: "star", 4: "ring"}
    )
    assert model.task == "detect"
    kept = {k: v for k, v in model.overrides.items() if k != "model"}
    assert kept == {k: v for k, v in live.overrides.items() if k != "model"}
    assert model.overrides["model"] == str(stock.with_name("best-recipe.pt"))
    assert not model.model.training


def test_what_is_given_stays_as_it_is(live):
    live.add_callback("on_fit_epoch_end", print)
    state = {k: v.clone() for k, v in live.model.state_dict().items()}
    before = {k: v for k, v in vars(live).items() if k != "callbacks"}
    overrides, config, model = dict(live.overrides), deepcopy(live.model.yaml), live.model
    grafted = graft_model(live, RECIPE)
    grafted.add_callback("on_train_end", print)
    grafted.overrides["imgsz"] = 32
    for refused in ("gone", [RECIPE, RECIPE], {"steps": [{"insert": "SE", "at": {"rows": 99}}]}):
        with pytest.raises(ConfigError):
            graft_model(live, refused)
    assert live.model is model
    assert live.model.yaml == config
    assert live.overrides == overrides
    assert {k: v for k, v in vars(live).items() if k != "callbacks"} == before
    assert print not in live.callbacks["on_train_end"]
    assert print in grafted.callbacks["on_fit_epoch_end"]
    after = live.model.state_dict()
    assert state.keys() == after.keys()
    assert all(torch.equal(v, after[k]) for k, v in state.items())


def test_a_grafted_model_trains_and_is_what_was_trained(live, shapes):
    live.train(
        data=shapes, epochs=1, fraction=0.1, project=Path("runs").absolute(), name="base", **SMALL
    )
    learned = deepcopy(live.model)
    model = graft_model(live, RECIPE, warm="exact")
    assert difference(model.model, learned) == 0
    assert not Path(model.overrides["model"]).exists()  # there is no file to be reloaded
    first = {}

    def note(trainer):
        first.update(deepcopy(trainer.model.state_dict()))

    model.add_callback("on_pretrain_routine_end", note)
    start = model.model.state_dict()
    model.train(
        data=shapes,
        epochs=1,
        fraction=0.1,
        project=Path("runs").absolute(),
        name="grafted",
        **SMALL,
    )
    assert first.keys() == start.keys()
    assert all(torch.equal(v, start[k]) for k, v in first.items())
    assert all(bool((gate.gamma != 0).any()) for gate in gates(model.model))
    assert len(gates(model.model)) == 2
    assert model.names[4] == "ring"
    assert Path(model.model.pt_path).parts[-4:-2] == ("runs", "grafted")
    assert len(gates(YOLO(model.model.pt_path).model)) == 2


def test_a_grafted_model_validates_predicts_exports_and_saves(live, shapes):
    model = graft_model(live, RECIPE, warm="exact")
    want = deepcopy(model.model)
    model.save("own.pt")
    saved = YOLO("own.pt")
    assert difference(saved.model, deepcopy(want).half().float()) == 0
    assert saved.overrides["imgsz"] == 64
    options = {k: v for k, v in SMALL.items() if k != "verbose"}
    ours, theirs = (
        one.val(data=shapes, **options, project=Path("runs").absolute()) for one in (model, live)
    )
    assert ours.results_dict == theirs.results_dict
    image = torch.rand(1, 3, 64, 64)
    found, wanted = (one.predict(image, conf=0.0, max_det=5)[0].boxes for one in (model, live))
    assert len(found) == 5
    torch.testing.assert_close(found.data, wanted.data, atol=1e-4, rtol=1e-4)
    saved.model.pt_path = str(Path("exported.pt").absolute())
    file = saved.export(format="torchscript", imgsz=64, device="cpu")
    assert Path(file).name == "exported.torchscript"
    assert (
        graft_model("own.pt", {"steps": [{"insert": "SE", "at": {"rows": 3}}]}).names[0] == "circle"
    )


def test_an_export_does_not_replace_that_of_the_base(live):
    model = graft_model(live, RECIPE)
    file = Path(model.export(format="torchscript", imgsz=64, device="cpu"))
    assert file.name == "best-recipe.torchscript"
    file.unlink()


def test_a_class_of_the_users_is_kept(stock):
    class Mine(YOLO):
        pass

    assert type(graft_model(Mine(stock), RECIPE)) is Mine


def test_a_model_yaml_gives_an_untrained_model():
    model = graft_model("yolov8n-cls.yaml", "se")
    assert (type(model), model.task, model.model_name) == (YOLO, "classify", "yolov8n-cls-se.pt")


def test_classification():
    base = YOLO("yolov8n-cls.yaml")
    shaken(base.model).transforms = classify_transforms(32)  # as its trainer does
    model = graft_model(base, "cbam", warm="exact")
    assert (type(model), model.task) == (YOLO, "classify")
    assert isinstance(model.model, tasks.ClassificationModel)
    assert difference(model.model, base.model) == 0
    image = np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)
    found, wanted = (one.predict(image, imgsz=32, verbose=False)[0] for one in (model, base))
    assert found.probs.data.shape == (1000,)
    torch.testing.assert_close(found.probs.data, wanted.probs.data, atol=1e-6, rtol=1e-4)


def test_pose():
    base = YOLO("yolov8n-pose.yaml")
    shaken(base.model).kpt_shape = [17, 3]  # as its trainer does
    base.model.kpt_names = {0: [f"point {i}" for i in range(17)]}
    model = graft_model(base, "cbam", warm="exact")
    assert (type(model), model.task) == (YOLO, "pose")
    assert model.model.kpt_names == base.model.kpt_names
    image = torch.rand(1, 3, 64, 64)
    options = {"conf": 0.0, "max_det": 5, "verbose": False}
    found, wanted = (one.predict(image, **options)[0].keypoints for one in (model, base))
    assert found.data.shape == (5, 17, 3)
    torch.testing.assert_close(found.data, wanted.data, atol=1e-3, rtol=1e-4)


@pytest.mark.long
def test_rt_detr():
    base = RTDETR("yolov8-rtdetr.yaml")
    shaken(base.model)
    for given in (base, base.model):
        model = graft_model(given, "se", warm="exact")
        assert type(model) is RTDETR
        assert difference(model.model, base.model, 160) == 0
    built = trained(model, 80)
    assert difference(built, base.model, 160) == 0
    assert len(gates(built)) == len(gates(model.model)) > 0


@pytest.mark.parametrize("recipe", ["sk", RECIPE])
@pytest.mark.long
def test_world_models_are_trained_with_their_gates(recipe, tmp_path, monkeypatch):
    """Their trainer builds the model by the name of its config."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = YOLOWorld("yolov8s-worldv2.yaml")
    shaken(base.model)
    vectors = nn.functional.normalize(torch.randn(1, 2, 512), dim=-1)
    base.model.txt_feats, base.model.names, base.model.model[-1].nc = vectors, ["cat", "dog"], 2
    for given in (base, base.model):
        model = graft_model(given, recipe, warm="exact")
        assert type(model) is YOLOWorld
        assert model.model.names == ["cat", "dog"]
        assert difference(model.model, base.model) == 0
        built = trained(model, 2)
        assert len(gates(built)) == len(gates(model.model)) > 0
        state = model.model.state_dict()
        assert all(torch.equal(v, state[k]) for k, v in built.state_dict().items())


# -------------------------------------------------------------------------- second grafts, refusals


def test_a_second_graft_of_a_block_warns(live, recwarn):
    first = graft_model(live, RECIPE, warm="exact")
    other = {"steps": [{"insert": "SE", "at": {"rows": 2}}]}
    second = graft_model(first, other, warm="exact")
    assert not [one for one in recwarn if one.category is UserWarning]
    again = {"steps": [{"insert": "CBAM", "at": {"rows": 5}}]}
    with pytest.warns(
        UserWarning, match=r"best-recipe-recipe\.pt already contains CBAM: "
    ) as found:
        third = graft_model(second, again, warm="exact")
    assert [one.filename for one in found if one.category is UserWarning] == [__file__]
    assert difference(third.model, live.model) == 0
    labels = [row[2] for row in third.model.yaml["backbone"] + third.model.yaml["head"]]
    assert labels.count("CBAM") == 2


def test_the_very_same_graft_warns_and_is_refused(live):
    first = graft_model(live, RECIPE)
    with (
        pytest.warns(UserWarning, match="already contains CBAM and SKConv"),
        pytest.raises(ConfigError, match="CBAM is already there"),
    ):
        graft_model(first, RECIPE)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("gone.pt", "gone.pt: there is no such file"),
        ("text.pt", "text.pt: this is not a checkpoint"),
        (nn.Conv2d(3, 3, 3), "Conv2d: this is not a model of Ultralytics"),
    ],
)
def test_what_is_not_a_model_is_refused(given, says):
    Path("text.pt").write_text("text")
    with pytest.raises(ConfigError, match=re.escape(says)):
        graft_model(given, RECIPE)


def test_an_exported_model_is_refused(live):
    del live._modules["model"]
    vars(live)["model"] = "best.onnx"
    with pytest.raises(ConfigError, match="not a model that blocks can be grafted into"):
        graft_model(live, RECIPE)


def test_a_fused_model_is_refused(live):
    live.model.fuse(verbose=False)
    with pytest.raises(
        ConfigError, match=r"best.pt: its BatchNorm is folded into its convolutions"
    ):
        graft_model(live, RECIPE)


# ------------------------------------------------------------------------------------------ configs


def test_graft_config_returns_a_config_and_leaves_the_base():
    base = deepcopy(TINY)
    config = graft_config(base, RECIPE, warm="exact")
    assert base == TINY
    assert config["graft"]["rows"] == [0, 1, 2, "after 2", 3, "in 4", 5, 6]
    assert config == yolograft.patch(base, RECIPE, "exact")
    assert "blend" in str(config["backbone"])
    tasks.DetectionModel(config, verbose=False)
    assert graft_config(Path("yolov8n.yaml"), "sk") == graft_config("yolov8n.yaml", ["sk"])
    with pytest.raises(ConfigError, match=r"best.pt: this is a checkpoint, not a model YAML"):
        graft_config("best.pt", "sk")


def test_patch_returns_the_module_of_a_checkpoint(stock, live):
    for path in (stock, str(stock)):
        model = yolograft.patch(path, RECIPE, "exact")
        assert type(model) is tasks.DetectionModel
        assert difference(model, live.model) == 0


def test_recipes_have_names_and_a_line_about_them():
    found = {one.name: one.about for one in yolograft.recipes()}
    assert [*found] == recipes.names()
    assert "1807.06521" in found["cbam"]
    Path("recipes").mkdir()
    Path("recipes", "own.yaml").write_text("about: Mine\nsteps: [{insert: SE, at: {level: P3}}]")
    assert {one.name: one.about for one in yolograft.recipes()} == {**found, "own": "Mine"}


# -------------------------------------------------------------------------------------------- types


def test_the_stub_names_what_there_is():
    (names,) = (
        ast.literal_eval(node.value)
        for node in STUB.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    assert sorted(names) == sorted(yolograft.__all__)
    exported = {}
    for node in STUB.body:
        if isinstance(node, ast.ImportFrom):
            exported |= {one.asname: node.module for one in node.names if one.asname}
    defined = {node.name for node in STUB.body if isinstance(node, ast.FunctionDef)}
    assert exported.keys() | defined == {*names}
    assert not exported.keys() & defined
    for name, module in exported.items():
        found = import_module("yolograft.blocks") if name == "blocks" else import_module(module)
        assert getattr(yolograft, name) is (found if name == "blocks" else getattr(found, name))


def signature(node):
    """Return the signature of a function of the stub."""
    node = deepcopy(node)
    node.decorator_list = []
    space = {}
    module = ast.Module([ast.ImportFrom("__future__", [ast.alias("annotations")], 0), node], [])
    exec(compile(ast.fix_missing_locations(module), "stub", "exec"), space)
    return inspect.signature(space[node.name])


@pytest.mark.parametrize(
    "node", [node for node in STUB.body if isinstance(node, ast.FunctionDef)], ids=lambda n: n.name
)
def test_signatures_of_the_stub_are_those_of_the_code(node):
    stub, code = signature(node), inspect.signature(getattr(yolograft, node.name))
    assert [(p.name, p.kind) for p in stub.parameters.values()] == [
        (p.name, p.kind) for p in code.parameters.values()
    ]
    for name, parameter in stub.parameters.items():
        assert parameter.default in (parameter.empty, code.parameters[name].default)
        assert parameter.annotation is not parameter.empty
    assert stub.return_annotation is not stub.empty


@pytest.mark.parametrize("name", ["count", "graft_config", "graft_model", "patch", "recipes"])
def test_public_functions_are_annotated(name):
    found = inspect.signature(getattr(yolograft, name))
    assert found.return_annotation is not found.empty
    assert all(p.annotation is not p.empty for p in found.parameters.values())


GOOD = """
from pathlib import Path

from torch import Tensor, nn
from ultralytics.models import RTDETR, YOLO
from ultralytics.nn.tasks import DetectionModel

import yolograft
from yolograft import Block, ConfigError, blocks, graft_config, graft_model, register


@register
class Plain(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(nn.Parameter().new_ones(c, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


@register(role="gate", aliases=("G",), paper="1709.01507")
class Gain(Plain):
    pass


@register(name="Other")
class Third(Plain):
    pass


register(Third, "ThirdName", role="gate")
gain: nn.Parameter = Gain(8).gain
config = graft_config("yolo11n.yaml", "sk,cbam", warm="exact")
again = graft_config(config, ["se", {"steps": []}, Path("own.yaml")])
label: str = config["backbone"][0][2]
model = graft_model("best.pt", "cbam", warm="exact")
model.train(data="shapes.yaml", epochs=1)
same: YOLO = graft_model(YOLO("best.pt"), "cbam")
detr: RTDETR = graft_model(RTDETR("rtdetr-l.pt"), "se")
old = yolograft.patch("yolo11n.yaml", "sk", "exact")
for recipe in yolograft.recipes():
    print(recipe.name, recipe.about.upper())
cost = yolograft.count(Gain(8), imgsz=320)
print(cost.params + cost.flops, cost.gflops)
block: type[nn.Module] = blocks.CBAM
version: str = yolograft.__version__
try:
    graft_config(Path("a.yaml"), "x")
except ConfigError as error:
    print(error)


def plain(model: DetectionModel, block: Block) -> YOLO:
    return graft_model(model, block.name)
"""
BAD = """
from ultralytics.models import YOLO

from yolograft import count, graft_config, graft_model, recipes, register
from yolograft import nothing  # wrong

graft_config(3, "sk")  # wrong
graft_config("yolo11n.yaml", "sk", warm="exakt")  # wrong
graft_config("yolo11n.yaml", "sk", "exact")  # wrong
graft_model(YOLO("best.pt"))  # wrong
number: int = graft_model("best.pt", "sk")  # wrong
recipes()[0].nam  # wrong
register(3)  # wrong
register(role=3)  # wrong
count("model")  # wrong
"""


@pytest.mark.long
def test_mypy_accepts_right_code_and_rejects_wrong_code():
    Path("good.py").write_text(GOOD)
    Path("bad.py").write_text(BAD)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "good.py", "bad.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    found = re.findall(r"^(\w+\.py):(\d+): error: (.*)", done.stdout, re.MULTILINE)
    assert [one for one in found if one[0] != "bad.py"] == []
    wrong = {i for i, line in enumerate(BAD.splitlines(), 1) if line.endswith("# wrong")}
    assert {int(line) for _, line, _ in found} == wrong
