"""What a warm start may carry where: other scales, edited configs, models that classify by text.

Each layer of a tagged base holds its own number in all its weights, so that a tensor tells where it
came from.
"""

import random
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from random_configs import random_recipe, small_config
from test_warm import pinned, trained, warm
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks

import yolograft
from yolograft import ConfigError
from yolograft.graft import file, graft
from yolograft.warm import transplant


def tagged(config, **options):
    """Return a model whose weights are the number of their layer, from 1 on."""
    model = tasks.DetectionModel(deepcopy(config), verbose=False, **options)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.fill_(int(name.split(".")[1]) + 1)
    return model


def old_style(config):
    """Return a config as old releases wrote it, with two numbers for its scale."""
    config = deepcopy(config)
    depth, width, _ = config.pop("scales")[config.pop("scale")]
    return {**config, "depth_multiple": depth, "width_multiple": width}


def strides(model):
    """Return the stride of each layer's map."""
    found = {}

    def note(layer, args, y):
        found[layer.i] = 128 / y.shape[-1] if isinstance(y, torch.Tensor) else None

    handles = [layer.register_forward_hook(note) for layer in model.model]
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 128, 128))
    for handle in handles:
        handle.remove()
    return found


def carried(model, base, before):
    """Return the layer of a tagged base that each layer has tensors of, and check the strides."""
    found, mine, theirs = {}, strides(model), strides(base)
    for name, tensor in model.state_dict().items():
        values = tensor.unique()
        if len(values) > 1 or float(values) < 1 or torch.equal(tensor, before[name]):
            continue
        if not tensor.is_floating_point():
            continue
        i, j = int(name.split(".")[1]), int(values) - 1
        assert mine[i] == theirs[j]
        assert found.setdefault(i, j) == j
    return found


# ------------------------------------------------------------------------------------------- scale


@pytest.mark.parametrize(
    ("base", "there", "here", "says"),
    [
        ("yolov8", "s", "n", "32 to 512 channels, those of the config 16 to 256"),
        ("yolov8", "n", "s", "16 to 256 channels, those of the config 32 to 512"),
        ("yolo11", "m", "l", "hold 1, 1, 1, 1, 1, 1, 1, 1, 1 blocks, those of the config 2, 2"),
    ],
)
def test_another_scale_in_an_old_config_is_refused(base, there, here, says):
    config = tasks.yaml_model_load(f"{base}{there}.yaml")
    if base == "yolo11":  # old configs had no such stages
        source = tasks.DetectionModel(config, verbose=False)
        source.yaml = old_style(config)
    else:
        source = tasks.DetectionModel(old_style(config), verbose=False)
    source.pt_path = "best.pt"
    model = tasks.DetectionModel(yolograft.patch(f"{base}{here}.yaml", "se"), verbose=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ConfigError) as error:
        model.load(source)
    text = str(error.value)
    assert text.startswith(f"best.pt is a model of scale {there}, the config {base}{here}-se.yaml")
    assert f"is of scale {here}: " in text
    assert says in text
    assert f"use the config at scale {there}, or a checkpoint of scale {here}" in text
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_letter_that_lies_decides_nothing():
    same = pinned("s", scales={"s": [0.33, 0.25, 1024]})
    other = pinned("n", scales={"n": [0.33, 0.5, 1024]})
    model = tasks.DetectionModel(yolograft.patch(pinned(), "se"), verbose=False)
    assert warm(model, tagged(same)).carried == 355
    assert warm(model, tagged(old_style(pinned()))).carried == 355
    with pytest.raises(ConfigError, match="of scale s"):
        warm(model, tagged(other))


def test_a_checkpoint_that_does_not_name_its_scale_is_taken_for_what_it_is():
    source = tagged(pinned("s"))
    del source.yaml["scale"]  # alone, it builds scale n
    model = tasks.DetectionModel(yolograft.patch(pinned("s"), "se"), verbose=False)
    assert warm(model, source).carried == 355


def test_rows_of_other_width_and_depth_are_edits_and_cost_only_themselves():
    config = pinned()
    config["backbone"][4][1], config["head"][5][3] = 12, [320]
    base = tagged(config)
    model = tasks.DetectionModel(yolograft.patch(pinned(), "se"), verbose=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    report = warm(model, base)
    assert report.carried > 250
    # The rows themselves, the two that read row 15, and nothing else.
    inside = {row for i, row in carried(model, base, before).items()}
    assert inside == {*range(23)} - {10, 11, 13, 14, 17, 20} - {4, 15, 16}


@pytest.mark.parametrize("nc", [80, 3])
@pytest.mark.parametrize("other", ["yolov8n-p2.yaml", "yolov8n-p6.yaml", "yolov5n.yaml"])
def test_another_pyramid_takes_nothing_at_another_stride(other, nc):
    """With another number of classes a head was taken over by the names of its tensors."""
    base = tagged({**tasks.yaml_model_load("yolov8n.yaml"), "nc": nc})
    model = tasks.DetectionModel(yolograft.patch(other, "se"), verbose=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.load(base)
    found = carried(model, base, before)
    assert len(found) > 5
    assert ((len(model.model) - 1) in found) == (other == "yolov5n.yaml")


# ------------------------------------------------------------------------------------------ record


def test_a_head_that_was_pointed_at_other_rows_is_left_out():
    config = yolograft.patch(pinned(), "ca")
    config["head"][-1][0] = [4, 7, 11]  # rows of the backbone, of the same shapes
    base = tagged(pinned())
    assert tasks.DetectionModel(deepcopy(config), verbose=False).stride.tolist() == [8, 16, 32]
    for record in (True, False):
        one = {k: v for k, v in config.items() if record or k != "graft"}
        model = tasks.DetectionModel(deepcopy(one), verbose=False)
        report = warm(model, base)
        assert report.carried == 355 - len(base.model[-1].state_dict())
        assert "reads a different layer" in str(report)


def test_equal_models_that_read_other_rows_do_not_go_the_stock_way():
    config = yolograft.patch(pinned(), "ca")
    base = tagged(config)
    config["head"][-1][0] = [4, 7, 11]
    model = tasks.DetectionModel(config, verbose=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.load(base)
    assert len(model.model) - 1 not in carried(model, base, before)


def edited(rng, config, ids):
    """Edit a config as a hand does; ``ids`` says which row of the base each row is."""
    rows, split = deepcopy([*config["backbone"], *config["head"]]), len(config["backbone"])
    last, at = len(rows) - 1, rng.randrange(1, len(rows) - 2)
    action = rng.choice(("swap", "head", "read", "rename", "deeper", "move"))
    if action == "swap":
        rows[at : at + 2], ids[at : at + 2] = rows[at : at + 2][::-1], ids[at : at + 2][::-1]
    elif action == "head":
        rows[-1][0][rng.randrange(len(rows[-1][0]))] = rng.randrange(last)
    elif action == "read" and not isinstance(rows[at][0], list):
        rows[at][0] = rng.randrange(at)
    elif action == "rename":
        rows[at], ids[at] = [rows[at][0], 1, "CBAM", []], None
    elif action == "deeper":
        rows[at][1] = 6
    elif action == "move":
        row, one = rows.pop(at), ids.pop(at)
        to = rng.randrange(1, last)
        rows.insert(to, row)
        ids.insert(to, one)
    return {**config, "backbone": rows[:split], "head": rows[split:]}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_no_edit_by_hand_leads_a_tensor_to_another_row(part):
    tried = 0
    for seed in range(8 * part, 8 * part + 8):
        rng = random.Random(seed)
        config = {**small_config(rng), "scale": "n"}
        try:
            result = graft(config, random_recipe(rng), rng.choice((None, "exact")))
        except ConfigError:
            continue
        if "DeformConv" in str(result.rows) or not isinstance(result.rows[-1][0], list):
            continue  # its weights are doubled
        ids = [None if o.relation == "after" else o.row for o in result.origins]
        new = edited(rng, result.config, ids)
        unrecorded = {k: v for k, v in new.items() if k != "graft"}
        base, counts = tagged(config), []
        written = [row[1:] for row in (*config["backbone"], *config["head"])]

        def alike(one, other, base=base, written=written):
            same = repr(base.model[one]) == repr(base.model[other])
            return one == other or same or written[one] == written[other]

        for one in (new, unrecorded):
            try:
                model = tasks.DetectionModel(deepcopy(one), verbose=False)
                before = {k: v.clone() for k, v in model.state_dict().items()}
                report = warm(model, base)
            except (ConfigError, RuntimeError, IndexError, TypeError, ValueError):
                break  # the edit makes no model
            counts.append(report.carried)
            for i, j in carried(model, base, before).items():
                assert ids[i] is not None
                assert alike(ids[i], j), seed
        if counts:
            tried += 1
            assert counts[0] >= counts[1]
    assert tried


def test_a_block_that_was_inserted_does_not_decide_between_equal_layers():
    config = {
        "nc": 3,
        "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "C2f", [16]], [-1, 1, "C2f", [16]]],
        "head": [[-1, 1, "Conv", [32, 3, 2]], [[2, 3], 1, "Detect", ["nc"]]],
    }
    new = deepcopy(config)
    new["backbone"][2] = [-1, 1, "SE", []]  # either of the two stages is gone
    model = tasks.DetectionModel(new, verbose=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    base = tagged(config)
    report = warm(model, base)
    assert 1 not in carried(model, base, before)
    assert "not carried: " in str(report)


# ----------------------------------------------------------------------------------- text prompts

TEXTS = [("yolov8s-worldv2.yaml", 3), ("yolov8s-worldv2.yaml", 80), ("yoloe-v8s.yaml", 3)]


def prompted(name, classes, folded=False):
    """Return a World or YOLOE model of some classes, as ``set_classes`` leaves it."""
    kind = tasks.WorldModel if "world" in name else tasks.YOLOEModel
    model = trained(tasks.yaml_model_load(name), kind)
    names = [f"thing {i}" for i in range(classes)]
    vectors = nn.functional.normalize(torch.randn(1, classes, 512), dim=-1)
    if "world" in name:
        model.txt_feats, model.names, model.model[-1].nc = vectors, names, classes
    else:
        model.eval().set_classes(names, vectors)
    if folded:
        model.model[-1].fuse(model.pe)
    model.task = "detect"
    return model


def raw(model):
    with torch.no_grad():
        x = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(2)).double()
        return model.double().eval()(x)[0]


@pytest.mark.parametrize(
    ("name", "classes", "folded"), [(*t, False) for t in TEXTS] + [("yoloe-v8s.yaml", 3, True)]
)
def test_the_classes_of_text_models_come_along(name, classes, folded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = prompted(name, classes, folded)
    torch.save({"model": deepcopy(source), "ema": None, "train_args": {"task": "detect"}}, "w.pt")
    patched = yolograft.patch("w.pt", "sk", warm="exact")
    own = name.replace(".yaml", "-own.yaml")
    Path(own).write_text(file.text(graft(name, "sk", warm="exact")))
    model = YOLO(own).load("w.pt").model
    want = raw(source)
    for one in (patched, model):
        assert one.names == source.names
        assert one.model[-1].nc == classes
        got = raw(one)
        assert got.shape == want.shape
        assert float((got - want).abs().max()) < 1e-9


def test_a_trainer_keeps_its_number_of_classes_and_what_is_missing_is_reported():
    source = prompted("yolov8s-worldv2.yaml", 80)
    model = tasks.WorldModel(yolograft.patch("yolov8s-worldv2.yaml", "sk"), nc=3, verbose=False)
    report = warm(model, source)
    assert model.model[-1].nc == 3
    assert report.carried == report.total - 1
    assert "not carried: txt_feats of the checkpoint: it has 80 classes, the model has 3" in str(
        report
    )


def test_folded_classes_are_refused_where_the_head_cannot_take_them():
    source = prompted("yoloe-v8s.yaml", 3, folded=True)
    model = tasks.YOLOEModel(yolograft.patch("yoloe-v8s.yaml", "sk"), verbose=False)
    with pytest.raises(ConfigError, match="its classes are folded into its head"):
        warm(model, source)


def test_concerned_are_models_with_a_record_even_without_a_block():
    config = {**pinned(), "graft": {"base": "yolov8.yaml", "rows": [*range(23)]}}
    model = tasks.DetectionModel(config, verbose=False)
    assert transplant.concerns(model, tagged(pinned()))
