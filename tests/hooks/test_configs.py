"""Finding and refusing model and data YAMLs."""

import shutil

import pytest
from ultralytics.data import utils
from ultralytics.engine.model import yaml_model_load

from yolograft import ConfigError
from yolograft.blocks import CBAM, SKConv, SPDConv
from yolograft.files import CFG


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder whose name holds what looks like a scale, as the working directory."""
    folder = tmp_path / "run1x" / "v8s"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("elsewhere")
def test_bare_names_are_found_in_the_pack():
    config = yaml_model_load("yolov8m-sk.yaml")
    assert (config["scale"], config["yaml_file"]) == ("m", "yolov8m-sk.yaml")
    assert yaml_model_load("yolov8-cbam.yaml")["scale"] == ""
    assert yaml_model_load("yolov8s.yaml")["backbone"][0] == [-1, 1, "Conv", [64, 3, 2]]  # stock


def test_the_users_own_file_wins(elsewhere):
    (elsewhere / "yolov8-sk.yaml").write_text("nc: 7\nbackbone: []\nhead: []\n")
    assert yaml_model_load("yolov8n-sk.yaml")["nc"] == 7
    (elsewhere / "yolov8-sk.yaml").unlink()
    (elsewhere / "yolov8n-sk.yaml").write_text("nc: 8\nbackbone: []\nhead: []\n")
    assert yaml_model_load("yolov8n-sk.yaml")["nc"] == 8


def test_the_scale_letter_is_taken_from_the_base_name_only(elsewhere):
    shutil.copy(CFG / "yolov8-sk.yaml", elsewhere / "yolov8-mine.yaml")
    path = str(elsewhere / "yolov8l-mine.yaml")
    assert yaml_model_load(path)["scale"] == "l"
    assert yaml_model_load("../v8s/yolov8x-mine.yaml")["scale"] == "x"


@pytest.mark.usefixtures("elsewhere")
def test_an_unknown_name_keeps_the_stock_error():
    with pytest.raises(FileNotFoundError, match=r"yolov8n?-skk"):
        yaml_model_load("yolov8n-skk.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- 1\n- 2\n", "bad.yaml: the file holds a list, not a mapping"),
        ("just words\n", "bad.yaml: the file holds a str, not a mapping"),
        ("nc: 3\nhead: []\n", "bad.yaml: the key 'backbone' is missing"),
        ("nc: 3\nbackbone: []\n", "bad.yaml: the key 'head' is missing"),
        ("", "bad.yaml: the key 'backbone' is missing"),
        ("nc: 3\nbackbone: 5\nhead: []\n", "bad.yaml: 'backbone' is 5, not a list of rows"),
    ],
)
def test_a_file_that_is_no_model_is_refused(elsewhere, text, says):
    (elsewhere / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        yaml_model_load("bad.yaml")
    assert says in str(error.value)
    assert "\n\nHint: " in str(error.value)


def test_data_yamls_of_the_pack_come_last(elsewhere):
    assert utils.check_file("shapes.yaml") == str(CFG / "data" / "shapes.yaml")
    assert utils.check_file("coco8.yaml").endswith("coco8.yaml")
    (elsewhere / "shapes.yaml").write_text("mine: true\n")
    assert utils.check_file("shapes.yaml") == "shapes.yaml"


def test_fuse_folds_every_norm_of_the_blocks():
    import torch
    from ultralytics.nn.tasks import DetectionModel

    for name, kind in (("sk", SKConv), ("spd", SPDConv), ("cbam", CBAM)):
        model = DetectionModel(f"yolov8n-{name}.yaml", verbose=False).eval()
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.running_mean.normal_(0, 0.1)
                m.running_var.uniform_(0.5, 1.5)
                m.weight.data.uniform_(0.5, 1.5)
        x = torch.rand(2, 3, 96, 64)
        with torch.no_grad():
            before = model(x)[0].clone()
            model.fuse(verbose=False)
            after = model(x)[0]
        assert any(isinstance(m, kind) for m in model.modules())
        assert not [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert model.is_fused()
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-3)
