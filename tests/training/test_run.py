"""``yolograft train`` and ``val``: arguments, data without a YAML, resuming, two machines."""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import yaml
from ultralytics.nn.tasks import DetectionModel

from yolograft import ConfigError, cli
from yolograft.training import nodes, run

SCRIPTS = Path(__file__).parents[2] / "scripts"
SMALL = ["imgsz=64", "batch=4", "conf=0.00001", "plots=False"]


@pytest.fixture
def direct(coco, tmp_path):
    """Options that name the JSON and the images of a set in an unusual layout."""
    coco()
    root = tmp_path / "set"
    (root / "images").rename(root / "pictures")
    found = {}
    for split in ("train", "val"):
        found[split] = [f"--coco-{split}", str(root / "annotations" / f"instances_{split}.json")]
        found[split] += [f"--{split}-images", str(root / "pictures" / split)]
    return found


def options(*words):
    """What Ultralytics is given for a command line."""
    seen = []
    patched = pytest.MonkeyPatch()
    with patched.context() as patch:
        patch.setattr(run, "train", lambda args: seen.append(run._options(args)) or 0)
        assert cli.main(["train", *words]) == 0
    return seen[0]


def test_words_become_ultralytics_arguments():
    given = options("epochs=3", "--model", "a.yaml", "--data", "b.yaml", "lr0=1e-3", "--seed", "4")
    assert given == {"epochs": 3, "model": "a.yaml", "data": "b.yaml", "lr0": 1e-3, "seed": 4}
    given = options("--device", "0,1", "model=a.yaml", "--pretrained", "False", "name=007")
    assert given == {"device": "0,1", "model": "a.yaml", "pretrained": False, "name": "007"}


def test_a_file_of_arguments(tmp_path):
    """It overrides what depends on the device, and is overridden by the command line."""
    file = tmp_path / "mine.yaml"
    file.write_text("model: a.yaml\ndata: b.yaml\nworkers: 3\nepochs: 7\nmode: train\ntime:\n")
    given = options(f"cfg={file}", "epochs=2")
    assert given == {"model": "a.yaml", "data": "b.yaml", "workers": 3, "epochs": 2}


def test_json_by_option(direct, cache, tmp_path):
    file = options(*direct["train"], *direct["val"], "--model", "a.yaml")["data"]
    assert cache in Path(file).parents  # never beside the data
    root = tmp_path / "set"
    assert yaml.safe_load(Path(file).read_text()) == {
        "images": {split: str(root / "pictures" / split) for split in ("train", "val")},
        **{s: [str(root / "annotations" / f"instances_{s}.json")] for s in ("train", "val")},
        "allow_missing": False,
    }
    assert options(*direct["train"], *direct["val"], "--model", "a.yaml")["data"] == file
    assert options(*direct["train"], *direct["val"], "--allow-missing")["data"] != file


def test_allow_missing_of_a_data_yaml(coco, build, cache, tmp_path):
    file = coco(more={"path": "set"})
    for i in (0, 3):
        (tmp_path / "set" / "images" / "train" / f"00{i}.jpg").unlink()
    other = options("--data", str(file), "--allow-missing")["data"]
    assert cache in Path(other).parents
    assert len(build(other)) == 4
    assert options("--data", str(file))["data"] == str(file)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--data", "a.yaml"], "no model to train"),
        (["--model", "yolov8n.yaml"], "no data to train on"),
        (["--model", "yolov8n.yaml", "--data", "a.yaml", "epoch=3"], "did you mean epochs?"),
        (["--model", "yolov8n.yaml", "--data", "a.yaml", "epochs="], "epochs=: no value"),
        (["--model", "yolov8n.yaml", "--data", "a.yaml", "epochs=many"], "'epochs=many'"),
        (["--model", "yolov8n.yaml", "--data", "a.yaml", "coco"], "'coco' is not key=value"),
        (["--model", "yolov8n.yaml", "model=yolov8s.yaml"], "model=yolov8s.yaml: given twice"),
        (["--model", "yolov8n.yaml", "imgsz=64", "imgsz=32"], "imgsz=32: given twice"),
        (["--model", "gone.yaml", "--data", "a.yaml"], "gone.yaml"),
        (["--model", "yolov8n.yaml", "--data", "gone.yaml"], "gone.yaml"),
        (["--coco-train", "gone.json"], "--coco-train gone.json: no such file"),
        (["--coco-val", __file__], "--coco-train is missing"),
        (["--coco-train", __file__], "--coco-val is missing"),
        (["--coco-train", __file__, "--train-images", "gone"], "--train-images gone: no such fol"),
        (["--coco-train", __file__, "--data", "a.yaml"], "--coco-train and --coco-val name data"),
        (["--resume", "gone.pt"], "gone.pt"),
        (["cfg=gone.yaml"], "cfg=gone.yaml: "),
    ],
)
def test_refusals(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *words]) == 2
    text = capsys.readouterr().err
    assert says in text
    assert "\n\nHint: " in text
    assert not list(tmp_path.iterdir())


def test_val_needs_a_model_and_data(capsys):
    for words, says in (([], "no model to validate"), (["--model", "a.pt"], "no data to validate")):
        assert cli.main(["val", *words]) == 2
        assert says in capsys.readouterr().err


def test_folders_for_several_files(direct, capsys):
    images = direct["train"][2:]
    assert cli.main(["train", *direct["train"] * 3, *direct["val"]]) == 2  # the same file again
    assert "no model to train" in capsys.readouterr().err
    words = [*direct["train"], *images, *direct["val"], "--model", "yolov8n.yaml"]
    assert cli.main(["train", *words]) == 2
    assert "names 2 folders for 1 JSON files" in capsys.readouterr().err


def test_unknown_options_are_refused(capsys):
    for words in (["train", "--epochs", "3"], ["list", "SK", "more=1"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(words)
        assert "unrecognized arguments" in capsys.readouterr().err


def test_defaults_by_device(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    cpu = {"amp": False, "cache": False, "workers": 0}
    assert run.defaults("cpu") == cpu
    assert run.defaults("0") == {"amp": True, "cache": False, "workers": 8}
    assert run.defaults("0,1,2") == {"amp": True, "cache": False, "workers": 4}
    assert run.defaults(0)["amp"]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "6")  # torchrun
    assert run.defaults("0")["workers"] == 2
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run.defaults(None) == cpu


def test_each_process_needs_a_gpu(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"device=0,1, but torchrun has started 3"):
        nodes.group("0,1").__enter__()


def test_help_teaches(capsys):
    for command, word in (("train", "torchrun"), ("val", "--coco-val"), ("coco check", "sheet")):
        with pytest.raises(SystemExit, match="0"):
            cli.main([*command.split(), "--help"])
        assert word in capsys.readouterr().out


@pytest.mark.long
def test_train_resume_val(direct, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted((tmp_path / "set").rglob("*"))
    place = [f"project={tmp_path / 'runs'}", "save_period=1"]
    data = [*direct["train"], *direct["val"]]
    words = ["--model", "yolov8n.yaml", *data, "--seed", "1", "--device", "cpu"]
    assert cli.main(["train", *words, "epochs=2", "name=run", *SMALL, *place]) == 0
    folder = tmp_path / "runs" / "run"
    told = json.loads((folder / "coco_metrics.json").read_text())
    out = capsys.readouterr().out
    assert f"{folder / 'coco_metrics.json'}: 6 images of {direct['val'][1]}" in out
    assert f"{'COCO bbox':>22}" in out[out.rindex("coco_metrics.json") :]

    # the JSON once more, alone
    words = ["--model", str(folder / "weights" / "best.pt"), *direct["val"], "--device", "cpu"]
    words += ["imgsz=64", "batch=8", "conf=0.00001", "plots=False"]  # as a training validates
    assert cli.main(["val", *words, f"project={tmp_path / 'runs'}", "name=val"]) == 0
    again = json.loads((tmp_path / "runs" / "val" / "coco_metrics.json").read_text())
    assert again["bbox"] == pytest.approx(told["bbox"], abs=1e-6)
    scores = [
        sorted(row["score"] for row in json.loads((run / "predictions.json").read_text()))
        for run in (folder, tmp_path / "runs" / "val")
    ]
    assert len(scores[0]) == told["predictions"] > 0
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)

    # a finished run cannot be resumed; a checkpoint of its first epoch can
    last = folder / "weights" / "last.pt"
    capsys.readouterr()
    assert cli.main(["train", "--resume", str(last)]) == 2
    assert "this training is finished" in capsys.readouterr().err
    assert cli.main(["train", "--resume", str(folder / "weights" / "epoch0.pt")]) == 0
    with (folder / "results.csv").open() as file:
        assert [row[0] for row in csv.reader(file)] == ["epoch", "1", "2", "2"]
    assert sorted((tmp_path / "set").rglob("*")) == before


def test_recipe(cache):
    file = run._grafted("yolo11n.yaml", "cbam")
    assert cache in Path(file).parents
    model = DetectionModel(file, verbose=False)
    assert [type(layer).__name__ for layer in model.model].count("CBAM") > 3
    assert model.yaml["scale"] == "n"


def launch(folder, *machines):
    """Start a launcher for each list of words, as on as many machines; torchrun gives the ranks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for rank, words in enumerate(machines):
        command = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={len(machines)}"]
        command += ["--nproc-per-node=1", f"--node-rank={rank}", "--master-addr=127.0.0.1"]
        command += [f"--master-port={port}", SCRIPTS / "train.py", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(list(map(str, command)), cwd=folder, **pipes))
    return started


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_machines(direct, cache, tmp_path):
    """Two launchers on this machine, as on two: torchrun gives them their ranks."""
    data = [*direct["train"], *direct["val"]]
    train = ["--model", "yolov8n.yaml", *data, "--device", "cpu"]
    train += ["epochs=1", f"project={tmp_path / 'runs'}", "name=run", *SMALL]
    nodes = launch(tmp_path, train, train)
    first, second = (node.communicate(timeout=1700)[0] for node in nodes)
    assert [node.returncode for node in nodes] == [0, 0], first[-3000:] + second[-3000:]
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["run"]
    told = json.loads((tmp_path / "runs" / "run" / "coco_metrics.json").read_text())
    assert told["images"] == 6
    assert told["predictions"] == len(
        json.loads((tmp_path / "runs" / "run" / "predictions.json").read_text())
    )
    assert "coco_metrics.json: 6 images" in first
    assert "COCO bbox" not in second


def end(started):
    """Return what each printed, once all have ended, and the seconds from the first to the last."""
    files = [tempfile.TemporaryFile("w+") for _ in started]
    threads = [
        threading.Thread(target=shutil.copyfileobj, args=(process.stdout, file))
        for process, file in zip(started, files, strict=True)
    ]
    for thread in threads:
        thread.start()
    while all(process.poll() is None for process in started):
        time.sleep(0.1)
    first = time.monotonic()
    try:
        for process in started:
            process.wait(timeout=60)
    finally:
        for process in started:
            process.kill()
    seconds = time.monotonic() - first
    for thread, file in zip(threads, files, strict=True):
        thread.join()
        file.seek(0)
    return [file.read() for file in files], seconds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "change", "says"),
    [
        (1, ["--data", "gone.yaml"], "gone.yaml: 'gone.yaml' does not exist"),
        (0, ["--data", "gone.yaml"], "gone.yaml: 'gone.yaml' does not exist"),
        (1, ["--device", "0"], "device=0, but "),
    ],
)
def test_a_machine_that_refuses_ends_the_others(who, change, says, coco, cache, tmp_path):
    words = {"--model": "yolov8n.yaml", "--data": str(coco()), "--device": "cpu"}
    machines = []
    for rank in range(2):
        given = words | ({change[0]: change[1]} if rank == who else {})
        machines.append([*(w for pair in given.items() for w in pair), "epochs=1", *SMALL])
    started = launch(tmp_path, *machines)
    texts, seconds = end(started)
    assert seconds < 30
    for process, text in zip(started, texts, strict=True):
        assert process.returncode
        assert says in text


ALONE = """
import sys, time
from yolograft import cli
from yolograft.training import run, watch
watch.GRACE = 1
def train(args):
    print("ready", flush=True)
    time.sleep(200)
run.train = train
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("who", "words", "says"),
    [
        (1, ["--epochs", "3"], "process 1 on {host} stopped: unrecognized arguments: --epochs;"),
        pytest.param(
            *(0, ["--seed", "x"], "process 0 on {host} stopped: argument --seed: invalid int"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(1, None, "process 1 on {host} was killed or disconnected"),
            marks=pytest.mark.slow,
        ),
        (0, None, "process 0 on 127.0.0.1 was killed or disconnected"),
    ],
)
@pytest.mark.long
def test_a_process_that_stops_ends_the_others(who, words, says):
    """With the variables of torchrun, and no torchrun, which would end one machine by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", ALONE, "train", *(words or [] if rank == who else [])],
            env={**env, "RANK": str(rank), "LOCAL_RANK": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    other = started[1 - who]
    if words is None:
        assert [process.stdout.readline() for process in started] == ["ready\n"] * 2
        started[who].kill()
    texts, seconds = end(started)
    assert seconds < 30
    assert other.returncode == 2
    assert says.format(host=socket.gethostname()) in texts[1 - who]
