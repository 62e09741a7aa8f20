"""The ``yolograft`` command."""

import subprocess
import sys
from pathlib import Path

import pytest

from yolograft import cli, hooks, registry
from yolograft.hooks import HOOKS


def test_list_shows_every_block(capsys):
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    for block in registry.table():
        line = next(line for line in out.splitlines() if line.startswith(block.name + " "))
        assert str(block.role) in line
        assert block.paper in line
        for alias in block.aliases:
            assert alias in line


@pytest.mark.parametrize("name", ["SKConv", "SK"])
def test_list_one_shows_signature_and_docstring(name, capsys):
    assert cli.main(["list", name]) == 0
    out = capsys.readouterr().out
    assert out.startswith("SKConv(c1: int, c2: int, k: int = 3, s: int = 1, branches: int = 2,")
    assert "Selective Kernel" not in out.splitlines()[0]
    assert "https://arxiv.org/abs/1903.06586" in out
    assert "Config: yolov8-sk.yaml" in out


def test_unknown_block_is_reported_with_a_suggestion(capsys):
    assert cli.main(["list", "CBAN"]) == 2
    assert capsys.readouterr().err == (
        "yolograft: unknown block 'CBAN'\n\nHint: did you mean CBAM?\n"
    )


def test_doctor_finds_nothing_wrong_here(capfd, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.delenv("YOLOGRAFT_AUTOLOAD", raising=False)
    assert cli.main(["doctor"]) == 0
    lines = capfd.readouterr().out.splitlines()
    wrapped = [line.removeprefix("    wrapped  ") for line in lines if line[:4] == "    "]
    assert wrapped == [hook.target.replace(":", ".") for hook in HOOKS]
    assert "ultralytics.nn.tasks.parse_model" in wrapped
    assert not [line for line in lines if "BAD" in line]


def test_doctor_reports_a_function_that_is_not_wrapped(capfd, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.setitem(hooks.STATUS, "ultralytics.nn.tasks:parse_model", "parse_model is missing")
    monkeypatch.delitem(hooks.STATUS, "ultralytics.cfg:entrypoint")
    assert cli.main(["doctor"]) == 1
    out = capfd.readouterr().out
    assert "    not wrapped  ultralytics.nn.tasks.parse_model\n" in out
    assert "    not wrapped  ultralytics.cfg.entrypoint\n" in out
    assert "BAD wrapped functions: not attached; parse_model is missing; run `pip " in out


def test_doctor_explains_the_hooks(capsys):
    assert cli.main(["doctor", "--hooks"]) == 0
    out = capsys.readouterr().out
    assert "ultralytics.nn.tasks.parse_model(d, ch, verbose)\n    why      rows of a" in out
    for hook in HOOKS:
        entry = out[out.index(f"{hook.target.replace(':', '.')}(") :]
        for fact in (hook.why, hook.instead, hook.since, hook.make):
            assert fact in entry


def test_the_parser_is_quick():
    """What a command does is imported when it runs."""
    code = "import sys; from yolograft import cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "ultralytics", "numpy", "yaml", "yolograft.registry", "yolograft.hooks"}
    assert not heavy & {*done.stdout.split()}
    modules = [name for name in done.stdout.split() if name.startswith("yolograft.c")]
    assert modules.index("yolograft.compare.interrupt") < modules.index("yolograft.cli.train")


@pytest.mark.parametrize("command", ["list", "doctor", "patch", "train", "val", "coco", "compare"])
def test_each_command_stands_in_the_list_with_a_help_text(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith(f"    {command} "))
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    assert len(line.split()) > 4
    assert len(text.split("\n\n")) > 2


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"PATH": "/nowhere"}, "BAD `yolo` on the PATH: there is none"),
        ({"YOLOGRAFT_AUTOLOAD": "0"}, "BAD start-up line: YOLOGRAFT_AUTOLOAD=0 switches it off"),
    ],
)
def test_doctor_prints_the_remedy(env, says, capfd, monkeypatch):
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    assert cli.main(["doctor"]) == 1
    assert says in capfd.readouterr().out


def test_doctor_finds_a_yolo_of_another_python(tmp_path, capfd, monkeypatch):
    command = tmp_path / "yolo"
    command.write_text("#!/opt/other/bin/python3\nimport sys\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["doctor"]) == 1
    assert "runs /opt/other/bin/python3, not" in capfd.readouterr().out


def test_help_shows_the_stock_command():
    done = subprocess.run(
        [Path(sys.executable).with_name("yolograft"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "yolo train model=yolov8n-sk.yaml data=shapes.yaml" in " ".join(done.stdout.split())
