"""The bench: naive forms equal ours, and a short run writes what it should."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parents[1] / "scripts"
BLOCKS = ("SKConv", "CBAM", "SpaceToDepth", "SPDConv")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("bench")


def run(*args):
    command = [sys.executable, str(SCRIPTS / "bench.py"), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_every_row_is_tested(bench):
    assert tuple(bench.ROWS) == BLOCKS


@pytest.mark.parametrize("block", BLOCKS)
def test_naive_equals_ours(bench, block):
    modules = bench.contenders(bench.ROWS[block], (2, 16, 8, 6), "cpu", "float64")
    x = torch.randn(2, 16, 8, 6, dtype=torch.float64)
    assert bench.difference(modules["ours"], modules["naive"], x) < 1e-12


def test_a_difference_is_found(bench):
    modules = bench.contenders(bench.ROWS["CBAM"], (2, 16, 8, 6), "cpu", "float64")
    with torch.no_grad():
        modules["naive"].mlp[0].weight.mul_(2)
    x = torch.randn(2, 16, 8, 6, dtype=torch.float64)
    assert bench.difference(modules["ours"], modules["naive"], x) > 1e-4


def test_ratio(bench):
    ours = torch.linspace(1, 2, 30).numpy()
    found = bench.ratio(3 * ours, ours)
    assert found == pytest.approx({"ratio": 3, "low": 3, "high": 3})
    noisy = bench.ratio(ours[::-1], ours)
    assert noisy["low"] < noisy["ratio"] < noisy["high"]


def test_peak_counts_what_is_alive_at_once(bench):
    x = torch.zeros(1024)

    def function():
        a = x + 1
        b = a + 1  # two alive
        del a
        (b + 1).sum()  # two again

    # the ones and the sum are small tensors of their own
    assert bench.peak(function, "cpu") == pytest.approx(2 * x.nbytes, abs=64)


def test_run(tmp_path):
    out = tmp_path / "a" / "bench.json"
    page = tmp_path / "bench.md"
    args = ("--shapes", "2x16x8x8", "2x16x4x4", "--rounds", 3, "--threads", 1, "--device", "cpu")
    done = run(*args, "--json", out, "--markdown", page)
    assert done.returncode == 0, done.stderr
    assert f"[8/8] {BLOCKS[-1]} 2x16x4x4 cpu" in done.stderr
    result = json.loads(out.read_text())
    assert (result["rounds"], result["machine"]["threads"]) == (3, 1)
    assert result["command"] == "python scripts/bench.py " + " ".join(
        map(str, (*args, "--json", out, "--markdown", page))
    )
    places = [(r["block"], tuple(r["shape"]), r["mode"]) for r in result["records"]]
    modes = ("forward", "forward + backward")
    shapes = ((2, 16, 8, 8), (2, 16, 4, 4))
    assert places == [(b, s, m) for b in BLOCKS for s in shapes for m in modes]
    for record in result["records"]:
        assert record["difference"] < 1e-4
        assert all(value > 0 for value in record["milliseconds"].values())
        assert all(value > 0 for value in record["peak_bytes"].values())
        found = record["naive_over_ours"]
        assert found["low"] <= found["ratio"] <= found["high"]
        parts = (record["block"], record["mode"]) == ("SKConv", "forward")
        assert ("ours_over_parts" in record) == parts
    text = page.read_text()
    assert text.count("| 2x16x8x8 |") == 8
    assert "SKConv, forward over its branch convolutions alone" in text
    assert "Slower than naive" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(tmp_path):
    out, page = tmp_path / "bench.json", tmp_path / "bench.md"
    done = run("--device", "cuda", "--blocks", "CBAM", "--json", out, "--markdown", page)
    assert done.returncode == 0, done.stderr
    records = json.loads(out.read_text())["records"]
    assert [r["status"] for r in records] == ["not measured"] * 6
    assert "6 rows not measured: the machine has no GPU" in page.read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--shapes", "8,64"), "'8,64' is no shape; write batch, channels, height, width as 8x64x"),
        (("--shapes", "1x8x8x8"), "'1x8x8x8': the naive forms need a batch of 2"),
        (("--blocks", "Nope"), "choose from"),
        (("--rounds", "0"), "--rounds: use 1 or more"),
    ],
)
def test_refusals(args, message):
    done = run(*args)
    assert done.returncode == 2
    assert message in done.stderr
