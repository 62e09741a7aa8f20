"""Whole comparisons: records, continuation, failures."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from yolograft.compare import plan, run

pytestmark = pytest.mark.xdist_group("compare")

SETTINGS = ("imgsz=32", "batch=4", "device=cpu", "lr0=0.01", "warmup_epochs=0")


def _command(tiny, project, *more):
    words = ["--base", "yolov8n.yaml", "--recipes", "ca", "--data", tiny, "--project", project]
    script = Path(__file__).parents[2] / "scripts" / "compare.py"
    return [sys.executable, str(script), *map(str, words), *more, *SETTINGS]


def _call(tiny, project, *more):
    done = subprocess.run(
        _command(tiny, project, *more), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def numbers(project):
    """Return of each record what has to be the same however the run came about."""
    found = {}
    for file in sorted((project / "records").glob("*-seed*.json")):
        record = json.loads(file.read_text())
        kept = ("status", "key", "metrics", "per_class", "curve", "best_epoch", "examples")
        found[file.stem] = {name: record[name] for name in kept}
    return found


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A comparison that nothing disturbed."""
    project = tmp_path_factory.mktemp("whole") / "project"
    status, out = _call(tiny, project, "--seeds", "1", "--epochs", "2")
    assert status == 0, out
    return project


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_comparison_leaves_records_and_report(whole):
    found = numbers(whole)
    assert sorted(found) == ["ca-seed0", "yolov8n-seed0", "yolov8n-wide-seed0"]
    for one in found.values():
        assert one["status"] == "finished"
        assert 0 <= one["metrics"]["AP"] <= 1
        assert [row["epoch"] for row in one["curve"]] == [1, 2]
    for name in ("report.html", "report.md", "results.csv", "table.tex", "figures/pareto.svg"):
        assert (whole / name).stat().st_size > 100
    record = json.loads((whole / "records" / "ca-seed0.json").read_text())
    assert 0 < record["transferred"]["tensors"] < record["transferred"]["of"]
    assert record["peak_memory"]["bytes"] > 1e8
    assert (whole / record["checkpoint"]).is_file()
    speed = json.loads((whole / "records" / "speed.json").read_text())
    assert {*speed["models"]} == {"yolov8n", "ca", "yolov8n-wide"}
    one = speed["models"]["ca"]["32"]
    assert one["low"] <= one["milliseconds"] <= one["high"]
    assert one["images_per_second"] == pytest.approx(32e3 / one["milliseconds"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_finished_runs_are_kept_and_the_rest_runs_again(whole, tiny):
    """A corrupt record, and one of another version, are set aside; the third is not touched."""
    before, records = numbers(whole), whole / "records"
    kept = (records / "yolov8n-wide-seed0.json").stat().st_mtime_ns
    corrupt = records / "yolov8n-seed0.json"
    corrupt.write_text(corrupt.read_text()[:300])
    other = json.loads((records / "ca-seed0.json").read_text())
    other["inputs"]["versions"]["yolograft"] = "0.0.1"
    (records / "ca-seed0.json").write_text(json.dumps({**other, "key": "old"}))
    status, out = _call(tiny, whole, "--seeds", "1", "--epochs", "2")
    assert status == 0, out
    assert "yolov8n-seed0.json is corrupt: set aside as aside/yolov8n-seed0.1.json" in out
    assert "ca-seed0.json is from another version (yolograft 0.0.1, now" in out
    assert len(list((records / "aside").iterdir())) == 2
    assert (records / "yolov8n-wide-seed0.json").stat().st_mtime_ns == kept
    assert numbers(whole) == before


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_and_started_again_ends_in_the_same_numbers(tiny, tmp_path):
    words = ("--seeds", "2", "--epochs", "4")
    status, out = _call(tiny, tmp_path / "whole", *words)
    assert status == 0, out
    project, rng, kills, ongoing = tmp_path / "killed", random.Random(1), 0, 0
    while kills < 8:
        process = subprocess.Popen(
            _command(tiny, project, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(rng.uniform(15, 45))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(1)  # its trainings end by themselves
            ongoing += len(list(project.glob("runs/*/state.pt")))
    status, out = _call(tiny, project, *words)
    assert status == 0, out
    assert kills > 2
    assert ongoing > 0, "no run was cut short between its legs"
    assert numbers(project) == numbers(tmp_path / "whole")


def test_a_training_ends_with_the_comparison(tiny, tmp_path):
    made = plan.make(
        "yolov8n.yaml", ["ca"], str(tiny), 1, 50, tmp_path, {"imgsz": 32, "device": "cpu"}
    )
    run.write_plan(made)
    job = {**made.jobs[0], "folder": str(tmp_path / "runs" / "a"), "device": "cpu"}
    process = run.Process(job, tmp_path / "records" / "a.json")
    process.process.stdin.close()  # as the system does when the comparison is killed
    assert process.process.wait(60) == 1
    assert not (tmp_path / "records" / "a.json").exists()


class _Broken(run.Local):
    """An engine on which one variant fails."""

    def start(self, job, record, slot):
        if job["variant"] == "ca":
            job = {**job, "data": "/nowhere.yaml"}
        elif job["kind"] != "speed":
            write = {**job, "status": "finished", "metrics": {"AP": 0.5}, "curve": [1]}
            record.write_text(json.dumps(write))
            return _Done()
        return super().start(job, record, slot)


class _Done:
    def poll(self):
        return ""

    def stop(self):
        pass


def test_a_failed_variant_does_not_stop_the_others(tiny, tmp_path, capsys):
    made = plan.make(
        "yolov8n.yaml", ["ca"], str(tiny), 2, 1, tmp_path / "p", {"imgsz": 32, "device": "cpu"}
    )
    assert run.run(made, _Broken(["cpu"])) == ["ca-seed0", "ca-seed1"]
    out = capsys.readouterr().out
    assert "ca-seed0 failed: " in out
    assert "nowhere.yaml" in out
    assert "ca-seed1 failed: not run: another seed of this variant failed" in out
    record = json.loads((made.project / "records" / "ca-seed0.json").read_text())
    assert record["status"] == "failed"
    assert os.path.isfile(made.project / record["log"])
    assert json.loads((made.project / "records" / "yolov8n-seed1.json").read_text())["metrics"]
