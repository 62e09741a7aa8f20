"""Fixtures for every test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the cores are shared by pytest's workers
os.environ.setdefault("CI", "true")  # OpenVINO sends no statistics then


@pytest.fixture(autouse=True)
def _seed():
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A data YAML of the drawn data set, in a folder of its own."""
    from yolograft.files import CFG
    from yolograft.shapes import draw

    folder = tmp_path_factory.mktemp("data")
    draw(folder / "shapes")
    config = yaml.safe_load((CFG / "data" / "shapes.yaml").read_text())
    del config["download"]
    config["path"] = str(folder / "shapes")
    (folder / "drawn.yaml").write_text(yaml.safe_dump(config))
    return folder / "drawn.yaml"


@pytest.fixture(scope="session")
def yolo(tmp_path_factory):
    """Call the stock ``yolo`` command with settings of its own; returns what it printed."""
    home = tmp_path_factory.mktemp("ultralytics")

    def call(*args, cwd, env=(), ok=True, wait=True):
        command = [Path(sys.executable).with_name("yolo"), *map(str, args)]
        environment = {**os.environ, "YOLO_CONFIG_DIR": str(home), **dict(env)}
        options = {"cwd": cwd, "env": environment, "text": True}
        if not wait:
            return subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, **options
            )
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        assert (done.returncode == 0) == ok, done.stdout[-4000:]
        return done.stdout

    return call


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def logged(monkeypatch):
    """The lines that Ultralytics' logger is given as information."""
    from ultralytics.utils import LOGGER

    lines = []
    monkeypatch.setattr(LOGGER, "info", lines.append)
    return lines


@pytest.fixture
def own_blocks():
    """Blocks that a test registers are forgotten after it."""
    from yolograft import registry

    kept = [(t, dict(t)) for t in (registry._blocks, registry._names)]
    yield
    for table, before in kept:
        table.clear()
        table.update(before)
