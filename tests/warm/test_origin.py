"""A checkpoint is more than its config: what its modules are goes with its tensors, or is reported.

Modules are changed by hand as other releases of Ultralytics, or users, leave them in checkpoints.
Outputs are compared in float64 by the modules of torch alone.
"""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.modules import Bottleneck, C2f, Conv

import yolograft
from yolograft import ConfigError, cli
from yolograft.warm import checkpoint, rebuild, transplant

CONFIG = {
    "nc": 4,
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "C2f", [16, True]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 2, "C2f", [32, True]],
        [-1, 1, "SPPF", [32, 5]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 2], 1, "Concat", [1]],
        [-1, 1, "C2f", [16]],
        [[8, 5], 1, "Detect", ["nc"]],
    ],
}
#: A row more, and a block inside a stage.
RECIPE = {"steps": [{"insert": "CBAM", "at": {"rows": 2}}, {"swap": "SKConv", "at": {"rows": 4}}]}


class Halved(Bottleneck):
    """A user's module under a stock one's names."""

    def forward(self, x):
        return super().forward(x) / 2


class Pool(nn.Module):
    """A user's module with tensors of its own."""

    def __init__(self, c1, c2):
        super().__init__()
        self.cv = Conv(c1, c2)
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        return self.cv(nn.functional.avg_pool2d(x, 3, 1, 1)) * self.scale


def other_sppf(model):
    """What other releases build from the same row."""
    conv = model.model[5].cv1
    conv.act = nn.Identity() if isinstance(conv.act, nn.SiLU) else nn.SiLU()


def relu(model):
    """What an activation set for another model left behind."""
    for module in model.modules():
        if isinstance(module, Conv):
            module.act = nn.ReLU()


def leaky(model):
    model.model[4].cv1.act = nn.LeakyReLU(0.3)


def eps(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.1


def smooth(model):
    model.model[6].mode = "bilinear"


def no_shortcut(model):
    model.model[4].m[1].add = False


def padded(model):
    model.model[3].conv.padding_mode = "reflect"
    model.model[3].conv.__setstate__(model.model[3].conv.__dict__)


def biased(model):
    old = model.model[1].conv
    new = nn.Conv2d(old.in_channels, old.out_channels, 3, 2, 1)
    new.weight = old.weight
    model.model[1].conv = new


def own_part(model):
    model.model[2].m[0].__class__ = Halved


def own_layer(model):
    old = model.model[5]
    new = Pool(old.cv1.conv.in_channels, old.cv2.conv.out_channels)
    new.i, new.f, new.type, new.np = old.i, old.f, old.type, old.np
    model.model[5] = new


def few_boxes(model):
    model.model[-1].max_det = 7


CHANGES = [
    *[other_sppf, relu, leaky, eps, smooth, no_shortcut, padded, biased, own_part, own_layer],
    few_boxes,
]


pytestmark = pytest.mark.usefixtures("here")


def trained(config=CONFIG):
    """Return a model whose every tensor is its own, and whose activations matter."""
    model = tasks.DetectionModel(deepcopy(config), verbose=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                *((module.weight, 0.8, 2.0), (module.bias, -0.5, 0.5)),
                *((module.running_mean, -0.3, 0.3), (module.running_var, 0.2, 1)),
            ):
                nn.init.uniform_(tensor, low, high)
    return model.eval()


def save(model, file="old.pt"):
    """Write a checkpoint as a training does, and return its model as loaded."""
    content = {"epoch": -1, "model": deepcopy(model).half(), "ema": None, "optimizer": None}
    torch.save({**content, "train_args": {"task": "detect"}, "version": "8"}, file)
    return torch.load(file, weights_only=False)["model"].float()


def outputs(model):
    """Return what a model gives, as predicted and before it is decoded, in float64."""
    model = deepcopy(model).double().eval()
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        predicted = model(x)[0]
        model.model[-1].training = True
        raw = model(x)
    raw = raw.values() if isinstance(raw, dict) else raw
    return [predicted, *(y for y in raw if isinstance(y, torch.Tensor))]


def equal(one, other, atol=1e-9):
    pairs = list(zip(outputs(one), outputs(other), strict=True))
    assert pairs
    return all(torch.allclose(a, b, rtol=0, atol=atol) for a, b in pairs)


def rows(config):
    return [*config["backbone"], *config["head"]]


# ------------------------------------------------------------------------------- it is kept


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_an_exact_graft_equals_the_checkpoint_as_loaded(change, logged):
    model = trained()
    asis = save(model)
    change(model)
    source = save(model)
    assert change is few_boxes or not equal(asis, source)  # the change is one that shows
    patched = checkpoint.patch("old.pt", RECIPE, "exact")
    assert equal(patched.model, source)
    assert patched.report.carried == patched.report.total
    assert patched.report.changed == patched.report.left == patched.report.fresh == []
    assert bool(patched.report.kept) == (change is not eps)

    # into a config that is given, and when its checkpoint is trained on
    live = tasks.DetectionModel(yolograft.patch(deepcopy(CONFIG), RECIPE, "exact"), verbose=False)
    live.load(save(model))
    assert equal(live, source)
    checkpoint.save(patched, Path("new.pt"))
    again = tasks.DetectionModel(deepcopy(patched.model.yaml), verbose=False)
    again.load(torch.load("new.pt", weights_only=False)["model"])
    assert equal(again, torch.load("new.pt", weights_only=False)["model"].float())
    assert all(p.requires_grad for k, p in again.named_parameters() if ".dfl." not in k)
    text = "\n".join(map(str, logged))
    assert ("kept from the checkpoint: layer" in text) == (change is not eps)


def test_no_gate_is_needed_where_mathematics_does_without():
    model = trained()
    other_sppf(model)
    leaky(model)
    source = save(model)
    recipe = {"steps": [{"replace": "SPDConv", "at": {"rows": 3}}]}
    patched = checkpoint.patch("old.pt", recipe)
    assert type(patched.model.model[3]).__name__ == "SPDConv"
    assert equal(patched.model, source)


def test_a_row_says_what_it_can_and_the_config_alone_rebuilds_it():
    model = trained()
    model.model[5].cv1.act = nn.Identity()
    source = save(model)
    around = {"steps": [{"replace": "ASPP", "at": {"rows": 5}}]}
    for recipe in (RECIPE, around):  # one keeps the layer, one puts a gate around it
        patched = checkpoint.patch("old.pt", recipe, "exact")
        text = "[32, 5, 3, False]"
        built = tasks.DetectionModel(deepcopy(CONFIG), verbose=False).model[5].cv1.act
        can = not isinstance(built, nn.Identity)
        can = can and "shortcut" in type(source.model[5]).__init__.__code__.co_varnames
        assert (text in str(rows(patched.model.yaml))) == can
        assert text not in str(rows(source.yaml))
        assert ("its row now says so" in str(patched.report)) == can
        if can:
            alone = tasks.DetectionModel(deepcopy(patched.model.yaml), verbose=False)
            alone.load_state_dict(patched.model.state_dict())
            assert equal(alone, source)


def test_the_command_and_yolo_load(capsys, logged):
    model = trained()
    other_sppf(model)
    source = save(model)
    Path("base.yaml").write_text(yaml.safe_dump(CONFIG))
    Path("own.yaml").write_text(yaml.safe_dump(RECIPE))
    assert cli.main(["patch", "old.pt", "--recipe", "own.yaml", "--warm", "exact"]) == 0
    assert "layer 6 (SPPF) cv1.act: " in capsys.readouterr().out
    assert equal(YOLO("old-own.pt").model, source)
    assert (
        cli.main(["patch", "base.yaml", "--recipe", "own.yaml", "--warm", "exact", "-o", "g.yaml"])
        == 0
    )
    assert equal(YOLO("g.yaml").load("old.pt").model, source)
    assert "kept from the checkpoint: layer 6 (SPPF) cv1.act: " in str(logged[-1])


def test_wide_class_branches_of_a_checkpoint_are_carried():
    """Recent releases keep the width that a head had with more classes."""
    wide = trained({**CONFIG, "nc": 80})
    model = trained({**CONFIG, "nc": 3})
    transplant.widen(model, wide)
    source = save(model)
    patched = checkpoint.patch("old.pt", RECIPE, "exact")
    assert equal(patched.model, source)
    assert not patched.report.left


# ------------------------------------------------------------------------------- what is not


def test_what_the_target_config_says_wins_and_is_not_called_exact(logged):
    source = save(trained())
    config = yolograft.patch({**deepcopy(CONFIG), "activation": "torch.nn.ReLU()"}, RECIPE, "exact")
    default = Conv.default_act
    try:
        model = tasks.DetectionModel(config, verbose=False)
    finally:
        Conv.default_act = default  # older releases leave it set
    model.load(source)
    assert not any(isinstance(m, nn.SiLU) for m in model.modules())
    text, count = str(logged[-1]), len(source.state_dict())
    assert f"yolograft: {count}/{count} tensors carried, not exact, max output change " in text
    assert "different from the checkpoint: layer 0 (Conv) act, layer 1 (Conv) act, " in text
    assert "more: ReLU here, SiLU in the checkpoint" in text
    assert "exact graft" not in text


def test_a_checkpoint_whose_config_cannot_be_built_here(monkeypatch, logged):
    model = trained()
    other_sppf(model)
    source = save(model)
    source.yaml["backbone"][5][2] = "GoneInThisRelease"
    live = tasks.DetectionModel(yolograft.patch(deepcopy(CONFIG), RECIPE, "exact"), verbose=False)
    live.load(source)
    assert "not exact" in str(logged[-1])
    assert "different from the checkpoint: layer 6 (SPPF) cv1.act: " in str(logged[-1])


def test_what_nothing_explains_is_still_not_exact():
    """A model whose own forward differs: layers and tensors are the same."""
    model = tasks.DetectionModel(yolograft.patch(deepcopy(CONFIG), RECIPE, "exact"), verbose=False)
    model.model[6].cv1.register_forward_hook(lambda *args: args[-1] * 1.5)
    report = transplant.warm_start(model, save(trained()))
    assert report.changed == ["the output, although layers and tensors are equal"]
    assert ", not exact, max output change " in str(report)


def test_a_pruned_checkpoint_is_refused():
    model = trained()
    part = model.model[2].m[0]
    part.cv1.conv = nn.Conv2d(8, 4, 3, 1, 1, bias=False)
    part.cv1.bn = nn.BatchNorm2d(4)
    part.cv2.conv = nn.Conv2d(4, 8, 3, 1, 1, bias=False)
    save(model)
    with pytest.raises(ConfigError) as error:
        checkpoint.patch("old.pt", RECIPE)
    assert "old.pt: layer 2 (C2f) m.0.cv1.conv has a tensor of [4, 8, 3, 3], not [8, 8, 3, 3]" in (
        str(error.value)
    )


def test_a_fused_checkpoint_is_refused():
    save(trained().fuse(verbose=False))
    with pytest.raises(ConfigError, match="its BatchNorm is folded into its convolutions"):
        checkpoint.patch("old.pt", RECIPE)


def test_a_users_stage_does_not_lose_the_block_inside_silently():
    model = trained()
    own_part(model)
    save(model)
    recipe = {"steps": [{"swap": "SKConv", "at": {"rows": 2}}]}
    patched = checkpoint.patch("old.pt", recipe, "exact")
    assert "layer 2" in str(patched.report)
    stage = patched.model.model[2]
    grafted = any(type(m).__name__ == "Blend" for m in stage.modules())
    assert grafted or isinstance(stage.m[0], Halved)


# ------------------------------------------------------------------------------- the comparison


@pytest.mark.parametrize(
    "config", ["yolov8n.yaml", "yolo11n-seg.yaml", "yolov10n.yaml", "yolov8n-sk.yaml"]
)
def test_a_model_is_what_its_own_config_builds(config):
    model = trained(tasks.yaml_model_load(config))
    torch_state = torch.get_rng_state()
    built = rebuild.rebuild(model)
    assert torch.equal(torch.get_rng_state(), torch_state)
    for one, layer in zip(built, model.model, strict=True):
        assert list(rebuild.departures(one, layer)) == []


def test_models_without_rows_are_not_compared():
    model = trained()
    del model.yaml["head"]
    assert rebuild.rebuild(model) is None
    assert rebuild.rebuild(nn.Sequential(C2f(8, 8))) is None
