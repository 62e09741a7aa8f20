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


#: Skips that are right everywhere. With YOLOGRAFT_CI set, any other one is a failure.
MAY_SKIP = (
    "needs a GPU",
    "there is a GPU",
    "no safe load in this Ultralytics",
    "YOLOGRAFT_TEST_DATA",
)


#: Fixtures that take seconds: the stock command in a process of its own, whole trainings.
LONG = {"yolo", "whole", "cells"}


def pytest_collection_modifyitems(items):
    """Give the mark ``quick`` to one case of each test, the first, unless it is slow or long.

    A test with the mark ``each`` gives one case for each value of that argument.
    """
    seen = set()
    for item in items:
        if any(map(item.get_closest_marker, ("slow", "long"))) or LONG & {*item.fixturenames}:
            continue
        case = [item.nodeid.partition("[")[0]]
        for mark in item.iter_markers("each"):
            case += [
                getattr(value := item.callspec.params[name], "block", value) for name in mark.args
            ]
        if tuple(case) not in seen:
            seen.add(tuple(case))
            item.add_marker("quick")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """In CI, a test that skips fails."""
    return _without_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    """In CI, a file that skips fails."""
    return _without_skip((yield))


def _without_skip(report):
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("YOLOGRAFT_CI"):
        reason = report.longrepr[2]
        if not any(text in reason for text in MAY_SKIP):
            report.outcome, report.longrepr = "failed", f"Nothing is skipped in CI. {reason}"
    return report


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
