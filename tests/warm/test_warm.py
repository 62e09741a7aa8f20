"""Warm starts: every tensor goes to its own layer, and where mathematics allows, nothing changes.

Fresh models with random BatchNorm statistics stand for trained ones.
"""

import random
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from random_configs import random_recipe, small_config
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv, DWConv
from ultralytics.utils import LOGGER

import yolograft
from yolograft import ConfigError, blocks, cli, exact, files
from yolograft.blocks.blend import Blend
from yolograft.files import CFG
from yolograft.graft import file, graft
from yolograft.warm import transplant
from yolograft.warm.match import match
from yolograft.warm.trace import flat, trace

PINNED = yaml.safe_load((Path(__file__).parents[1] / "yolov8-pinned.yaml").read_text())
RECIPES = sorted(path.stem for path in (CFG / "recipes").glob("*.yaml"))
#: Recipes that change no output even without a gate.
UNGATED = {"spd", "dcn", "nl", "gc", "stn"}
#: Tensors of YOLOv8n that have no place in a block without a gate.
HOMELESS = {"acmix": 36, "aspp": 12}


def trained(config, kind=tasks.DetectionModel, **kwargs):
    """Return a model whose every tensor is its own."""
    model = kind(deepcopy(config), verbose=False, **kwargs)
    for name, tensor in model.state_dict().items():
        if "bn." in name and tensor.is_floating_point():
            low, high = (0.5, 1.5) if name.endswith(("weight", "var")) else (-0.3, 0.3)
            tensor.uniform_(low, high)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(7)
    return model


def pinned(scale="n", **keys):
    return {**deepcopy(PINNED), "scale": scale, **keys}


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(0)
    return trained(pinned())


def warm(target, source, **options):
    return transplant.warm_start(target, deepcopy(source), **options)


def difference(one, other, size=64):
    """Return how far two models' outputs are apart, in float64."""
    outputs = []
    for model in (one, other):
        model = deepcopy(model).double().eval()
        model.model[-1].training = True  # what it would decode
        x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1)).double()
        with torch.no_grad():
            outputs.append(flat(model(x)))
    assert len(outputs[0]) == len(outputs[1]) > 0
    return max(float((a - b).abs().max()) for a, b in zip(*outputs, strict=True))


def matches(target, source):
    found = match(target, source, trace(target), trace(source))
    return found.pairs, found.doubts


def inserted(config, at, row):
    """Return a config with a row put in before row ``at`` by hand."""
    config = deepcopy(config)
    rows, split = [*config["backbone"], *config["head"]], len(config["backbone"])
    for one in rows:
        several = isinstance(one[0], list)
        shifted = [f + 1 if f >= at else f for f in (one[0] if several else [one[0]])]
        one[0] = shifted if several else shifted[0]
    rows.insert(at, row)
    split += at < split
    return {**config, "backbone": rows[:split], "head": rows[split:]}


# ------------------------------------------------------------------------------- the mathematics


@pytest.mark.parametrize(
    ("k", "pad", "kernel", "size"),
    [
        *[(1, 0, 1, 9), (3, 1, 3, 8), (3, 1, 3, 9), (3, 1, 5, 9), (5, 2, 3, 11), (7, 3, 5, 11)],
        *[(6, 2, 3, 8), (2, 0, 1, 8)],  # even kernels, as in old stems
    ],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_spdconv_is_the_convolution_it_replaces(k, pad, kernel, size, groups):
    old = trained_layer(Conv(4, 6, k, 2, pad, groups))
    new = trained_layer(blocks.SPDConv(4, 6, kernel))
    same(new, old, torch.randn(2, 4, size, size + 2 - size % 2))


@pytest.mark.parametrize("options", [{}, {"modulated": False}, {"offset_groups": 2}, {"g": 2}])
@pytest.mark.parametrize("stride", [1, 2])
def test_deformconv_is_the_convolution_it_replaces(options, stride):
    old = trained_layer(Conv(4, 6, 3, stride, g=options.get("g", 1)))
    new = trained_layer(blocks.DeformConv(4, 6, 3, stride, **options))
    nn.init.normal_(new.conv.offset.weight)  # as after a training
    same(new, old, torch.randn(2, 4, 9, 8))


def trained_layer(layer):
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return layer.double().eval()


def same(new, old, x):
    carried = exact.carry(new, old)
    assert (carried.exact, carried.fresh) == (1, [])
    assert set(carried.origins.values()) == set(old.state_dict())
    new.load_state_dict(carried.tensors)
    torch.testing.assert_close(new(x.double()), old(x.double()), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (blocks.SPDConv(4, 6, 1), Conv(4, 6, 3, 2)),  # its kernel does not reach as far
        (blocks.SPDConv(4, 6), Conv(4, 6, 3, 1)),
        (blocks.SPDConv(4, 6), Conv(4, 6, 3, 2, d=2)),
        (blocks.SPDConv(4, 6), Conv(4, 6, 3, 2, p=0)),
        (blocks.SPDConv(4, 6), Conv(4, 8, 3, 2)),
        (blocks.SPDConv(4, 6), Conv(4, 6, 3, 2, act=nn.ReLU())),
        (blocks.DeformConv(4, 6, 3, 2), Conv(4, 6, 3, 1)),
        (blocks.DeformConv(4, 6), Conv(4, 6, 3, g=2)),
        (blocks.DeformConv(4, 6, act=False), Conv(4, 6, 3)),
        (blocks.SKConv(4, 6), Conv(4, 6, 3)),
        (blocks.ACmix(8, 8), Conv(8, 8, 3)),
    ],
)
def test_what_is_not_the_same_is_not_called_exact(new, old):
    carried = exact.carry(new, old)
    assert (carried.exact, carried.fresh) == (0, [""])


def test_layers_of_equal_tensors_that_do_different_things_are_distinguished():
    assert exact.carry(Conv(4, 4, 3), Conv(4, 4, 3)).exact == 0
    assert exact.carry(Conv(4, 4, 3), Conv(4, 4, 3, 2)) is None
    assert exact.carry(Conv(4, 4, 3), Conv(4, 4, 3, d=2)) is None
    assert exact.carry(Conv(4, 4, 3, g=4), DWConv(4, 4, 3)) is None
    assert exact.carry(nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=4)) is None


def test_a_gate_is_open_as_built_closed_when_warm_and_learns():
    old, new = Conv(4, 6, 3).eval(), blocks.SKConv(4, 6).eval()
    blend = Blend(new, old, 6).eval()
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(blend(x), new(x))
    blend.load_state_dict(exact.carry(blend, old).tensors, strict=False)
    assert torch.equal(blend(x), old(x))
    assert torch.equal(new.branches[0].conv.weight, old.conv.weight)
    optimizer = torch.optim.SGD(blend.train().parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (blend(x) * torch.randn(2, 6, 8, 8)).sum().backward()
        optimizer.step()
    assert blend.gamma.ndim == 1
    assert bool((blend.gamma != 0).all())
    assert all(float(p.grad.abs().sum()) > 0 for p in new.select.parameters())


# --------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_exact_with_a_gate(name, base):
    recipe = {"steps": [{"use": name}], "warm": "exact"}
    config = yolograft.patch(pinned(), recipe)
    gates = [row for row in [*config["backbone"], *config["head"]] if "blend" in str(row)]
    assert bool(gates) == (name in {*RECIPES} - {"nl", "gc", "stn"})
    model = tasks.DetectionModel(deepcopy(config), verbose=False)
    report = warm(model, base)
    assert (report.carried, report.total) == (355, 355)
    assert report.exact > 0
    assert not report.fresh
    assert not report.left
    assert report.change < 1e-4
    assert difference(model, base) < 1e-9


@pytest.mark.parametrize("name", RECIPES)
def test_the_packs_configs_carry_what_has_a_place(name, base):
    """They have no record of their base: their layers are aligned."""
    config = {**yaml.safe_load((CFG / f"yolov8-{name}.yaml").read_text()), "scale": "n"}
    model = tasks.DetectionModel(config, verbose=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    report = warm(model, base)
    assert report.total - report.carried == HOMELESS.get(name, 0)
    assert bool(report.left) == (name in HOMELESS)
    assert bool(report.fresh) == (name not in UNGATED)
    result = graft(pinned(), name)
    check_layers(model, base, before, result.origins)
    if name in UNGATED:
        assert difference(model, base) < 1e-9


def check_layers(model, base, before, origins):
    """Assert that every tensor that a kept layer took over is its own layer's."""
    state, theirs = model.state_dict(), base.state_dict()
    for i, origin in enumerate(origins):
        if origin.relation != "kept":
            continue
        for name in model.model[i].state_dict():
            got, want = state[f"model.{i}.{name}"], theirs[f"model.{origin.row}.{name}"]
            if got.shape == want.shape:
                assert torch.equal(got, want)
            else:
                assert torch.equal(got, before[f"model.{i}.{name}"])


@pytest.mark.parametrize(
    ("config", "kind", "recipe"),
    [
        ("yolov8n-obb.yaml", tasks.OBBModel, "combo"),
        ("yolo11n-seg.yaml", tasks.SegmentationModel, "sk,spd"),
        ("yolov8n-cls.yaml", tasks.ClassificationModel, "se"),
        ("yolov8n-pose.yaml", tasks.PoseModel, "cbam"),
        ("yolov9t.yaml", tasks.DetectionModel, "spd"),  # AConv
        ("yolov10n.yaml", tasks.DetectionModel, "spd,dcn"),  # SCDown
        ("yolov3-tiny.yaml", tasks.DetectionModel, "spd"),  # pooling
    ],
)
def test_other_tasks_and_architectures(config, kind, recipe):
    config = tasks.yaml_model_load(config)
    source = trained(config, kind, nc=4)
    patched = yolograft.patch(source.yaml, recipe, warm="exact")
    model = kind(patched, verbose=False)
    report = warm(model, source)
    assert report.carried == report.total
    assert not report.fresh
    assert difference(model, source) < 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_random_recipes_on_random_configs(seed):
    rng = random.Random(seed)
    config, recipe = {**small_config(rng), "scale": "n"}, random_recipe(rng)
    tried = 0
    for step in recipe["steps"]:
        try:
            result = graft(config, {"steps": [step]}, "exact")
        except ConfigError:
            continue
        tried += 1
        source = trained(config)
        model = tasks.DetectionModel(deepcopy(result.config), verbose=False)
        report = warm(model, source)
        assert report.carried == report.total
        assert difference(model, source) < 1e-9
        # without the record, layers that could be several stay out, and none is a wrong one
        unrecorded = {k: v for k, v in result.config.items() if k != "graft"}
        model = tasks.DetectionModel(unrecorded, verbose=False)
        pairs, _ = matches(model, source)
        assert pairs
        for i, j in pairs.items():
            assert result.origins[i].row == j
            assert result.origins[i].relation != "after"
    assert tried


# -------------------------------------------------------------------------------------- alignment


@pytest.mark.parametrize("at", [1, 3, 5, 10, 13, 16, 22])
def test_a_block_put_in_by_hand_costs_no_tensor(at, base):
    config = inserted(pinned(), at, [-1, 1, "SE", []])
    model = tasks.DetectionModel(deepcopy(config), verbose=False)
    model.load(base)
    state, theirs = model.state_dict(), base.state_dict()
    assert len(state) == 359
    for name, tensor in theirs.items():
        _, row, rest = name.split(".", 2)
        assert torch.equal(state[f"model.{int(row) + (int(row) >= at)}.{rest}"], tensor)


def test_several_rows_put_in_by_hand(base):
    config = inserted(pinned(), 20, [-1, 1, "CBAM", []])
    config = inserted(config, 9, [-1, 1, "SKConv", [1024]])
    config = inserted(config, 5, [-1, 1, "Conv", [256, 1, 1]])
    model = tasks.DetectionModel(config, verbose=False)
    assert warm(model, base).carried == 355


CHAIN = {
    "nc": 3,
    "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 1]], [-1, 1, "SE", []]],
    "head": [[-1, 1, "Conv", [32, 3, 2]], [[2, 3], 1, "Detect", ["nc"]]],
}


def test_what_may_be_two_layers_is_left_out_and_reported():
    source = trained(CHAIN)
    model = tasks.DetectionModel(inserted(CHAIN, 1, [-1, 1, "Conv", [16, 3, 1]]), verbose=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    report = warm(model, source)
    assert report.total - report.carried == 6
    assert (
        "not carried: 6 tensors of layer 1 of the checkpoint (Conv: conv.weight, bn.weight"
        in str(report)
    )
    assert f"not carried: {report.left[0]}" in str(report)
    for i in (1, 2):
        name = f"model.{i}.conv.weight"
        assert torch.equal(model.state_dict()[name], before[name])


def test_a_layer_that_reads_another_layer_is_left_out_and_reported():
    source = trained(CHAIN)
    config = deepcopy(CHAIN)
    config["head"][0][0] = 0
    model = tasks.DetectionModel(config, verbose=False)
    pairs, doubts = matches(model, source)
    assert 3 not in pairs
    assert doubts[3] == "layer 3 reads a different layer"


def test_a_record_that_does_not_fit_the_checkpoint_is_not_followed(base):
    config = yolograft.patch(pinned(), "ca")
    lie = deepcopy(config)
    lie["graft"]["rows"] = lie["graft"]["rows"][:-1]
    other = deepcopy(config)
    other["graft"]["rows"][2:5] = [4, 3, 2]
    for config in (lie, other):
        model = tasks.DetectionModel(config, verbose=False)
        report = warm(model, base)
        assert report.carried == 355
        want = base.state_dict()["model.2.cv1.conv.weight"]
        assert torch.equal(model.state_dict()["model.2.cv1.conv.weight"], want)


def test_a_second_graft_starts_from_the_first(base):
    first = tasks.DetectionModel(yolograft.patch(pinned(), "ca"), verbose=False)
    warm(first, base)
    for config in (yolograft.patch(first.yaml, "spd"), yolograft.patch(pinned(), "ca,spd")):
        second = tasks.DetectionModel(deepcopy(config), verbose=False)
        report = warm(second, first)
        assert report.carried == report.total == len(first.state_dict())
        assert difference(second, first) < 1e-9


def test_the_same_layers_go_the_stock_way(base, logged):
    model = tasks.DetectionModel(yolograft.patch(pinned(), "sk", warm="exact"), verbose=False)
    model.load(deepcopy(base))
    logged.clear()
    again = tasks.DetectionModel(deepcopy(model.yaml), verbose=False)
    again.load(model)
    assert [line for line in logged if "tensors carried" in line] == []
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in again.state_dict().items())


def test_stock_models_are_left_to_ultralytics(base, logged):
    model = tasks.DetectionModel(pinned(nc=3), verbose=False)
    assert not transplant.concerns(model, base)
    model.load(deepcopy(base))
    assert not [line for line in logged if "yolograft" in line]


# ------------------------------------------------------------------------------- what is different


@pytest.mark.parametrize("config", ["yolov8n-spd.yaml", "recorded"])
def test_another_number_of_classes_leaves_the_class_outputs_alone(config, base):
    config = yolograft.patch(pinned(), "spd") if config == "recorded" else config
    model = tasks.DetectionModel(config, nc=3, verbose=False)
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LOGGER, "info", lines.append)
        model.load(deepcopy(base))
    # Weight and bias of three levels' class outputs are missing.
    assert "yolograft: 349/355 tensors carried, 7 exact grafts, max head input" in lines[-1]
    assert "it has 80 classes, the model has 3" in lines[-1]
    want = base.state_dict()["model.22.cv2.0.0.conv.weight"]
    assert torch.equal(model.state_dict()["model.22.cv2.0.0.conv.weight"], want)


@pytest.mark.parametrize("name", ["yolov8n-se.yaml", "yolo11n-se.yaml", "yolov10n-se.yaml"])
def test_class_branches_keep_their_width_with_another_number_of_classes(name):
    many = tasks.DetectionModel(name, nc=80, verbose=False)
    few = tasks.DetectionModel(name, nc=3, verbose=False)
    transplant.widen(few, many)  # of old releases, too, which do it nowhere
    wanted = {k: v.shape for k, v in many.state_dict().items()}
    for key, value in few.state_dict().items():
        assert value.shape[1:] == wanted[key][1:]
        assert value.shape[:1] == wanted[key][:1] or len(value) == 3
    assert all(p.requires_grad for p in few.model[-1].cv3.parameters())
    few.train()(torch.zeros(1, 3, 64, 64))
    again = tasks.DetectionModel(name, nc=3, verbose=False)
    again.load(few, verbose=False)  # as a model that is resumed
    assert all(torch.equal(v, few.state_dict()[k]) for k, v in again.state_dict().items())


def test_another_scale_is_refused(base):
    model = tasks.DetectionModel("yolov8s-sk.yaml", verbose=False)
    with pytest.raises(ConfigError) as error:
        model.load(base)
    assert "is a model of scale n" in str(error.value)
    assert "yolov8s-sk.yaml is of scale s" in str(error.value)


def test_a_fused_checkpoint_is_refused(base):
    model = tasks.DetectionModel("yolov8n-sk.yaml", verbose=False)
    fused = deepcopy(base).eval().fuse(verbose=False)
    with pytest.raises(ConfigError, match="its BatchNorm is folded into its convolutions"):
        model.load(fused)


def test_images_with_other_channels(base, logged):
    model = tasks.DetectionModel(yolograft.patch(pinned(), "cbam"), ch=1, verbose=False)
    model.load(deepcopy(base))
    assert "yolograft: 354/355 tensors carried, 0 exact grafts\n" in logged[-1]
    assert "its filters are adapted to images with other channels" in logged[-1]


# ---------------------------------------------------------------------------------- gates in rows


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (["CBAM", [{"blend": "x"}]], "blend='x' does not name a layer"),
        (["SPDConv", [64, {"blend": True}]], "blend=True, but the block halves the map"),
        (["SKConv", [64, {"blend": True}]], "blend=True, but the block changes the shape"),
        (["SpaceToDepth", [{"blend": True}]], "a block of the role widen cannot be blended"),
        (["C2f_SK", [64, {"blend": ["Conv", [64]]}]], "inside a stage the layer before is known"),
    ],
)
def test_bad_gates_are_refused(row, says):
    config = {
        "nc": 3,
        "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, *row]],
        "head": [[-1, 1, "Classify", ["nc"]]],
    }
    with pytest.raises(ConfigError, match=says):
        tasks.parse_model(config, 3, False)


def test_an_argument_may_not_be_named_blend():
    class Own(nn.Module):
        def __init__(self, c, blend=1):
            super().__init__()

    with pytest.raises(ConfigError, match="an argument is named blend"):
        yolograft.register(Own)


def test_closed_gates_are_folded_away(base):
    config = yolograft.patch(pinned(), "cbam,sk", warm="exact")
    model = tasks.DetectionModel(config, verbose=False)
    warm(model, base)
    with torch.no_grad():
        model.model[5].gamma[0] = 0.5  # one that training has opened stays
    model = model.double().eval()
    x = torch.rand(1, 3, 64, 64).double()
    before = model(x)[0]
    fused = deepcopy(model).fuse(verbose=False)
    assert [m.i for m in fused.modules() if isinstance(m, Blend)] == [5]
    assert fused.model[8].i == 8
    torch.testing.assert_close(fused(x)[0], before, rtol=0, atol=1e-8)
    assert sum(isinstance(m, Blend) for m in model.modules()) > 10


def test_the_written_config_alone_rebuilds_the_model(here):
    result = graft("yolov9t.yaml", "spd,cbam", warm="exact")
    Path("own.yaml").write_text(file.text(result))
    shapes = [
        {k: v.shape for k, v in tasks.DetectionModel(c, verbose=False).state_dict().items()}
        for c in (deepcopy(result.config), "own.yaml")
    ]
    assert shapes[0] == shapes[1]
    assert any("gamma" in name for name in shapes[0])


# ---------------------------------------------------------------------------------- by the command


@pytest.fixture
def best(here):
    """A checkpoint as a training writes it."""
    model = trained(pinned(nc=2))
    model.names = {0: "cat", 1: "dog"}
    content = {"epoch": -1, "model": model.half(), "ema": None, "train_args": {"task": "detect"}}
    torch.save({**content, "optimizer": None, "version": "8"}, "best.pt")
    return here / "best.pt"


def test_patch_writes_a_checkpoint(best, capsys):
    command = ["patch", "best.pt", "--recipe", "dcn", "-o", "best-dcn.pt"]
    assert cli.main([*command, "--dry-run"]) == 0
    assert not Path("best-dcn.pt").exists()
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert out.count("best.pt + dcn (scale n, 640 pixels)\n") == 2
    assert "\nyolograft: 355/355 tensors carried, 9 exact grafts, max output change " in out
    assert out.endswith("\nwrote best-dcn.pt\n")
    base, model = (YOLO(f).model for f in ("best.pt", "best-dcn.pt"))
    assert model.names == {0: "cat", 1: "dog"}
    assert model.yaml["graft"]["recipe"] == ["dcn"]
    assert difference(model, base) < 1e-9
    stored = torch.load("best-dcn.pt", weights_only=False)["model"]
    assert next(stored.parameters()).dtype is torch.float16
    assert cli.main([*command, "--force"]) == 0
    assert sorted(path.name for path in Path().iterdir()) == ["best-dcn.pt", "best.pt"]


def test_patch_in_python_returns_the_model(best, logged):
    model = yolograft.patch("best.pt", "cbam", warm="exact")
    assert isinstance(model, tasks.DetectionModel)
    assert logged == ["yolograft: 355/355 tensors carried, 6 exact grafts, max output change 0"]
    assert difference(model, YOLO("best.pt").model) == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["best.pt", "--recipe", "nothing"], "unknown recipe 'nothing'"),
        (["best.pt", "--recipe", "sk", "-o", "there.pt"], "there.pt: it exists"),
        (["best.pt", "--recipe", "sk", "-o", "new.yaml"], "the name of a checkpoint ends in .pt"),
        (["best.pt", "--recipe", "sk", "-o", "a/b.pt"], "there is no folder a"),
        (["there.pt", "--recipe", "sk"], "there.pt: this is not a checkpoint"),
        (["empty.pt", "--recipe", "sk"], "empty.pt: this is not a checkpoint"),
        (["state.pt", "--recipe", "sk"], "state.pt: this is not a checkpoint of Ultralytics"),
        (["gone.pt", "--recipe", "sk"], "gone.pt: there is no such file"),
        (["a/gone.pt", "--recipe", "sk"], "a/gone.pt: there is no such file"),
    ],
)
def test_bad_commands_write_nothing_and_exit_with_2(args, says, best, capsys):
    Path("there.pt").write_bytes(b"mine")
    Path("empty.pt").write_bytes(b"")
    torch.save({"model": {"weight": torch.zeros(1)}}, "state.pt")
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    assert cli.main(["patch", *args]) == 2
    assert says in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


def test_a_recipe_that_does_not_fit_the_checkpoint(best, capsys):
    Path("own.yaml").write_text("steps: [{insert: SE, at: {level: P6}}]")
    assert cli.main(["patch", "best.pt", "--recipe", "own.yaml"]) == 2
    assert "best.pt has no P6" in capsys.readouterr().err
    assert not list(Path().glob("best-*"))


def test_killed_while_writing_leaves_the_file_as_it_was(here):
    Path("best.pt").write_text("mine")

    def write_half(stream):
        stream.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write(Path("best.pt"), write_half)
    assert [path.name for path in Path().iterdir()] == ["best.pt"]
    assert Path("best.pt").read_text() == "mine"


def test_the_stock_command_trains_from_it(best, shapes, yolo):
    small = ["imgsz=64", "batch=16", "fraction=0.1", "workers=0", "plots=False", "device=cpu"]
    data = [f"data={shapes}", "epochs=1", f"project={best.parent / 'runs'}"]
    command = ["detect", "train", "model=yolov8n-spd.yaml", f"pretrained={best}", "name=a"]
    out = yolo(*command, *data, *small, cwd=best.parent)
    assert "/355 tensors carried, 7 exact grafts, max head input change" in out
    assert cli.main(["patch", "best.pt", "--recipe", "sk", "--warm", "exact"]) == 0
    out = yolo("detect", "train", "model=best-sk.pt", "name=b", *data, *small, cwd=best.parent)
    assert "Transferred" in out
    last = torch.load(best.parent / "runs" / "b" / "weights" / "last.pt", weights_only=False)
    gates = [m for m in last["model"].modules() if isinstance(m, Blend)]
    assert len(gates) == 9
    assert all(bool((gate.gamma != 0).any()) for gate in gates)
