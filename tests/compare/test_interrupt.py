"""Ctrl-C, as a terminal sends it, at any moment of a real comparison."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from yolograft.compare import records
from yolograft.compare.records import Plan

from .calls import call, command

pytestmark = pytest.mark.xdist_group("compare")


def _alive(project):
    """Return the processes that name a project folder; those that have ended do not count."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(project) in words and int(entry.name) != os.getpid():
            found.append(entry.name)
    return found


def _interrupt(words, project, group, when):
    """Start a command, interrupt it when asked to; return status, output and errors."""
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    when(process)
    assert process.poll() is None, "it was over before it was interrupted"
    (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    over = time.monotonic() + 10  # one that was being started ends as soon as Python runs in it
    while _alive(project) and time.monotonic() < over:
        time.sleep(0.1)
    assert _alive(project) == []
    return process.returncode, out, err


def _after(seconds):
    return lambda process: time.sleep(seconds)


def _until(project, pattern):
    def wait(process):
        while not list(project.glob(pattern)) and process.poll() is None:
            time.sleep(0.02)

    return wait


LINE = "yolograft: stopped; start the same command again to continue\n"


@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.5])
def test_while_it_starts(seconds, group, tiny, tmp_path):
    """While Python imports, and while the comparison is planned."""
    words = [Path(sys.executable).with_name("yolograft"), *command(tiny, tmp_path / "p")[2:]]
    words.insert(1, "compare")
    found = _interrupt(words, tmp_path / "p", group, _after(seconds))
    assert found == (130, "", LINE)


IMPORTING = """
import sys, time
from yolograft.compare import interrupt
interrupt.watch()
import slow
print("imported", flush=True)
time.sleep(30)
"""

SLOW = """
import time
print("importing", flush=True)
try:
    time.sleep(1)
except KeyboardInterrupt:
    print("interrupted")  # within a C++ extension, this aborts Python
"""


def test_an_import_is_not_interrupted(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORTING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, LINE)
    assert "interrupted" not in out


@pytest.mark.long
@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
def test_while_runs_train(group, tiny, tmp_path):
    """Their processes end too, and the folder can be continued."""
    project = tmp_path / "p"
    words = command(tiny, project, "workers=2", "--jobs-per-device", "2")
    words = [word if word != "3" else "50" for word in words]
    status, out, err = _interrupt(words, project, group, _until(project, "runs/*/log.txt"))
    assert (status, err) == (130, LINE)
    assert "Traceback" not in out
    assert "Traceback" not in "".join(file.read_text() for file in project.glob("runs/*/log.txt"))
    assert list(project.glob("runs/*/record.json")) == []
    assert records.load(Plan, project / "plan.json").epochs == 50


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("pattern", ["runs/*/results.csv", "runs/speed/log.txt", "figures"])
def test_late(pattern, tiny, tmp_path):
    """Within an epoch, while speed is measured, while the report is written."""
    project = tmp_path / "p"
    words = [word if word != "3" else "1" for word in command(tiny, project)]
    status, _, err = _interrupt(words, project, True, _until(project, pattern))
    assert (status, err) == (130, LINE)
    before = {f: f.read_text() for f in project.glob("runs/*-seed*/record.json")}
    status, out = call(tiny, project, "--epochs", "1")
    assert status == 0, out
    assert {f: f.read_text() for f in before} == before
    assert (project / "report.html").is_file()


@pytest.mark.long
def test_while_data_are_drawn(tiny, tmp_path):
    """The folder that was being drawn into is gone."""
    target = tmp_path / "drawn" / "shapes"
    content = {"path": str(target), "train": "images/train", "val": "images/val", "names": {0: "a"}}
    draw = "from yolograft import shapes\nshapes.draw(yaml['path'])\n"
    file = tmp_path / "drawing.yaml"
    file.write_text(yaml.safe_dump({**content, "download": draw}))
    words = command(file, tmp_path / "p")
    status, _, err = _interrupt(
        words, tmp_path / "p", True, _until(tmp_path, "drawn/.*/*/images/*/*.png")
    )
    assert status == 130
    assert err.endswith(LINE)
    assert "Traceback" not in err
    assert list((tmp_path / "drawn").iterdir()) == []


def test_in_python_it_returns(tiny, tmp_path, monkeypatch, capsys):
    from yolograft import cli
    from yolograft.compare import data

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "check", interrupted)
    words = ["compare", "--base", "yolov8n.yaml", "--recipes", "ca", "--data", str(tiny)]
    assert cli.main([*words, "--project", str(tmp_path / "p"), "device=cpu"]) == 130
    assert capsys.readouterr().err == LINE
