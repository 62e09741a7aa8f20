"""The comparisons in docs/results: small, and equal to what their records give."""

from pathlib import Path

import pytest

from yolograft.compare import report

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.parametrize("name", ["yolov8n", "yolo11n"])
def test_tables_are_what_the_records_give(name, tmp_path):
    folder = RESULTS / "compare" / name
    for part in ("plan.json", "records.jsonl.gz"):
        (tmp_path / part).write_bytes((folder / part).read_bytes())
    report.write(tmp_path)
    for part in ("results.csv", "report.md", "table.tex"):
        assert (tmp_path / part).read_text() == (folder / part).read_text(), part


def test_pages_and_images_stay_small():
    sizes = {file: file.stat().st_size for file in RESULTS.rglob("*") if file.is_file()}
    assert sum(sizes.values()) < 1_500_000
    assert not [file for file in sizes if file.suffix == ".svg"]
