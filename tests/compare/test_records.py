"""Plan, jobs and records: one schema, whatever version wrote them."""

import gzip
import json
from dataclasses import replace

import pytest

from yolograft.compare import jobs, keep, plan, process, records, report, results, run
from yolograft.compare.records import (
    AnyRecord,
    Failure,
    Job,
    Plan,
    SpeedRecord,
    TrainJob,
    TrainRecord,
    Unreadable,
)
from yolograft.errors import ConfigError

from .conftest import inputs
from .instant import Instant, finished, states, timed, trainings


@pytest.fixture(scope="module")
def planned(model, tiny):
    settings = {"imgsz": 64, "device": "cpu", "batch": 4}
    return plan.make(model, ["ca"], str(tiny), 2, 1, "nowhere", settings)


@pytest.fixture
def done(planned, tmp_path):
    made = replace(planned, project=tmp_path / "project")
    run.run(made, Instant())
    return made


def test_what_is_written_is_read_again(planned, tmp_path):
    job = jobs.trainings(planned)[1]
    speed = jobs.speed(planned, {"ca": None})
    failure = Failure(id="ca-seed0", key="k", error="out of memory", log="log.txt")
    for kind, one in (
        (Plan, replace(planned, project=tmp_path)),
        (TrainJob, job),
        (TrainJob | records.SpeedJob, speed),
        (AnyRecord, finished(job)),
        (AnyRecord, timed(speed)),
        (AnyRecord, failure),
    ):
        records.save(tmp_path / "one.json", one)
        assert records.load(kind, tmp_path / "one.json") == one
        assert json.loads((tmp_path / "one.json").read_text())["version"] == 1


@pytest.mark.parametrize("kind", [Plan, Job, AnyRecord], ids=["plan", "job", "record"])
def test_a_newer_version_is_refused_by_name(kind, tmp_path):
    file = tmp_path / "newer.json"
    file.write_text(json.dumps({"version": 2, "what": "nobody knows"}))
    with pytest.raises(ConfigError, match=r"newer\.json: .* version 2, .* up to 1\n") as caught:
        records.load(kind, file)
    assert "update yolograft on this machine" in str(caught.value)


def test_a_newer_record_in_a_folder_stops_before_anything_is_changed(done):
    file = done.project / "runs" / "ca-seed0" / "record.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 7}))
    for act in (lambda: run.run(done, Instant(), force=True), lambda: results.read(done.project)):
        with pytest.raises(ConfigError, match=r"ca-seed0/record\.json: .* version 7"):
            act()
    assert json.loads(file.read_text())["version"] == 7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": "0"}, "seed: '0' is not int"),
        ({"curve": {}}, "curve"),
        ({"inputs": inputs(epochs=None)}, "epochs"),
        ({"transferred": [1, 2]}, "transferred"),
    ],
)
def test_a_record_of_other_types_is_not_read(change, says, planned, tmp_path):
    records.save(tmp_path / "r.json", replace(finished(jobs.trainings(planned)[0]), **change))
    with pytest.raises(Unreadable, match=says):
        records.load(TrainRecord, tmp_path / "r.json")


def test_nan_is_not_written(planned, tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.save(tmp_path / "r.json", finished(jobs.trainings(planned)[0], ap=float("nan")))
    assert not (tmp_path / "r.json").exists()


# ------------------------------------------------------------------------------------ one file


def test_all_records_are_one_file_of_equal_bytes(done):
    pack = done.project / "records.jsonl.gz"
    first, found = pack.read_bytes(), records.read(done.project)
    lines = gzip.decompress(first).decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == sorted(found)
    assert len(lines) == 7
    records.pack(done.project)
    assert pack.read_bytes() == first


@pytest.mark.long
def test_plan_and_one_file_are_enough_for_report_and_continuation(done, tmp_path):
    report.write(done.project)
    text = (done.project / "report.md").read_text()
    moved = tmp_path / "published"
    moved.mkdir()
    for name in ("plan.json", "records.jsonl.gz"):
        (moved / name).write_bytes((done.project / name).read_bytes())
    report.write(moved)
    assert (moved / "report.md").read_text() == text
    again = Instant()
    assert run.run(replace(done, project=moved), again) == []
    assert again.ran == []
    more = Instant()
    run.run(replace(done, project=moved, seeds=[0, 1, 2]), more)
    assert more.ran == [f"{one.name}-seed2" for one in done.variants]


def test_a_run_that_is_only_in_the_one_file_goes_aside_with_it(done, tmp_path):
    found = records.read(done.project)
    for file in done.project.glob("runs/*/record.json"):
        file.unlink()
    assert records.read(done.project) == found
    run.run(replace(done, epochs=2), Instant(), force=True)
    (aside,) = (done.project / "aside").iterdir()
    assert records.read(aside) == found
    now = trainings(done.project)
    assert {one.inputs.epochs for one in now.values()} == {2}
    assert len(now) == 6


def test_a_cut_off_file_of_all_records_is_refused(done):
    pack = done.project / "records.jsonl.gz"
    pack.write_bytes(pack.read_bytes()[:-200])
    with pytest.raises(ConfigError, match=r"records\.jsonl\.gz: the file is corrupt .*\n\n.*move"):
        run.run(done, Instant())
    pack.unlink()
    again = Instant()
    run.run(done, again)
    assert again.ran == []
    assert pack.is_file()


# --------------------------------------------------------------------------------- yolograft 0.1.0


def _as_before(project, failed=()):
    """Write the records of a folder as yolograft 0.1.0 did."""
    folder = project / "records"
    folder.mkdir()
    for name, one in records.read(project).items():
        content = json.loads(records.text(one))
        del content["version"]
        content["status"] = "finished"
        if isinstance(one, SpeedRecord):
            content["kind"] = "speed"
        if name in failed:
            kept = {k: content[k] for k in ("id", "variant", "seed", "key", "inputs", "kind")}
            content = {**kept, "status": "failed", "error": "out of memory", "log": "log.txt"}
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1))
        (project / "runs" / name / "record.json").unlink()
    (project / "records.jsonl.gz").unlink()
    file = project / "plan.json"
    content = json.loads(file.read_text())
    del content["version"]
    for one in content["variants"]:
        del one["config"], one["origins"]
    file.write_text(json.dumps(content, indent=1))


def test_a_folder_of_the_first_version_continues(done):
    before = states(done.project)
    report.write(done.project)
    text = (done.project / "report.md").read_text()
    _as_before(done.project)
    report.write(done.project)
    assert (done.project / "report.md").read_text() == text
    again = Instant()
    run.run(done, again)
    assert again.ran == []
    assert states(done.project) == before
    assert list((done.project / "records").iterdir()) == []


def test_a_failed_run_of_the_first_version_runs_again(done):
    _as_before(done.project, failed=["ca-seed1"])
    again = Instant()
    run.run(done, again)
    assert again.ran == ["ca-seed1"]
    assert len(trainings(done.project)) == 6


def test_force_moves_runs_of_the_first_version_with_their_records(done):
    before = states(done.project)
    _as_before(done.project)
    with pytest.raises(ConfigError, match="6 finished runs are of other"):
        run.run(replace(done, epochs=2), Instant())
    assert len(list((done.project / "records").iterdir())) == 7
    run.run(replace(done, epochs=2), Instant(), force=True)
    (aside,) = (done.project / "aside").iterdir()
    assert states(aside) == before


def test_a_training_that_the_first_version_began_is_continued(planned, tmp_path):
    job = jobs.trainings(replace(planned, project=tmp_path))[0]
    folder = process.prepare(job)
    (folder / "state.pt").write_text("half")
    old = {"id": job.id, "key": job.key, "kind": "base", "folder": str(folder), "threads": "1"}
    (folder / "job.json").write_text(json.dumps({**old, "variant": "yolov77n", "seed": 0}))
    process.prepare(job)
    assert (folder / "state.pt").read_text() == "half"
    assert keep.holds(job, records.read(tmp_path)) == (None, "")
