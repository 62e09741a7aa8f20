"""The whole life of a grafted model, by the stock command."""

import csv
import math
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from ultralytics.nn import tasks

from yolograft.files import CFG
from yolograft.graft import file, graft

pytestmark = pytest.mark.long

#: One config for each way in: attention behind stages, a convolution inside them that exports by
#: another path, a down-sampling, a backbone. The others are under `pytest -m slow`.
SAMPLE = {"cbam", "dcn", "hrnet", "spd"}
CONFIGS = [
    pytest.param(
        name,
        # one worker for all that needs a run, so that it is made once
        marks=[pytest.mark.xdist_group(name), *([] if name in SAMPLE else [pytest.mark.slow])],
    )
    for name in sorted(path.stem.removeprefix("yolov8-") for path in CFG.glob("yolov8-*.yaml"))
]
SMALL = ["imgsz=64", "batch=16", "fraction=0.2", "workers=0", "plots=False", "device=cpu"]


def results(run):
    """Return results.csv as a list of dicts of floats."""
    with (run / "results.csv").open() as file:
        return [{k.strip(): float(v) for k, v in row.items()} for row in csv.DictReader(file)]


#: Both sides of a warm start's gates, at work.
GATES = pytest.param("gates", marks=[pytest.mark.xdist_group("gates"), pytest.mark.slow])


@pytest.fixture(scope="module", params=[*CONFIGS, GATES])
def run(request, shapes, yolo, tmp_path_factory):
    """A run that was killed after its first epoch and then resumed."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "gates":
        gated = file.text(graft("yolov8n.yaml", "sk,cbam,spd", warm="exact"))
        (folder / "yolov8n-gates.yaml").write_text(gated)
    run = folder / "runs" / "first"
    train = [f"model=yolov8n-{request.param}.yaml", f"data={shapes}", "epochs=3", *SMALL]
    place = [f"project={folder / 'runs'}", "name=first"]
    process = yolo("detect", "train", *train, *place, cwd=folder, wait=False)
    last = run / "weights" / "last.pt"
    while not zipfile.is_zipfile(last):  # it is once it is written to its end
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert len(results(run)) < 3
    yolo("train", "resume", f"model={last}", cwd=folder)
    return run


def test_killed_and_resumed_training_ends_with_finite_losses(run):
    rows = results(run)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    losses = [v for row in rows for k, v in row.items() if "loss" in k]
    assert losses
    assert all(map(math.isfinite, losses))
    assert (run / "weights" / "best.pt").exists()


def test_val_and_predict(run, shapes, yolo):
    best = run / "weights" / "best.pt"
    out = yolo("val", f"model={best}", f"data={shapes}", *SMALL, cwd=run)
    assert re.search(r"^ +all +60 +270 ", out, re.M)  # images and objects of the split
    source = shapes.parent / "shapes" / "images" / "val" / "000.png"
    place = [f"project={run}", "name=predict"]
    yolo("predict", f"model={best}", f"source={source}", "imgsz=64", "conf=0.01", *place, cwd=run)
    assert list((run / "predict").glob("000.*"))


def test_a_checkpoint_fine_tunes_without_autoload(run, shapes, yolo):
    best, tune = run / "weights" / "best.pt", ["epochs=1", *SMALL]
    args = ["train", f"model={best}", f"data={shapes}", *tune]
    out = yolo(*args, cwd=run, env={"YOLOGRAFT_AUTOLOAD": "0"})
    carried, of = re.search(r"Transferred (\d+)/(\d+) items", out).groups()
    assert carried == of


@pytest.mark.skipif(not hasattr(tasks, "_SafeLoad"), reason="this Ultralytics has no safe load")
def test_a_checkpoint_under_safe_load(run, shapes, yolo):
    best, tune = run / "weights" / "best.pt", ["epochs=1", *SMALL]
    args = ["train", f"model={best}", f"data={shapes}", *tune]
    safe = {"ULTRALYTICS_SAFE_LOAD": "1"}
    yolo(*args, cwd=run, env=safe)
    out = yolo(*args, cwd=run, env={**safe, "YOLOGRAFT_AUTOLOAD": "0"}, ok=False)
    assert "references types outside the supported Ultralytics checkpoint format" in out


EXPORTS = {
    "onnx": ["format=onnx"],
    "onnx-dynamic": ["format=onnx", "dynamic=True"],
    "torchscript": ["format=torchscript"],
    "openvino": ["format=openvino"],
}


def runner(file):
    """Return a function that runs an exported model in float32."""
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])
    if file.suffix == ".torchscript":
        return torch.jit.load(file)
    import openvino

    # Left to itself, OpenVINO computes in bfloat16 on processors that can.
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(file / "best.xml", "CPU", precision)
    return lambda x: torch.from_numpy(model(x.numpy())[0])


@pytest.mark.parametrize("kind", EXPORTS)
def test_exports_agree_with_eager_and_validate(run, shapes, yolo, kind):
    from ultralytics import YOLO

    if kind.startswith("onnx"):
        pytest.importorskip("onnxruntime")
    if kind == "openvino":
        pytest.importorskip("openvino")
    best = run / "weights" / "best.pt"
    yolo("export", f"model={best}", "imgsz=64", *EXPORTS[kind], cwd=run)
    name = {"torchscript": "best.torchscript", "openvino": "best_openvino_model"}.get(kind)
    file = best.with_name(name or "best.onnx")
    eager = YOLO(best).model.eval().fuse(verbose=False)
    exported = runner(file)
    sizes = [(1, 3, 64, 64), (2, 3, 96, 160)] if kind == "onnx-dynamic" else [(1, 3, 64, 64)]
    for size in sizes:
        x = torch.rand(size)
        with torch.no_grad():
            want = eager(x)[0]
        torch.testing.assert_close(exported(x), want, rtol=0, atol=1e-3)
    yolo("val", f"model={file}", f"data={shapes}", *SMALL, cwd=run)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """A data YAML of real images (blood cells), copied: Ultralytics writes beside the labels."""
    root = os.environ.get("YOLOGRAFT_TEST_DATA")
    if not root:
        pytest.skip("YOLOGRAFT_TEST_DATA is not set: a folder that holds bccd/data.yaml")
    folder = tmp_path_factory.mktemp("real") / "bccd"
    shutil.copytree(Path(root) / "bccd", folder, copy_function=shutil.copyfile)
    for path in (folder, *(p for p in folder.iterdir() if p.is_dir())):
        path.chmod(0o755)  # the source may be read-only
    config = yaml.safe_load((folder / "data.yaml").read_text())
    config["path"] = str(folder)
    (folder / "here.yaml").write_text(yaml.safe_dump(config))
    return folder / "here.yaml"


@pytest.mark.parametrize("name", CONFIGS)
def test_real_images_train_and_export(name, cells, yolo, tmp_path):
    import cv2
    from ultralytics import YOLO

    pytest.importorskip("onnxruntime")
    options = [f"data={cells}", "epochs=1", *SMALL, "imgsz=160", f"project={tmp_path}", "name=run"]
    yolo("train", f"model=yolov8n-{name}.yaml", *options, cwd=tmp_path)
    losses = [v for row in results(tmp_path / "run") for k, v in row.items() if "loss" in k]
    assert all(map(math.isfinite, losses))
    best = tmp_path / "run" / "weights" / "best.pt"
    yolo("export", f"model={best}", "format=onnx", "dynamic=True", "imgsz=160", cwd=tmp_path)
    eager = YOLO(best).model.eval().fuse(verbose=False)
    exported = runner(best.with_suffix(".onnx"))
    images = sorted((cells.parent / "images").iterdir())[:10]
    assert len(images) == 10
    for i, path in enumerate(images):
        size = (160, 160) if i % 2 else (224, 160)
        image = cv2.resize(cv2.imread(str(path)), size)[..., ::-1].transpose(2, 0, 1)
        x = torch.from_numpy(image.copy())[None] / 255
        with torch.no_grad():
            torch.testing.assert_close(exported(x), eager(x)[0], rtol=0, atol=1e-3)


# ------------------------------------------------------------------- once, with one of the configs


TINY = {
    "epochs": 1,
    "imgsz": 64,
    "fraction": 0.1,
    "workers": 0,
    "plots": False,
    "device": "cpu",
}


def overrides(name, data, folder, **more):
    model = f"yolov8n-{name}.yaml"
    place = {"data": str(data), "project": str(folder), "name": "run"}
    return {"model": model, "batch": 16, **TINY, **place, **more}


def test_the_ddp_workers_file_builds_the_trainer_in_a_fresh_process(shapes, tmp_path, monkeypatch):
    pytest.importorskip("cloudpickle")
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.utils import dist

    monkeypatch.setattr(dist, "USER_CONFIG_DIR", tmp_path)
    trainer = DetectionTrainer(overrides=overrides("cbam", shapes, tmp_path))
    file = dist.generate_ddp_file(trainer)
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "yolograft.blocks.cbam.CBAM" in done.stdout + done.stderr
    assert (trainer.save_dir / "weights" / "best.pt").exists()


RANK = """
import os
import sys

import torch
from torch import distributed, nn
from ultralytics.models.yolo.detect import DetectionTrainer


class OnCpu(nn.parallel.DistributedDataParallel):
    def __init__(self, module, device_ids=None, **kwargs):
        super().__init__(module, **kwargs)


class Gloo(DetectionTrainer):
    # Ultralytics has no DDP on CPU: join a gloo group.
    def _setup_ddp(self):
        nn.parallel.DistributedDataParallel = OnCpu
        distributed.init_process_group("gloo")


def keep(trainer):
    folder, rank = sys.argv[1], os.environ["RANK"]
    named = dict(trainer.model.module.named_parameters())
    torch.save({k: p.detach() for k, p in named.items()}, f"{folder}/rank{rank}.pt")
    distributed.barrier()
    sys.exit()  # the stock validator wants a GPU in a group


trainer = Gloo(overrides=OVERRIDES)
trainer.world_size = 2
trainer.add_callback("on_train_epoch_end", keep)
trainer.train()
"""


@pytest.mark.parametrize("name", CONFIGS)
def test_two_ranks_hold_equal_weights_after_a_step(name, shapes, tmp_path):
    settings = overrides(name, shapes, tmp_path, val=False, warmup_epochs=0, nbs=16)
    script = tmp_path / "rank.py"
    script.write_text(RANK.replace("OVERRIDES", repr(settings)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run([*command, script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(tmp_path / f"rank{i}.pt") for i in range(2))
    assert len(one) > 100
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=0, atol=0, msg=key)


def test_a_notebook_session(shapes, tmp_path, monkeypatch):
    from ultralytics import YOLO

    from yolograft.blocks import SPDConv

    monkeypatch.chdir(tmp_path)
    model = YOLO("yolov8n-spd.yaml")
    seen = []
    model.add_callback("on_val_end", lambda validator: seen.append(validator))
    model.train(data=shapes, project=tmp_path, name="cell", **TINY)
    assert seen
    again = YOLO(tmp_path / "cell" / "weights" / "best.pt")
    assert isinstance(again.model.model[0], SPDConv)
    found = again.val(data=shapes, imgsz=64, plots=False, device="cpu")
    assert found.nt_per_class.sum() == 270  # objects of the split
    assert len(again.predict(shapes.parent / "shapes/images/val/001.png", imgsz=64)) == 1
    again.train(data=shapes, project=tmp_path, name="more", **TINY)


def test_tune(shapes, tmp_path, monkeypatch):
    from ultralytics import YOLO

    monkeypatch.chdir(tmp_path)
    model = YOLO("yolov8n-sk.yaml")
    model.tune(data=str(shapes), iterations=2, project=str(tmp_path), val=False, **TINY)
    [file] = tmp_path.rglob("best_hyperparameters.yaml")
    assert yaml.safe_load(file.read_text())["lr0"] > 0


def test_benchmark_with_onnx(shapes, yolo, tmp_path):
    pytest.importorskip("onnxruntime")
    from ultralytics import YOLO

    YOLO("yolov8n-cbam.yaml").save(tmp_path / "model.pt")
    args = [f"data={shapes}", "imgsz=64", "format=onnx", "device=cpu"]
    out = yolo("benchmark", "model=model.pt", *args, cwd=tmp_path)
    assert Path(tmp_path / "model.onnx").exists()
    [row] = [line for line in out.splitlines() if re.search(r"\bONNX +[✅❎❌]", line)]
    assert "✅" in row
