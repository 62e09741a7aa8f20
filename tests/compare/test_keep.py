"""Nothing of a finished comparison is lost, whatever is asked of its folder next."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from yolograft.compare import jobs, keep, plan, process, records, report, run, variants
from yolograft.errors import ConfigError

from .instant import Instant, states


@pytest.fixture
def make(model, tiny, tmp_path):
    """Make a plan in one folder."""

    def call(variants=("ca",), seeds=1):
        settings = {"imgsz": 64, "device": "cpu", "batch": 4}
        return plan.make(model, [*variants], str(tiny), seeds, 1, tmp_path / "project", settings)

    return call


@pytest.fixture(scope="module")
def planned(model, tiny):
    settings = {"imgsz": 64, "device": "cpu", "batch": 4}
    return plan.make(model, ["ca"], str(tiny), 1, 1, "nowhere", settings)


@pytest.fixture
def done(planned, tmp_path):
    """A finished comparison of one variant."""
    made = replace(planned, project=tmp_path / "project")
    run.run(made, Instant())
    return made


def _times(project):
    return {p: p.stat().st_mtime_ns for p in sorted(project.rglob("*")) if p.name != ".lock"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"settings": {"lr0": 0.5}}, r"lr0 not set, now 0\.5"),
        ({"epochs": 7}, "epochs 1, now 7"),
        ({"digest": "other"}, "the data"),
        ({"devices": ["0"]}, "processor cpu, now cuda"),
    ],
    ids=["settings", "epochs", "data", "processor"],
)
def test_other_settings_stop_before_anything_is_changed(change, says, done):
    before = _times(done.project)
    change = {**change, "settings": {**done.settings, **change.get("settings", {})}}
    with pytest.raises(ConfigError, match=f"3 finished runs are of other .*: {says}") as caught:
        run.run(replace(done, **change), Instant())
    assert "another --project" in str(caught.value)
    assert "--force" in str(caught.value)
    assert _times(done.project) == before


def test_other_versions_stop_and_are_named(done, monkeypatch):
    before = _times(done.project)
    newer = {**jobs.versions(), "ultralytics": "99.0"}
    monkeypatch.setattr(jobs, "versions", lambda: newer)
    with pytest.raises(ConfigError, match=r"3 finished runs .*: ultralytics [\d.]+, now 99\.0\n"):
        run.run(done, Instant())
    assert _times(done.project) == before


@pytest.mark.long
def test_force_moves_records_runs_and_page_together(done):
    report.write(done.project)
    before, page = states(done.project), (done.project / "report.html").read_text()
    speed = records.read(done.project)["speed"]
    other = replace(done, epochs=2)
    engine = Instant()
    run.run(other, engine, force=True)
    (aside,) = (done.project / "aside").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", aside.name)
    assert states(aside) == before  # each record with the checkpoint it was made from
    assert (aside / "report.html").read_text() == page
    assert records.read(aside)["speed"] == speed
    assert len(engine.ran) == 4
    assert {key for key, _ in states(done.project).values()} == {
        job.key for job in jobs.trainings(other)
    }
    run.run(replace(done, epochs=3), Instant(), force=True)
    assert len(list((done.project / "aside").iterdir())) == 2
    assert states(aside) == before
    again = Instant()  # the folder set aside is a comparison of its own
    run.run(replace(done, project=aside), again)
    assert again.ran == []


@pytest.mark.long
def test_force_moves_what_is_no_longer_asked_for_too(planned, tmp_path):
    made = replace(planned, project=tmp_path / "project", seeds=[0, 1])
    run.run(made, Instant())
    before = states(made.project)
    run.run(replace(made, seeds=[0], epochs=2), Instant(), force=True)
    (aside,) = (made.project / "aside").iterdir()
    assert states(aside) == before
    assert len(states(made.project)) == 3


@pytest.mark.long
def test_force_moves_only_what_differs(make, planned, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(variants.yaml_of(planned.variants[1]))
    first = make([str(own)])
    run.run(first, Instant())
    own.write_text(
        own.read_text().replace("CoordAtt, []", "CBAM, []").replace("CA, []", "CBAM, []")
    )
    changed = make([str(own)])
    with pytest.raises(ConfigError, match=r"1 finished run is .*: the model own\n"):
        run.run(changed, Instant())
    engine = Instant()
    run.run(changed, engine, force=True)
    assert engine.ran == ["own-seed0", "speed"]


@pytest.mark.parametrize("moment", range(1, 7))
def test_force_that_is_killed_is_finished_by_the_next_start(moment, done, monkeypatch):
    """Killed at each of its moves in turn: no record is without its run, none is in two places."""
    before, moves, replace_ = states(done.project), 0, os.replace

    def killing(source, target):
        nonlocal moves
        moves += Path(target).is_relative_to(done.project / "aside")
        if moves == moment:
            raise KeyboardInterrupt
        replace_(source, target)

    monkeypatch.setattr(os, "replace", killing)
    with pytest.raises(KeyboardInterrupt):
        run.run(replace(done, epochs=2), Instant(), force=True)
    monkeypatch.undo()
    run.run(
        replace(done, epochs=2), Instant()
    )  # the rest of the move does not have to be asked for again
    (aside,) = (done.project / "aside").iterdir()
    assert states(aside) == before
    assert {key for key, _ in states(done.project).values()}.isdisjoint(
        key for key, _ in before.values()
    )


def test_a_corrupt_record_goes_aside_with_its_run(done):
    file = done.project / "runs" / "ca-seed0" / "record.json"
    file.write_text(file.read_text()[:200])
    engine = Instant()
    run.run(done, engine)
    assert engine.ran == ["ca-seed0"]
    (aside,) = (done.project / "aside").iterdir()
    assert (aside / "runs" / "ca-seed0" / "record.json").stat().st_size == 200
    assert (aside / "runs" / "ca-seed0" / "weights" / "best.pt").is_file()


def test_a_run_cut_short_under_other_settings_is_not_deleted(planned, tmp_path):
    """It stops nothing, as there is no result yet; hours of training may be in it all the same."""
    made = replace(planned, project=tmp_path / "project")
    job = jobs.trainings(made)[0]
    for name in ("state.pt", "weights/best.pt"):
        file = process.prepare(job) / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("half")
        assert (process.prepare(job) / "job.json").is_file()  # with its own settings it stays
    assert file.is_file()
    run.run(replace(made, epochs=5), Instant())
    (aside,) = (made.project / "aside").iterdir()
    assert (aside / "runs" / job.id / "state.pt").read_text() == "half"


# ------------------------------------------------------------------------------- other variants


def _again(made):
    engine = Instant()
    before = states(made.project) if made.project.is_dir() else {}
    run.run(made, engine)
    after = states(made.project)
    assert {name: after[name] for name in before} == before
    return engine.ran


@pytest.mark.long
def test_variants_and_seeds_come_and_go(make):
    assert len(_again(make(["ca", "se"], seeds=2))) == 9
    assert _again(make(["se", "ca"], seeds=2)) == []
    assert _again(make(["ca"], seeds=2)) == ["speed"]
    assert _again(make(["ca", "se"], seeds=1)) == ["speed"]
    assert _again(make(["ca", "se"], seeds=3)) == [
        *("yolov77n-seed2", "ca-seed2", "se-seed2", "yolov77n-wide-seed2")
    ]
    assert _again(make(["se", "gc"])) == ["gc-seed0", "speed"]


@pytest.mark.long
def test_a_more_expensive_variant_gets_its_own_control_and_the_first_one_stays(make):
    assert "yolov77n-wide-seed0" in _again(make(["ca"]))
    dear = make(["ca", "combo"])
    names = [one.name for one in dear.variants]
    assert names == ["yolov77n", "ca", "combo", "yolov77n-wide", "yolov77n-wide-2"]
    gflops = {one.name: one.gflops for one in dear.variants}
    assert abs(gflops["yolov77n-wide-2"] - gflops["combo"]) < abs(
        gflops["yolov77n-wide"] - gflops["combo"]
    )
    assert "yolov77n-wide-2 (width x" in dear.notes[0]
    assert "yolov77n-wide (" in dear.notes[1]
    assert _again(dear) == ["combo-seed0", "yolov77n-wide-2-seed0", "speed"]
    assert _again(make(["ca", "combo"])) == []
    report.write(dear.project)
    page = (dear.project / "report.md").read_text()
    assert page.startswith("# yolov77n against ca, combo\n")
    for one in dear.variants[3:]:
        assert f"control: {one.source}" in page
    assert re.fullmatch(r"width x [\d.]+", make(["ca", "combo"]).variants[3].source)
    assert _again(make(["ca"])) == ["speed"]  # the first control serves, the second one stays


@pytest.mark.long
def test_a_control_of_an_unfinished_comparison_is_planned_anew(make):
    run.write_plan(make(["ca"]))
    assert [one.name for one in make(["combo"]).variants][2:] == ["yolov77n-wide"]


def test_a_finished_control_does_not_lend_its_name(make, model):
    """A variant as large as yolov77s has that as its control; then yolov77s becomes a variant."""
    larger = model.replace("77n", "77s")
    first = make([larger.replace("77s", "77s-ca")])
    assert first.variants[-1].name == "yolov77s"
    run.run(first, Instant())
    with pytest.raises(ConfigError, match=r"two variants are called yolov77s: .*scale s"):
        make([larger.replace("77s", "77s-ca"), larger])


# -------------------------------------------------------------------------------------- the rest


def test_speed_of_other_models_is_measured_again_and_not_called_corrupt(done, make, capsys):
    capsys.readouterr()
    assert _again(make(["ca", "se"])) == ["se-seed0", "speed"]
    out = capsys.readouterr().out
    assert "corrupt" not in out
    assert "measuring latency" in out
    speed = records.read(done.project)["speed"]
    assert [*speed.models] == ["yolov77n", "ca", "se", "yolov77n-wide"]
    assert not (done.project / "aside").exists()


def test_speed_is_of_models_that_were_trained(planned, tmp_path):
    class Failing(Instant):
        def start(self, job, slot):
            if job.id.startswith("ca"):
                return Failed()
            return super().start(job, slot)

    class Failed:
        def poll(self):
            return "does not build"

        def stop(self):
            pass

    made = replace(planned, project=tmp_path / "project")
    assert run.run(made, Failing()) == ["ca-seed0"]
    speed = records.read(made.project)["speed"]
    assert [*speed.models] == ["yolov77n", "yolov77n-wide"]


def test_a_moved_folder_continues(done, tmp_path):
    os.rename(done.project, tmp_path / "elsewhere")
    moved = replace(done, seeds=[0, 1], project=tmp_path / "elsewhere")
    assert _again(moved) == [f"{name}-seed1" for name in ("yolov77n", "ca", "yolov77n-wide")]


def test_a_folder_in_which_a_start_was_killed_at_once_is_taken(tmp_path):
    with keep.locked(tmp_path / "p"):
        pass
    plan._check_folder(tmp_path / "p")


def test_space_for_finished_runs_is_not_asked_for_again(done):
    fresh = replace(done, project=done.project.parent / "fresh")
    assert plan.disk(done) == plan.disk(fresh) - sum(2 * one.params + 3e6 for one in done.variants)
