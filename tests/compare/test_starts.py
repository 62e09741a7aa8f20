"""What variants start from, and what `--dry-run` and the command line take."""

import os
import socket
from dataclasses import replace

import pytest
import torch
import yaml
from ultralytics.nn.tasks import DetectionModel

from yolograft import cli
from yolograft.compare import plan, records, report, run, speed, variants
from yolograft.errors import ConfigError
from yolograft.graft import make as grafts

from .instant import Instant, trainings

SETTINGS = {"imgsz": 64, "device": "cpu", "batch": 4}


@pytest.fixture
def make(tiny, tmp_path):
    def call(base, *variants, **more):
        folder = tmp_path / "project"
        return plan.make(base, [*variants], str(tiny), 1, 1, folder, SETTINGS, **more)

    return call


@pytest.fixture
def trained(model, tmp_path):
    """Write a checkpoint as the stock trainer does, with weights of this seed."""

    def call(name, seed=0, yaml=model):
        torch.manual_seed(seed)
        one = DetectionModel(grafts.load_base(yaml), nc=5, verbose=False)
        for module in one.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias)
        file = str(tmp_path / f"{name}.pt")
        content = {"epoch": -1, "ema": None, "train_args": {"task": "detect"}, "version": "8"}
        torch.save({**content, "model": one.half()}, file)
        return file

    return call


def _patch(file, recipe, target, *more):
    assert cli.main(["patch", file, "--recipe", recipe, "-o", target, *more]) == 0
    return target


@pytest.mark.long
def test_equal_starts_are_not_stopped(make, model, trained, tmp_path):
    """A base and recipes; a trained base, recipes, its grafted copies, and what it can start."""
    assert make(model, "ca", {"name": "same", "model": model}).unequal == ""
    base = trained("a")
    copies = [
        _patch(base, recipe, str(tmp_path / f"a-{recipe}.pt"), *more)
        for recipe, *more in (("ca", "--warm", "exact"), ("sk",), ("spd",))
    ]
    own = tmp_path / "own.yaml"
    own.write_text(variants.yaml_of(make(model, "ca").variants[1]))
    assert make(base, "ca", "sk+ca", *copies, str(own)).unequal == ""


@pytest.mark.parametrize(
    ("base", "variant", "says"),
    [
        ("yaml", "a", "yolov77n starts from scratch, a from the weights of "),
        ("a", "b", "b from the weights of "),
        ("a", "b-sk", "b-sk from the weights of "),
        ("a", "a-tuned", "a-tuned from the weights of "),
        ("a", "larger", "larger from scratch, as it takes nothing of "),
        ("yaml", "downloading", "downloading from downloaded weights"),
    ],
)
def test_unequal_starts_stop(base, variant, says, make, model, trained, tmp_path):
    files = {"yaml": model, "a": trained("a"), "b": trained("b", 1)}
    if variant == "b-sk":
        files[variant] = _patch(files["b"], "sk", str(tmp_path / "b-sk.pt"))
    if variant == "a-tuned":  # a few steps of training with a frozen backbone
        content = torch.load(files["a"], weights_only=False)
        with torch.no_grad():
            for weight in content["model"].model[-1].parameters():
                weight.add_(0.01)
        files[variant] = str(tmp_path / "a-tuned.pt")
        torch.save(content, files[variant])
    if variant == "larger":
        files[variant] = str(tmp_path / "larger.yaml")
        config = yaml.safe_load(open(model.replace("77n", "77")).read())
        (tmp_path / "larger.yaml").write_text(
            yaml.safe_dump({**config, "scales": {"s": [1, 0.5, 1024]}})
        )
    if variant == "downloading":
        files[variant] = str(tmp_path / "downloading.yaml")
        config = yaml.safe_load(open(model.replace("77n", "77")).read())
        torchvision = [-1, 1, "TorchVision", [960, "mobilenet_v3_large", "DEFAULT", True, 2, True]]
        config["backbone"] = [torchvision, [0, 1, "Index", [40, 7]], [0, 1, "Index", [112, 13]]]
        config["head"] = [[[1, 2], 1, "Detect", ["nc"]]]
        (tmp_path / "downloading.yaml").write_text(yaml.safe_dump(config))
    given = files[base], {"name": variant, "model": files[variant]}
    with pytest.raises(ConfigError, match="Unequal starts: ") as caught:
        make(*given)
    assert says in str(caught.value)
    assert "--allow-unequal-starts" in str(caught.value)
    assert not (tmp_path / "project").exists()


@pytest.mark.long
def test_unequal_starts_that_are_allowed_are_on_the_page(make, model, trained):
    allowed = make(model, trained("a"), allow_unequal=True)
    assert "yolov77n starts from scratch, a from the weights of " in allowed.unequal
    run.run(allowed, Instant())
    assert allowed.unequal in report.write(allowed.project)
    assert allowed.unequal in (allowed.project / "report.md").read_text()
    assert '<p class="bad">Unequal starts' in (allowed.project / "report.html").read_text()


# ----------------------------------------------------------------------------------------- gates


def _kinds(model):
    return [(name, type(part).__name__) for name, part in model.named_modules()]


def test_a_gated_model_is_timed_as_it_was_trained(make, trained, tmp_path):
    """Gates that training has opened keep both layers; those that it left alone fold away."""
    base = trained("a")
    file = _patch(base, "sk+ca".replace("+", ","), str(tmp_path / "gated.pt"), "--warm", "exact")
    content = torch.load(file, weights_only=False)
    gates = [m for m in content["model"].modules() if type(m).__name__ == "Blend"]
    assert len(gates) > 2
    gates[0].gamma.data.fill_(1)
    for gate in gates[2:]:
        gate.gamma.data[0] = 0.25
    torch.save(content, file)
    loaded = variants.load_checkpoint(file)
    found = speed.gates(loaded)
    assert found == [1, 0, *[0.5] * (len(gates) - 2)]
    expected = _kinds(loaded.eval().fuse(verbose=False))
    config = variants.load("model", file).config
    timed = speed._fused(config, found, torch.device("cpu"), torch.float32)
    assert _kinds(timed) == expected
    fresh = speed._fused(config, [1.0] * len(gates), torch.device("cpu"), torch.float32)
    assert _kinds(fresh) != expected


@pytest.mark.long
def test_speed_is_measured_again_where_gates_were_trained_otherwise(make, model):
    made = make(model, "ca")
    run.run(made, Instant())
    record = trainings(made.project)["ca-seed0"]
    records.save(made.project / "runs" / record.id / "record.json", replace(record, gates=[0.5]))
    again = Instant()
    run.run(made, again)
    assert again.ran == ["speed"]
    assert records.read(made.project)["speed"].inputs.gates["ca"] == [0.5]


# --------------------------------------------------------------------------------------- dry run


@pytest.fixture
def dry(model, tmp_path, monkeypatch, capsys):
    """Do a dry run, in which a connection or a new file fails the test; return its output."""

    def connected(*args, **kwargs):
        pytest.fail(f"the network was asked for {args}")

    def call(*words):
        for name in ("connect", "connect_ex"):
            monkeypatch.setattr(socket.socket, name, connected)
        monkeypatch.setattr(socket, "getaddrinfo", connected)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        given = ["--base", model, "--project", str(tmp_path / "project"), *map(str, words)]
        settings = [f"{k}={v}" for k, v in SETTINGS.items()]
        status = cli.main(
            ["compare", "--dry-run", "--seeds", "1", "--epochs", "1", *given, *settings]
        )
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        assert status == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return call


@pytest.mark.long
def test_a_dry_run_counts_what_is_finished(dry, make, model, tiny):
    made = make(model, "ca")
    run.run(made, Instant())
    assert "Finished: 3. Remaining: 0." in dry("--recipes", "ca", "--data", tiny)
    out = dry("--recipes", "ca,se", "--data", tiny)
    assert "Finished: 3. Remaining: 1." in out
    assert "4 runs of 1 epochs on 8 training" in out
    out = dry("--recipes", "ca", "--data", tiny, "lr0=0.5")
    assert "Finished: 0. Remaining: 3." in out
    assert "3 runs in the folder are finished with other versions or settings (lr0 not" in out


@pytest.mark.parametrize("download", ["https://127.0.0.1:9/a.zip", "import no_such_module"])
def test_a_dry_run_draws_and_downloads_no_data(download, dry, tmp_path):
    file = tmp_path / "later.yaml"
    content = {"path": str(tmp_path / "later"), "train": "train", "val": "val", "names": {0: "a"}}
    file.write_text(yaml.safe_dump({**content, "download": download}))
    out = dry("--recipes", "ca", "--data", file)
    assert "the data are not here yet" in out
    assert "3 runs of 1 epochs, seeds 0." in out
    assert "the data are not here yet" in dry(
        "--recipes", "ca", "--data", "https://127.0.0.1/a.yaml"
    )


def test_a_dry_run_refuses_data_that_nobody_can_fetch(tmp_path, model, capsys):
    file = tmp_path / "never.yaml"
    content = {"path": str(tmp_path / "never"), "train": "train", "val": "val", "names": {0: "a"}}
    file.write_text(yaml.safe_dump(content))
    words = ["--base", model, "--recipes", "ca", "--data", str(file), "--dry-run", "device=cpu"]
    assert cli.main(["compare", *words]) == 2
    assert "the dataset cannot be used" in capsys.readouterr().err


# ---------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(
    "words",
    [
        ["--recipes", "ca, se", "--device", "cpu"],
        ["--recipes", " ca ,se,"],
        ["--recipes=ca,se", "--device=cpu"],
    ],
)
def test_lists_with_spaces_and_the_device_option(words, dry, tiny):
    out = dry("--data", tiny, *words)
    assert "recipe: ca " in out
    assert "recipe: se " in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--device", "cpu", "device=0"], "--device cpu and device=0 differ"),
        (["--device", "7"], "device=7: there is no device 7"),
        (["--recipes", "ca, ca"], "two variants are called ca"),
        (["--recipes", "ca,", "se"], "'se' is neither a plan file nor key=value"),
    ],
)
def test_what_does_not_fit_is_refused(words, says, model, tiny, tmp_path, capsys):
    given = ["--base", model, "--data", str(tiny), "--recipes", "ca"]
    assert cli.main(["compare", *given, "--project", str(tmp_path / "p"), *words]) == 2
    assert says in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_recipes_with_spaces_are_two_in_one(make, model):
    made = make(model, "ca + se")
    assert made.variants[1].name == "ca+se"


def test_a_folder_that_takes_no_files_is_one_message(model, tiny, tmp_path, capsys, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", str(tmp_path / "p" / "plan.json"))

    monkeypatch.setattr(run, "write_plan", full)
    words = ["--base", model, "--recipes", "ca", "--data", str(tiny), "--device", "cpu"]
    assert cli.main(["compare", *words, "--project", str(tmp_path / "p")]) == 2
    err = capsys.readouterr().err
    assert "plan.json: No space left on device\n\nHint: free some space and start it again" in err
