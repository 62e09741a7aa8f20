"""The bench: naive and public forms equal ours, and a short run writes what it should."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from scripts.bench import blocks as bench
from scripts.bench import blocks_page, common
from scripts.bench.contenders import LIBRARIES, NOT_MEASURED, ROWS, load

from yolograft import registry

ROOT = Path(__file__).parents[1]
SHAPE = (3, 16, 8, 12)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def run(*args):
    command = [sys.executable, "-m", "scripts.bench.blocks", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)


def inputs(block):
    return [torch.randn(size) for size in ROWS[block].inputs(SHAPE)]


def test_every_block_has_a_row():
    names = {block.name for block in registry.table()}
    assert names - {*ROWS} == {*NOT_MEASURED}
    parts = {"ACmix attention", "HRModule"}
    assert {*ROWS} - names == parts
    assert {library for row in ROWS.values() for library in row.public} == {*LIBRARIES}


@pytest.mark.parametrize("block", ROWS)
def test_naive_equals_ours(double, block):
    modules = bench.sides(block, SHAPE)
    gap = bench.difference(modules["ours"], modules["naive"], inputs(block))
    assert gap < 1e-12


@pytest.mark.parametrize("library", LIBRARIES)
def test_public_forms_equal_ours(double, library):
    pytest.importorskip(library, reason=f'{library} comes with pip install -e ".[bench]"')
    for block in [name for name, row in ROWS.items() if library in row.public]:
        modules = bench.sides(block, SHAPE, (library,))
        gap = bench.difference(modules["ours"], modules[library], inputs(block))
        assert gap < 1e-12, block


def test_a_difference_is_found():
    modules = bench.sides("CBAM", SHAPE)
    with torch.no_grad():
        modules["naive"].block.mlp[0].weight.mul_(2)
    x = torch.randn(SHAPE)
    assert bench.difference(modules["ours"], modules["naive"], [x]) > 1e-4
    with pytest.raises(SystemExit, match=r"CBAM at .*: ours and naive differ by"):
        bench.compare("CBAM", modules, [x])


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="Linear: its weights do not fit"):
        load(torch.nn.Linear(3, 4), torch.nn.Linear(4, 3))


def test_ratio():
    ours = torch.linspace(1, 2, 30).numpy()
    found = common.ratio(3 * ours, ours)
    assert found == pytest.approx({"ratio": 3, "low": 3, "high": 3})
    noisy = common.ratio(ours[::-1], ours)
    assert noisy["low"] < noisy["ratio"] < noisy["high"]


def test_peak_counts_what_is_alive_at_once():
    x = torch.zeros(1024)

    def function():
        a = x + 1
        b = a + 1  # two alive
        del a
        (b + 1).sum()  # two again

    function()
    # the ones and the sum are small tensors of their own
    assert common.peak(function, "cpu") == pytest.approx(2 * x.nbytes, abs=64)


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 3), (1e9, 6)])
def test_slow_calls_get_fewer_rounds(seconds, rounds):
    found = common.times({"sum": torch.zeros(9).sum}, common.Effort(6, 3, seconds), "cpu")
    assert len(found["sum"]) == rounds


def test_variants_run_at_the_middle_shape():
    args = ["--blocks", "SE", "--device", "cpu"]
    plain = ("float32", False)
    found = bench.plan(bench.parse([*args, "--compile", "--dtype", "float32", "bfloat16"]))
    every = [plain, ("bfloat16", False), ("float32", True)]
    assert [variants for *_, variants in found] == [[plain], every, [plain]]
    assert bench.plan(bench.parse([*args, "--quick"])) == [("cpu", "SE", bench.QUICK[0], [plain])]


def record(block, side, low, **changes):
    value = {"ratio": low * 1.1, "low": low, "high": low * 1.2}
    return {
        "block": block,
        "shape": [8, 64, 80, 80],
        "device": "cpu",
        "dtype": "float32",
        "compiled": False,
        "mode": "forward",
        "status": "measured",
        "over_ours": {side: value},
        "peak_bytes": {"ours": 10, side: 51},
        **changes,
    }


def test_verdicts():
    records = [
        record("ACmix", "naive", 9),
        record("NonLocal", "naive", 5),
        record("NonLocal", "naive", 0.9, compiled=True),
        record("NonLocal", "naive", 5, device="cuda", status="not measured"),
        record("SE", "timm", 0.94),
        record("SE", "floor", 0.5),
        record("SKConv", "parts", 1 / 1.5),
    ]
    found = blocks_page.verdicts({"records": records, "against": ["timm"]})
    assert found == [
        "Slower than naive (lower end of the interval below 0.95), of 3: "
        "NonLocal (compiled) 8x64x80x80 forward 0.99 [0.90, 1.08].",
        "Slower than timm (lower end of the interval below 0.95), of 1: "
        "SE 8x64x80x80 forward 1.03 [0.94, 1.13].",
        "SKConv, forward over its branch convolutions alone: 1.36 [1.25, 1.50]; above 1.2: "
        "SKConv 8x64x80x80 forward 0.73 [0.67, 0.80].",
        "Goal: ACmix 8x64x80x80 forward on cpu, time naive / ours at least 10: "
        "9.90 [9.00, 10.80], missed.",
        "Goal: ACmix 8x64x80x80 forward on cpu, memory naive / ours at least 5: 5.1, reached.",
        "Goal: NonLocal 8x64x80x80 forward on cpu, time naive / ours at least 5: "
        "5.50 [5.00, 6.00], reached.",
        "Goal: NonLocal 8x64x80x80 forward on cuda: not measured.",
        "Bandwidth floor over gate (1: as fast as memory allows), forward, cpu: "
        "SE 8x64x80x80 0.55.",
        "Bandwidth floor over gate (1: as fast as memory allows), forward, cuda: not measured.",
    ]


@pytest.mark.long
def test_run(tmp_path):
    out = tmp_path / "a" / "bench.json"
    page = tmp_path / "bench.md"
    against = [name for name in LIBRARIES if find_spec(name)]
    args = ("--against", ",".join(against), "--shapes", "2x16x8x8", "--rounds", 3)
    args += ("--threads", 1, "--device", "cpu", "--json", out, "--markdown", page)
    done = run(*args)
    assert done.returncode == 0, done.stderr
    assert f"[{len(ROWS)}/{len(ROWS)}] {[*ROWS][-1]} 2x16x8x8 cpu" in done.stderr
    result = json.loads(out.read_text())
    assert (result["rounds"], result["quick"], result["machine"]["threads"]) == (3, False, 1)
    assert all(result["machine"][name] for name in against)
    assert result["command"] == "python -m scripts.bench.blocks " + " ".join(map(str, args))
    places = [(r["block"], tuple(r["shape"]), r["mode"]) for r in result["records"]]
    modes = ("forward", "forward + backward")
    assert places == [(block, (2, 16, 8, 8), mode) for block in ROWS for mode in modes]
    for record in result["records"]:
        assert not record["left_out"]
        assert all(gap < 1e-5 for gap in record["difference"].values())
        assert all(value > 0 for value in record["milliseconds"].values())
        assert all(value > 0 for value in record["peak_bytes"].values())
        for value in record["over_ours"].values():
            assert value["low"] <= value["ratio"] <= value["high"]
        forward = record["mode"] == "forward"
        assert ("parts" in record["over_ours"]) == (forward and record["block"] == "SKConv")
        gates = ("SE", "CBAM", "CoordAtt", "GlobalContext", "StripPooling")
        assert ("floor" in record["over_ours"]) == (forward and record["block"] in gates)
    sides = {side for r in result["records"] for side in r["over_ours"]}
    assert sides == {"naive", "parts", "floor", *against}
    text = page.read_text()
    assert text.count("| 2x16x8x8 |") == sum(len(r["over_ours"]) for r in result["records"])
    assert text.count("| torchvision.ops.DeformConv2d |") == 2
    assert "Slower than torchvision" in done.stdout


@pytest.mark.slow
def test_compiled(tmp_path):
    out, page = tmp_path / "bench.json", tmp_path / "bench.md"
    args = ("--blocks", "SE", "DeformConv", "--shapes", "2x16x8x8", "--rounds", 3, "--compile")
    args += ("--dtype", "float32", "bfloat16", "--device", "cpu", "--json", out, "--markdown", page)
    done = run(*args)
    assert done.returncode == 0, done.stderr
    records = json.loads(out.read_text())["records"]
    assert len(records) == 2 * 3 * 2  # blocks, variants, modes
    text = page.read_text()
    assert "## CPU, float32, compiled" in text
    # torchvision's operator has no bfloat16 on a CPU
    assert text.count("| did not run |") == sum(len(r["left_out"]) for r in records) > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.long
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
        (
            ("--shapes", "8,64"),
            "'8,64' is not a shape; write batch, channels, height, width as 8x64x",
        ),
        (("--shapes", "1x8x8x8"), "'1x8x8x8': the naive forms need a batch of 2"),
        (("--shapes", "2x8x6x8"), "'2x8x6x8': the naive forms need a batch of 2"),
        (("--blocks", "Nope"), "choose from"),
        (("--rounds", "0"), "--rounds: use 1 or more"),
        (("--against", "timn"), "'timn' is not one of timm, mmcv, torchvision"),
        (("--quick", "--compile"), "--quick: it is eager and float32"),
    ],
)
def test_refusals(capsys, args, message):
    with pytest.raises(SystemExit, match="2"):
        bench.parse(args)
    assert message in capsys.readouterr().err


def test_a_library_that_is_not_installed(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SystemExit, match="2"):
        bench.parse(["--against", "timm"])
    assert (
        'timm is not installed; install it with pip install -e ".[bench]"'
        in capsys.readouterr().err
    )
