"""The bench of COCO JSON: both sides do the same work, and the page says what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.bench import coco as bench

ROOT = Path(__file__).parents[2]
SHARE = 0.0005


def result(busy, peak):
    steps = {
        step: {"wall": 9.0, "busy": busy.get(step, 1.0), "peak": peak.get(step, 100)}
        for step in bench.STEPS
    }
    size = {"images": 59, "boxes": 430, "json_bytes": 200_000, "command": "c", "load": 0.5}
    return {**size, "machine": {"cores": 2}, "steps": steps}


def test_both_sides_do_the_same(tmp_path):
    file = bench.generate(tmp_path, SHARE)
    content = bench.parse(tmp_path)
    assert (len(content["images"]), len(content["annotations"])) == (59, 430)
    index = bench.index(tmp_path)
    assert not index.report
    assert (len(index.ids), len(index.boxes), index.file) == (59, 430, file)
    state, size = bench.look(tmp_path)
    assert not state.any()
    assert (size == index.sizes).all()
    bench.convert(tmp_path)
    (tmp_path / "images").rename(tmp_path / "labelled" / "images")
    labels = bench.scan(tmp_path).labels
    assert sum(len(label["cls"]) for label in labels) == 430


def test_page(tmp_path):
    busy = {"parse": 2, "index": 4, "again": 3, "look": 6, "convert": 20, "scan": 30}
    one = result(busy, {"index": 160})
    assert bench.ratios(one) == pytest.approx(
        {
            "index over parse, time": 2,
            "second start, seconds": 3,
            "memory": 1.6,
            "label files over ours": 5,
        }
    )
    text = bench.markdown(one)
    assert "- Goal: index over parse, time at most 2.5: 2.00, reached." in text
    assert "- Goal: second start, seconds at most 2: 3.00, missed." in text
    assert "- Goal: memory at most 1.5: 1.60, missed." in text
    assert "Label files take 5.0 times" in text


def test_a_bad_share_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--share", "2"])
    assert "use a share above 0, up to 1" in capsys.readouterr().err


@pytest.mark.slow
def test_run(tmp_path):
    page, record = tmp_path / "coco.md", tmp_path / "coco.json"
    page.write_text("# Mine\n\n## Scale\n\nold\n")
    command = [sys.executable, "-m", "scripts.bench.coco", "--share", str(SHARE)]
    command += ["--markdown", page, "--json", record]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    steps = json.loads(record.read_text())["steps"]
    assert all(value > 0 for one in steps.values() for value in one.values())
    text = page.read_text()
    assert text.startswith("# Mine\n\n## Scale\n\nA drawn JSON: 59 images, 430 boxes")
    assert "old" not in text
