"""Whole comparisons: records, continuation, failures."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time

import pytest
import torch

from yolograft.compare import plan, run

from .calls import call, command, numbers

pytestmark = pytest.mark.xdist_group("compare")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_comparison_leaves_records_and_report(whole):
    found = numbers(whole)
    assert sorted(found) == ["ca-seed0", "yolov8n-seed0", "yolov8n-wide-seed0"]
    for one in found.values():
        assert one["status"] == "finished"
        assert 0 <= one["metrics"]["AP"] <= 1
        assert [row["epoch"] for row in one["curve"]] == [1, 2, 3]
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
    """One of another version stops it; then that one and a corrupt one run again, no other."""
    before, records = numbers(whole), whole / "records"
    kept = (records / "yolov8n-wide-seed0.json").stat().st_mtime_ns
    corrupt = records / "yolov8n-seed0.json"
    corrupt.write_text(corrupt.read_text()[:300])
    other = json.loads((records / "ca-seed0.json").read_text())
    other["inputs"]["versions"]["yolograft"] = "0.0.1"
    (records / "ca-seed0.json").write_text(json.dumps({**other, "key": "old"}))
    best = [whole / "runs" / f"{name}-seed0/weights/best.pt" for name in ("yolov8n", "ca")]
    weights = [file.read_bytes() for file in best]
    status, out = call(tiny, whole)
    assert status == 2
    assert "1 finished run is of other versions or settings: yolograft 0.0.1, now" in out
    assert [file.read_bytes() for file in best] == weights
    status, out = call(tiny, whole, "--force")
    assert status == 0, out
    assert "yolov8n-seed0.json is corrupt: moved to aside/" in out
    (aside,) = (whole / "aside").iterdir()
    assert [(aside / file.relative_to(whole)).read_bytes() for file in best] == weights
    assert json.loads((aside / "records" / "ca-seed0.json").read_text())["key"] == "old"
    assert (records / "yolov8n-wide-seed0.json").stat().st_mtime_ns == kept
    assert numbers(whole) == before


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_gates_are_timed_as_they_were_trained(whole, tiny, tmp_path):
    """Training from a checkpoint opens the gates of ``warm: exact``, and both layers then run."""
    recipe = tmp_path / "gated.yaml"
    recipe.write_text("warm: exact\nsteps:\n  - use: ca\n")
    words = command(tiny, tmp_path / "p")
    words[words.index("yolov8n.yaml")] = str(
        whole / "runs" / "yolov8n-seed0" / "weights" / "best.pt"
    )
    words[words.index("ca")] = str(recipe)
    done = subprocess.run([*words, "--epochs", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "p" / "records" / "gated-seed0.json").read_text())
    content = torch.load(tmp_path / "p" / record["checkpoint"], weights_only=False)
    state = (content["ema"] or content["model"]).state_dict()
    gammas = [value for name, value in state.items() if name.endswith("gamma")]
    assert len(gammas) > 2
    assert record["gates"] == [0.0 if not g.any() else 0.5 for g in gammas]
    assert 0.5 in record["gates"]
    speed = json.loads((tmp_path / "p" / "records" / "speed.json").read_text())
    assert speed["inputs"]["gates"]["gated"] == record["gates"]
    assert "its gates as they were trained" in (tmp_path / "p" / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_and_started_again_ends_in_the_same_numbers(whole, tiny, tmp_path):
    project, rng, ongoing = tmp_path / "killed", random.Random(1), 0
    moments = ("runs/*/log.txt", "runs/*/state.pt", "records/*.json", "runs/*/results.csv")
    for pattern in (*moments, "runs/*/state.pt"):
        process = subprocess.Popen(
            command(tiny, project), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = _written(project, pattern)
        while _written(project, pattern) <= before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.5))
        assert process.poll() is None, "it was over before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        ongoing += len(list(project.glob("runs/*/state.pt")))
    status, out = call(tiny, project)
    assert status == 0, out
    assert ongoing > 0, "no run was cut short between its legs"
    assert numbers(project) == numbers(whole)


def _written(project, pattern):
    """Return the files of a pattern, each with the time it was written."""
    found = set()
    for file in project.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            found.add((file, file.stat().st_mtime_ns))
    return found


@pytest.mark.long
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


@pytest.mark.slow
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
