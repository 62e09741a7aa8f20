"""``freeze=10`` in a grafted model: rows of the base are frozen, blocks train."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from ultralytics.nn import tasks

import yolograft
from yolograft.blocks.blend import Blend
from yolograft.graft import file, graft
from yolograft.warm import freeze

PINNED = yaml.safe_load((Path(__file__).parents[1] / "yolov8-pinned.yaml").read_text())
SMALL = ["imgsz=64", "batch=8", "fraction=0.05", "workers=0", "plots=False", "device=cpu"]
TINY = {
    "nc": 5,
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "C2f", [16, True]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "C2f", [16, True]],
    ],
    "head": [[-1, 1, "Conv", [32, 3, 2]], [[4, 5], 1, "Detect", ["nc"]]],
}


def trains(model, rows):
    """Return the parameters that the host would train, by its rule: a name that holds another."""
    names, text = freeze.translate(model, rows)
    assert bool(text) == ("graft" in model.yaml)
    held = [f"model.{name}." for name in (names if text else rows)]
    return {k for k, _ in model.named_parameters() if not any(part in k for part in held)}


@pytest.mark.parametrize("recipe", ["cbam", "sk", "se", "spd", "aspp", "combo", "stn", "acmix"])
@pytest.mark.parametrize("warm", [None, "exact"])
def test_the_rows_of_the_base_are_frozen_and_no_block_is(recipe, warm):
    """A layer of the base is told by its class: all of ours are blocks, none of them is stock."""
    result = graft({**deepcopy(PINNED), "scale": "n"}, recipe, warm)
    model = tasks.DetectionModel(deepcopy(result.config), verbose=False)
    trained = trains(model, list(range(10)))
    for i, (layer, origin) in enumerate(zip(model.model, result.origins, strict=True)):
        inside = origin.row < 10 and origin.relation != "after"
        ours = [k for k, m in layer.named_modules() if type(m).__module__.startswith("yolograft")]
        olds = [f"{k}.old".lstrip(".") for k, m in layer.named_modules() if isinstance(m, Blend)]
        for name, _ in layer.named_parameters():
            block = any(within(name, one) for one in ours)
            old = any(within(name, one) for one in olds)
            assert (f"model.{i}.{name}" in trained) == (not inside or (block and not old))


def within(name, module):
    return not module or name.startswith(f"{module}.")


def test_a_list_and_names_of_modules():
    config = yolograft.patch({**deepcopy(PINNED), "scale": "n"}, "cbam,sk")
    model = tasks.DetectionModel(config, verbose=False)
    every = {k for k, _ in model.named_parameters()}
    frozen = every - trains(model, [5, "4.m", "22.cv2", ".dfl", 99])
    assert {name.split(".")[1] for name in frozen} == {"4", "6", "28"}
    assert {n[: len("model.4.m.0.cv1")] for n in frozen if n.startswith("model.4.")} == {
        "model.4.m.0.cv1",
        "model.4.m.1.cv1",
    }
    assert all(".cv2." in n or ".dfl" in n for n in frozen if n.startswith("model.28."))


@pytest.mark.parametrize(
    "edit", [lambda r: r[::-1], lambda r: [None] * len(r), lambda r: [3, *r[1:]]]
)
def test_a_broken_record_counts_for_nothing(edit):
    config = yolograft.patch({**deepcopy(PINNED), "scale": "n"}, "cbam")
    config["graft"]["rows"] = edit(config["graft"]["rows"])
    model = tasks.DetectionModel(config, verbose=False)
    assert freeze.translate(model, [0, 9]) == ([], "")


def test_without_a_record_rows_are_counted_as_they_are():
    config = yolograft.patch({**deepcopy(PINNED), "scale": "n"}, "cbam")
    short = {**config, "graft": {**config["graft"], "rows": config["graft"]["rows"][1:]}}
    for other in ({k: v for k, v in config.items() if k != "graft"}, short, deepcopy(PINNED)):
        model = tasks.DetectionModel(other, verbose=False)
        assert freeze.translate(model, [0, 1]) == ([], "")


def test_the_packs_own_files_are_counted_by_their_recipe():
    model = tasks.DetectionModel("yolov8n-cbam.yaml", verbose=False)
    names, text = freeze.translate(model, list(range(10)))
    assert names == ["0", "1", "2", "3", "4", "6", "7", "9", "10", "11"]
    assert text.startswith("yolov8.yaml: layers 0, 1, 2, 3, 4, 6, 7, 9, 10, 11 are frozen")


@pytest.fixture(scope="module")
def trained(yolo, shapes, tmp_path_factory):
    """Train one epoch by the stock command; returns its output, checkpoint and start."""
    folder = tmp_path_factory.mktemp("freeze")
    result = graft(
        TINY,
        {"steps": [{"insert": "SE", "at": {"rows": 1}}, {"swap": "SKConv", "at": {"rows": 4}}]},
    )
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    (folder / "tiny-se.yaml").write_text(file.text(result))

    def run(config, name, *more):
        model = tasks.DetectionModel(str(folder / config), verbose=False)
        start = folder / f"{name}-start.pt"
        torch.save({"model": model, "train_args": {}}, start)
        train = [f"model={config}", f"pretrained={start}", f"data={shapes}", "epochs=1", *SMALL]
        place = [f"project={folder}", f"name={name}", "warmup_epochs=0", "lr0=0.1", "nbs=8"]
        out = yolo("detect", "train", *train, *place, *more, cwd=folder)
        last = torch.load(folder / name / "weights" / "last.pt", weights_only=False)
        return out, last, model

    return run


def moved(last, start):
    """Return the tensors that a training changed; BatchNorm counts batches even where frozen."""
    after, before = last["model"].float().state_dict(), start.half().float().state_dict()
    return {k for k, v in after.items() if not torch.equal(v, before[k]) and "num_" not in k}


def test_the_stock_command_freezes_rows_of_the_base(trained):
    out, last, start = trained("tiny-se.yaml", "grafted", "freeze=5")
    line = next(line for line in out.splitlines() if line.startswith("yolograft: freeze="))
    assert line == (
        "yolograft: freeze=5 counts the rows of the base: layers 0, 1, 3, 4, 5 are frozen, blocks "
        "stay trainable in 2 (SE), 5 (C2f_SKConv)"
    )
    names = moved(last, start)
    assert {name.split(".")[1] for name in names} == {"2", "5", "6", "7"}
    inside = {name for name in names if name.startswith("model.5.")}
    assert inside
    assert all(name.startswith("model.5.m.0.cv2.") for name in inside)
    assert last["train_args"]["freeze"] == 5


@pytest.mark.slow
def test_stock_models_are_frozen_as_ever(trained):
    out, last, start = trained("tiny.yaml", "stock", "freeze=2")
    assert "yolograft: freeze" not in out
    assert {name.split(".")[1] for name in moved(last, start)} == {"2", "3", "4", "5", "6"}
