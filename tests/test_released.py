"""What 0.1.0 wrote still loads, and computes the same. See `released/make.py`."""

import importlib.util
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import ultralytics
import yaml
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.utils import checks

import yolograft
from yolograft.blocks import blend, cbam, deform, hrnet, sk, spd
from yolograft.host import classifier

RELEASED = Path(__file__).parent / "released"
METRICS = json.loads((RELEASED / "metrics.json").read_text())["metrics"]
#: Checkpoint -> the class that makes it one of ours, at the path that the checkpoint names.
NETS = {
    "plain": None,
    "sk": sk.SKConv,
    "cbam": cbam.CBAM,
    "spd": spd.SPDConv,
    "dcn": deform.DeformConv,
    "gated": blend.Blend,
    "sknet": sk.SKUnit,
    "hrnet": hrnet.HRNet,
}
CLASSIFIERS = ("sknet", "hrnet")

spec = importlib.util.spec_from_file_location("released_make", RELEASED / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """A folder with the checkpoints, byte for byte as 0.1.0 wrote them."""
    folder = tmp_path_factory.mktemp("released")
    with tarfile.open(RELEASED / "checkpoints.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """A folder with the data that the checkpoints were trained on."""
    folder = tmp_path_factory.mktemp("work")
    make.detection(folder)
    make.classification(folder)
    return folder


@pytest.fixture(params=NETS)
def file(request, checkpoints):
    return checkpoints / f"{request.param}.pt"


def then(name):
    """Return what 0.1.0 measured, with this release of Ultralytics or the nearest older one.

    Between 8.4.30 and 8.4.60, Ultralytics changed how it computes mAP: figures fell by up to 0.003.
    """
    version = checks.parse_version
    older = [v for v in METRICS if version(v) <= version(ultralytics.__version__)]
    return METRICS[max(older, key=version)][name]


def out(model):
    """Return what a model predicts on the fixed image, in float32."""
    with torch.no_grad():
        return model.float().eval()(make.image(make.CROP))[0]


def test_every_checkpoint_is_one_of_these(checkpoints):
    assert {file.stem for file in checkpoints.iterdir()} == {*NETS}
    sizes = sum(file.stat().st_size for file in RELEASED.rglob("*") if file.is_file())
    assert sizes < 1_000_000


def test_loads_by_the_same_paths(file):
    model = YOLO(file)
    assert model.task == ("classify" if file.stem in CLASSIFIERS else "detect")
    kinds = {type(module) for module in model.model.modules()}
    assert NETS[file.stem] in kinds or file.stem == "plain"
    assert (classifier.Classifier in kinds) == (file.stem in CLASSIFIERS)
    assert torch.load(file, weights_only=False)["version"] == "8.3.220"
    again = pickle.loads(pickle.dumps(model.model))
    assert torch.equal(out(again), out(model.model))


def test_loads_what_only_weights_may_load(file, monkeypatch):
    if not hasattr(tasks, "_SafeLoad"):
        pytest.skip("no safe load in this Ultralytics")
    monkeypatch.setenv("ULTRALYTICS_SAFE_LOAD", "1")
    content, _ = tasks.torch_safe_load(file, safe_only=True)
    assert torch.equal(out(content["model"]), out(YOLO(file).model))


def test_gates_are_partly_open(checkpoints):
    gates = [m for m in YOLO(checkpoints / "gated.pt").model.modules() if type(m) is blend.Blend]
    assert len(gates) > 5
    values = torch.cat([gate.gamma.float() for gate in gates])
    assert 0 < values.abs().mean() < 1
    assert values.std() > 0


def test_outputs_are_those_of_then(file):
    with np.load(RELEASED / "outputs.npz") as arrays:
        expected = torch.from_numpy(arrays[file.stem])
    torch.testing.assert_close(out(YOLO(file).model), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.timeout(300)
def test_validates_to_the_same_numbers(file, work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = then(file.stem)
    assert min(expected.values()) > 0.1  # of what has learned something
    assert make.metrics(file, work) == pytest.approx(expected, abs=1e-3)


def test_fuses(file):
    model = YOLO(file).model
    before = out(model)
    fused = model.fuse(verbose=False)
    assert fused.is_fused()
    torch.testing.assert_close(out(fused), before, rtol=1e-4, atol=1e-3)


def test_takes_another_graft(file):
    before = YOLO(file).model
    recipe = "se"  # inside stages, where no other block is
    if file.stem in ("sk", "dcn", "gated"):
        recipe = {"steps": [{"insert": "SE", "at": {"rows": 4}}]}
    model = yolograft.patch(str(file), recipe, warm="exact")
    assert any(type(module).__name__ == "SE" for module in model.modules())
    torch.testing.assert_close(out(model), out(before), rtol=0, atol=1e-4)


# Files


def test_a_grafted_yaml_builds_the_same(checkpoints):
    """Written by ``yolograft patch``, with its record: it takes the weights of its base."""
    file = RELEASED / "yolov8-narrow-sk+cbam.yaml"
    config = yaml.safe_load(file.read_text())
    assert config["graft"]["recipe"] == ["sk", "cbam"]
    model = YOLO(RELEASED / "yolov8n-narrow-sk+cbam.yaml")
    kinds = [type(module).__name__ for module in model.model.modules()]
    assert kinds.count("SKConv") == 3
    assert kinds.count("CBAM") == 3
    same = yolograft.patch(make.NARROW, "sk,cbam")
    assert [config[part] for part in ("backbone", "head")] == [
        same[part] for part in ("backbone", "head")
    ]
    assert config["graft"]["rows"] == same["graft"]["rows"]


@pytest.mark.long
def test_a_data_yaml_of_then_is_read(work, tmp_path):
    """Written by ``yolograft train --coco-train ... --coco-val ...``."""
    from ultralytics.data.utils import check_det_dataset

    from yolograft.shapes import NAMES

    text = (RELEASED / "data.yaml").read_text()
    assert "FOLDER" in text
    make.coco_json(work)
    file = tmp_path / "data.yaml"
    file.write_text(text.replace("FOLDER", str(work)))
    data = check_det_dataset(str(file))
    assert data["names"] == dict(enumerate(NAMES))
    assert Path(data["val"][0] if isinstance(data["val"], list) else data["val"]).name == "val.json"
