"""The settings of the first training are found, and it ends with a picture to look at."""

import re
from pathlib import Path

import pytest
import yaml
from ultralytics.cfg import get_cfg
from ultralytics.utils import DEFAULT_CFG_DICT, checks

from yolograft.files import CFG

SETTINGS = sorted((CFG / "settings").glob("*.yaml"))


def test_settings_are_found_by_name_and_the_users_own_win(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert checks.check_yaml("shapes-demo.yaml") == str(CFG / "settings" / "shapes-demo.yaml")
    with pytest.raises(FileNotFoundError):
        checks.check_yaml("other/shapes-demo.yaml")
    with pytest.raises(FileNotFoundError):
        checks.check_yaml("shapes-demos.yaml")
    (tmp_path / "shapes-demo.yaml").write_text("epochs: 1\n")
    assert checks.check_yaml("shapes-demo.yaml") == "shapes-demo.yaml"
    assert Path(checks.check_yaml("coco8.yaml")).name == "coco8.yaml"  # the stock files


@pytest.mark.parametrize("file", SETTINGS, ids=lambda file: file.stem)
def test_ultralytics_accepts_the_settings(file):
    given = yaml.safe_load(file.read_text())
    assert get_cfg(overrides=given).epochs == given["epochs"]
    assert {key for key, value in given.items() if DEFAULT_CFG_DICT[key] == value} == set()


@pytest.mark.long
@pytest.mark.parametrize("model", ["yolov8n-se.yaml", "yolov8n.yaml"])
def test_a_training_names_a_picture_of_predictions(model, shapes, yolo, tmp_path):
    (tmp_path / "quick.yaml").write_text("epochs: 1\nimgsz: 64\nfraction: 0.1\nworkers: 0\n")
    words = ["detect", "train", f"model={model}", f"data={shapes}", "cfg=quick.yaml", "device=cpu"]
    out = yolo(*words, cwd=tmp_path)
    out = re.sub(r"\x1b\[\d*m", "", out)
    found = re.findall(r"yolograft: predictions on validation images: (.+\.jpg)", out)
    assert len(found) == ("-se" in model)  # nothing of ours for a stock model
    assert all(Path(file).is_file() for file in found)
