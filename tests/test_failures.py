"""Blocks of others that raise or return no map, layers to blend from, what a config executes."""

import logging
import threading
import time

import pytest
import torch
import yaml
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv

import yolograft
from yolograft import ConfigError

FAILURES = {
    "assertion": AssertionError(),
    "key": KeyError("mode"),
    "zero": ZeroDivisionError("division by zero"),
    "runtime": RuntimeError("boom"),
    "type": TypeError("no such thing"),
    "missing": FileNotFoundError(2, "No such file", "weights.bin"),
    "stop": StopIteration(),
}


class Picky(nn.Module):
    """Somebody's block that raises, or returns something else than a map, when it is told to."""

    def __init__(self, c, build="", run=""):
        super().__init__()
        self.run = run
        if build:
            raise FAILURES[build]

    def forward(self, x):
        if self.run in FAILURES:
            raise FAILURES[self.run]
        odd = {"tuple": (x, x), "list": [x], "dict": {"x": x}, "none": None, "small": x[..., ::2]}
        return odd.get(self.run, x)


class Checked(nn.Module):
    """Somebody's convolution that checks its arguments as ours do."""

    def __init__(self, c1, c2, k=3):
        super().__init__()
        if k % 2 == 0:
            msg = f"Checked: k={k} is even\n\nHint: use 3"
            raise ValueError(msg)
        self.conv = nn.Conv2d(c1, c2, k, padding=k // 2)

    def forward(self, x):
        return self.conv(x)


@pytest.fixture(autouse=True)
def _registered(own_blocks):
    yolograft.register(Picky)
    yolograft.register(Checked)


def config(*rows, head="Detect", **keys):
    """Return a small model with rows after its stem, and a stock row that reads the last."""
    backbone = [[-1, 1, "Conv", [16, 3, 2]], *rows, [-1, 1, "Conv", [16]]]
    source = -1 if head == "Classify" else [-1]
    tail = [[source, 1, head, ["nc"]]]
    return {"nc": 2, "yaml_file": "my.yaml", "backbone": backbone, "head": tail, **keys}


def refusal(call, *args):
    """Return what a call says as it refuses, which is all that there is to print."""
    with pytest.raises(ConfigError) as caught:
        call(*args)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def detect(*rows, **keys):
    return tasks.DetectionModel(config(*rows, **keys), verbose=False)


@pytest.mark.parametrize("where", ["build", "run"])
@pytest.mark.parametrize("kind", FAILURES)
def test_what_a_block_raises_is_reported_with_file_row_and_block(kind, where):
    text = refusal(detect, [-1, 1, "CBAM", []], [0, 2, "Picky", [{where: kind}]])
    error = FAILURES[kind]
    assert text.startswith(f"my.yaml, row 2 (backbone): Picky: {type(error).__name__}")
    assert str(error) in text
    assert f"({__file__}, line " in text


def test_the_row_of_a_stage_with_a_failing_block_inside_is_reported():
    text = refusal(detect, [-1, 1, "C2f_Picky", [16, True, {"run": "key"}]])
    assert text.startswith("my.yaml, row 1 (backbone): Picky: KeyError: 'mode'")
    text = refusal(detect, [-1, 1, "C2f_Picky", [16, True, {"run": "tuple"}]])
    assert text.startswith("my.yaml, row 1 (backbone): Picky returns a tuple, not a feature map")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("tuple", "returns a tuple, not a feature map"),
        ("list", "returns a list, not a feature map"),
        ("dict", "returns a dict, not a feature map"),
        ("none", "returns None, not a feature map"),
    ],
)
def test_a_block_that_returns_no_map_is_reported(kind, says):
    text = refusal(detect, [-1, 1, "SE", []], [-1, 1, "Picky", [{"run": kind}]], [-1, 1, "SE", []])
    assert text.startswith(f"my.yaml, row 2 (backbone): Picky {says}")


def test_a_message_with_a_hint_of_its_own_stands_as_it_is():
    text = refusal(detect, [-1, 1, "Checked", [16, {"k": 4}]])
    assert text == "my.yaml, row 1 (backbone): Checked: k=4 is even\n\nHint: use 3"


def test_a_model_that_is_not_run_while_it_is_built_reports_at_its_first_image():
    row = [-1, 1, "Picky", [{"run": "zero"}]]
    model = tasks.ClassificationModel(config(row, head="Classify"), verbose=False).eval()
    text = refusal(model, torch.zeros(1, 3, 32, 32))
    assert text.startswith("my.yaml, row 1 (backbone): Picky: ZeroDivisionError: division by zero")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("where", ["build", "run"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), torch.cuda.OutOfMemoryError("CUDA")])
def test_interrupts_and_lack_of_memory_pass(error, where, monkeypatch):
    monkeypatch.setitem(FAILURES, "passing", error)
    with pytest.raises(type(error)) as caught:
        detect([-1, 1, "Picky", [{where: "passing"}]])
    assert caught.value is error


def test_errors_of_stock_rows_in_a_grafted_model_stay_as_they_are():
    with pytest.raises(RuntimeError) as caught:
        detect([-1, 1, "CBAM", []], [-1, 1, "nn.Conv2d", [7, 7, 1]])
    assert not isinstance(caught.value, ConfigError)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (["Conv", [32, "x"]], "cannot be built: TypeError: "),
        (["Conv", []], "cannot be built: IndexError: list index out of range"),
        (["Convv", [32]], "cannot be built: unknown block 'Convv'\n\nHint: did you mean Conv?"),
        (["nn.Nothing", []], "cannot be built: AttributeError: module 'torch.nn' has no attribute"),
        (["Concat", [1]], "cannot be built: TypeError: "),
        (["CBAM", [{"kk": 7}]], "cannot be built: CBAM: the argument 'kk' does not exist"),
        (["Picky", [{"build": "key"}]], "cannot be built: Picky: KeyError: 'mode'"),
        (["Conv", [64]], "returns 64 channels, but the block returns 32"),
        (["check_requirements", ["numpy"]], "does not name a layer"),
        (["torch_safe_load", ["x.pt"]], "does not name a layer"),
    ],
)
def test_a_layer_to_blend_from_that_cannot_be_is_reported(layer, says):
    text = refusal(detect, [-1, 1, "SKConv", [32, {"blend": layer}]])
    assert text.startswith(f"my.yaml, row 1 (backbone): SKConv: blend={layer!r} {says}")


def test_a_layer_to_blend_from_of_another_stride_is_reported():
    text = refusal(detect, [-1, 1, "SKConv", [32, {"blend": ["Conv", [32, 3, 2]]}]])
    assert text.startswith("my.yaml, row 1 (backbone): SKConv: RuntimeError: The size of tensor a")


def test_the_yolo_command_prints_the_message_alone(yolo, tmp_path):
    bad = config([-1, 1, "SKConv", [16, {"groups": 3}]])
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(bad))
    out = yolo("train", "model=bad.yaml", "data=coco8.yaml", cwd=tmp_path, ok=False)
    assert "yolograft: bad.yaml, row 1 (backbone): SKConv: groups=3 does not divide c1=16" in out
    assert "Traceback" not in out


# ------------------------------------------------------------------------------ the printed table


class Meeting(nn.Module):
    """Somebody's block, which waits for others to be built at the same time."""

    barrier = threading.Barrier(1)

    def __init__(self, c):
        super().__init__()
        self.barrier.wait(60)

    def forward(self, x):
        return x


@pytest.fixture
def printed():
    """What each thread prints through the host's logger."""
    yolograft.register(Meeting)
    lines, handler = {}, logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.setdefault(record.threadName, []).append(
        record.getMessage()
    )
    tasks.LOGGER.addHandler(handler)
    yield lines
    tasks.LOGGER.removeHandler(handler)


def test_models_built_by_several_threads_print_their_own_tables(printed, monkeypatch):
    rows = [["CBAM", []], ["SKConv", [16]], ["SE", []], ["C2f_SK", [16, True]], ["Conv", [24]]]

    def threads(when):
        for label, args in rows:
            some = [[-1, n, label, args] for n in (1, 2, 1)]
            whole = config(*some, [0, 1, "Meeting", []], *some, depth_multiple=1.0)
            build = threading.Thread(
                target=tasks.parse_model, args=(whole, 3, True), name=f"{label} {when}"
            )
            build.start()
            yield build

    for build in threads("alone"):
        build.join()
    meeting = threading.Barrier(len(rows) + 1)
    monkeypatch.setattr(Meeting, "barrier", meeting)
    together = [*threads("together")]
    while meeting.n_waiting < len(rows):
        assert all(build.is_alive() for build in together)
        time.sleep(0.01)
    tasks.LOGGER.info("meanwhile")
    assert printed.pop(threading.current_thread().name) == ["meanwhile"]
    meeting.wait(60)
    for build in together:
        build.join()
    for label, _ in rows:
        table = printed[f"{label} together"]
        assert len(table) == 11
        assert table == printed[f"{label} alone"]
        assert sum(f".{label}" in line or "C2f[SKConv]" in line for line in table) >= 6


# ------------------------------------------------------------------------- what a config executes


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("nn.ReLU()", nn.ReLU),
        ("torch.nn.LeakyReLU(0.1, inplace=True)", nn.LeakyReLU),
        (" nn.Hardtanh(-1, max_val=6.0) ", nn.Hardtanh),
        ("nn.GELU(approximate='tanh')", nn.GELU),
        ("", nn.SiLU),
        (None, nn.SiLU),
    ],
)
def test_activations_of_torch_are_taken_and_do_not_reach_the_next_model(value, kind):
    model = detect([-1, 1, "CBAM", []], activation=value)
    assert type(model.model[0].act) is kind
    assert type(Conv.default_act) is nn.SiLU
    assert type(detect([-1, 1, "CBAM", []]).model[0].act) is nn.SiLU


EXECUTED = "__import__('pathlib').Path('executed').touch()"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, where nothing is executed."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "executed").exists()


BAD = [
    EXECUTED,
    f"nn.ReLU({EXECUTED})",
    f"nn.ReLU(inplace={EXECUTED})",
    f"[nn.ReLU(), {EXECUTED}][0]",
    "nn.ReLU",
    "ReLU()",
    "nn.ReLU()()",
    "nn.ReLU(*[True])",
    "nn.ReLU(**{'inplace': True})",
    "nn.ReLU(inplce=True)",
    "nn.Nothing()",
    "nn.functional.relu()",
    "nn.init.zeros_()",
    "torch.load('x.pt')",
    "nn.ReLU(",
    "nn.ReLU()\0",
    "(" * 2000,
    5,
    True,
    ["nn.ReLU()"],
    "nn.BatchNorm2d(8)",  # the width of some layers only
    "nn.Conv2d(3, 3, 1)",
    "nn.GLU()",
    "nn.ModuleList()",
    "nn.MultiheadAttention(4, 2)",
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("value", BAD)
def test_another_activation_is_refused_and_not_evaluated(value):
    text = refusal(lambda: detect([-1, 1, "CBAM", []], activation=value))
    assert text.startswith(f"my.yaml: activation: {value!r} ")
    with pytest.raises(ConfigError, match="activation"):
        yolograft.patch(config(activation=value), "cbam")


def test_an_activation_is_refused_by_name_by_patch_and_by_compare(here, capsys):
    from yolograft.cli import main
    from yolograft.compare import variants

    stock = tasks.yaml_model_load("yolov8n.yaml")
    bad = {k: v for k, v in stock.items() if k not in ("yaml_file", "scale")}
    (here / "mine.yaml").write_text(yaml.safe_dump({**bad, "activation": EXECUTED}))
    with pytest.raises(ConfigError, match=r"mine\.yaml: activation: "):
        tasks.DetectionModel("mine-cbam.yaml", verbose=False)
    assert main(["patch", "mine.yaml", "--recipe", "cbam", "-o", "out.yaml"]) == 2
    assert "mine.yaml: activation: " in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"mine\.yaml: activation: "):
        variants.counted(variants.load("model", "mine.yaml"), {"nc": 2}, 64)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "row",
    [
        [-1, 1, "check_requirements", ["numpy"]],
        [-1, 1, "torch_safe_load", ["x.pt"]],
        [-1, 1, "DetectionModel", ["yolov8n.yaml"]],
        [-1, 1, "Path", ["x"]],
        [-1, 1, "nn.functional", []],
        [-1, 1, "torchvision.ops.nms", []],
    ],
)
def test_a_row_that_names_no_layer_is_refused(row):
    text = refusal(detect, [-1, 1, "CBAM", []], row)
    assert text.startswith(f"my.yaml, row 2: {row[2]} is a function or another object, not a layer")
    with pytest.raises(ConfigError, match="not a layer"):
        yolograft.patch(config(row), "cbam")
