"""The files of a report, from given records."""

import json
import re

import pandas
import polars
import pytest

from yolograft.compare import figures, report


def test_csv_is_read_by_polars_and_pandas(files):
    table = polars.read_csv(files / "results.csv")
    assert table.shape == (15, 21)
    record = json.loads((files / "records" / "sk-seed1.json").read_text())
    row = table.filter((polars.col("variant") == "sk") & (polars.col("seed") == 1))
    assert row["AP"].item() == pytest.approx(record["metrics"]["AP"])
    assert row["latency_ms_batch1"].item() == 10
    assert table["APl"].null_count() == 5  # an absent size is empty, not zero
    again = pandas.read_csv(files / "results.csv")
    assert again.columns.tolist() == table.columns
    assert again["AP50"].tolist() == pytest.approx(table["AP50"].to_list())
    assert again["variant"].tolist() == table["variant"].to_list()


def test_latex_is_plain_booktabs(files):
    lines = (files / "table.tex").read_text().splitlines()
    assert lines[1] == r"\begin{tabular}{lrrrrrr}"
    assert [lines[i] for i in (2, 4, -2, -1)] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 6
    assert all(len(re.split(r"(?<!\\)&", row)) == 7 for row in rows)
    assert rows[4].startswith(r"spd \& co & $0.")
    assert "|" not in "".join(lines)


def test_markdown_tells_differences_and_what_they_rest_on(files):
    text = (files / "report.md").read_text()
    assert text.startswith("# yolov8n against sk, ca, spd & co\n")
    rows, _ = report.read(files, json.loads((files / "plan.json").read_text()))
    pair = rows[1]["paired"]
    interval = f"{pair.low:+.4f} to {pair.high:+.4f}"
    assert f"- sk: AP {pair.mean:+.4f} (95 % interval {interval}): {pair.verdict}." in text
    assert "corrected by Holm's method for 4 comparisons" in text
    assert "| 754" not in text
    assert "below 0.001" not in text
    assert "| 12 min 34 s |" in text


def test_page_is_whole_by_itself(files):
    page = (files / "report.html").read_text()
    assert "&lt;b&gt;spd&lt;/b&gt;.yaml" in page
    assert "<b>spd</b>" not in page
    before = page.split("<script>")[0]
    assert not re.search(r"(src|href)=.?(https?:)?//", before)
    assert "data:image/jpeg;base64," in before
    found = json.loads(re.search(r'id="figures" type="application/json">(.*?)</script>', page)[1])
    assert sorted(found) == [
        *("classes", "curve-ap", "curve-loss", "differences"),
        *("pareto-gflops", "pareto-latency", "pareto-params"),
    ]
    for figure in found:
        assert f'id="{figure}"' in before
    for name in ("pareto", "differences", "curves"):
        assert (files / "figures" / f"{name}.png").stat().st_size > 5000
        assert "<svg" in (files / "figures" / f"{name}.svg").read_text()


def test_failed_and_missing_runs_are_told(project):
    plan = json.loads((project / "plan.json").read_text())
    for seed in range(3):
        file = project / "records" / f"ca-seed{seed}.json"
        record = json.loads(file.read_text())
        record |= {"status": "failed", "error": "out of memory", "log": "runs/ca/log.txt"}
        file.write_text(json.dumps(record))
    (project / "records" / "sk-seed2.json").unlink()
    (project / "records" / "speed.json").unlink()
    report.write(project)
    failures = report.read(project, plan)[1]
    assert len(failures) == 3
    text = (project / "report.md").read_text()
    assert "ca-seed0 failed: out of memory (log: runs/ca/log.txt)" in text
    assert "- ca: nothing to compare: no seed finished in both." in text
    assert "at 2 seeds" in text
    assert "ca-seed0 failed: out of memory" in (project / "report.html").read_text()
    rows = [line.split(" & ") for line in (project / "table.tex").read_text().splitlines()]
    [row] = [row for row in rows if row[0] == "ca"]
    assert row[1:4] == ["$--$", "--", "$--$"]  # no seed of it has finished


def test_runs_that_learned_nothing_are_told(project):
    for file in (project / "records").glob("*-seed*.json"):
        record = json.loads(file.read_text())
        record["metrics"]["AP"] = 0.0002
        file.write_text(json.dumps(record))
    assert "AP is below 0.001 throughout" in report.write(project)
    assert "AP is below 0.001 throughout" in (project / "report.html").read_text()


def test_front_holds_what_nothing_beats():
    points = [(3.0, 0.5), (1.0, 0.4), (2.0, 0.3), (2.0, 0.45), (4.0, 0.5)]
    assert figures.front(points) == [(1.0, 0.4), (2.0, 0.45), (3.0, 0.5)]
