"""The ``yolograft`` command."""

import subprocess
import sys
from pathlib import Path

import pytest

from yolograft import cli, registry


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


def test_unknown_block_is_told_with_a_suggestion(capsys):
    assert cli.main(["list", "CBAN"]) == 2
    assert capsys.readouterr().err == (
        "yolograft: unknown block 'CBAN'\n\nHint: did you mean CBAM?\n"
    )


def test_doctor_is_content_here(capfd, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.delenv("YOLOGRAFT_AUTOLOAD", raising=False)
    assert cli.main(["doctor"]) == 0
    out = capfd.readouterr().out
    assert "wrapped  ultralytics.nn.tasks.parse_model" in out
    assert "BAD" not in out


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"PATH": "/nowhere"}, "BAD `yolo` on the PATH: there is none"),
        ({"YOLOGRAFT_AUTOLOAD": "0"}, "BAD start-up line: YOLOGRAFT_AUTOLOAD=0 switches it off"),
    ],
)
def test_doctor_tells_the_remedy(env, says, capfd, monkeypatch):
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


def test_help_teaches():
    done = subprocess.run(
        [Path(sys.executable).with_name("yolograft"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "yolo train model=yolov8n-sk.yaml data=shapes.yaml" in " ".join(done.stdout.split())
