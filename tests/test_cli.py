"""The ``yolograft`` command."""

import json
import os
import pty
import re
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from yolograft import cli, hooks, install, registry
from yolograft.graft import recipes
from yolograft.hooks import HOOKS


def test_list_shows_every_block_under_its_role(capsys):
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    for role in dict.fromkeys(block.role for block in registry.table()):
        part = out[out.index(f"{role.name}: {role.about}") :].partition("\n\n")[0]
        for block in registry.table():
            line = next((x for x in part.splitlines() if x.startswith(f"  {block.name} ")), "")
            assert bool(line) == (block.role is role)
            assert not line or {*block.aliases} <= {*line.replace(",", "").split()}
    assert "gradient" not in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("SKConv", "SKConv"),
        ("sk", "SKConv"),
        ("spm", "StripPooling"),
        ("nonlocal", "NonLocal"),
        ("yolov8-hrnet.yaml", "HRNet"),
    ],
)
def test_list_finds_a_block_by_what_it_is_called(word, name, capsys):
    assert cli.main(["list", word]) == 0
    assert capsys.readouterr().out.startswith(f"{name}(")


def test_list_one_shows_all_that_a_row_needs(capsys):
    assert cli.main(["list", "SKConv"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("SKConv(c1: int, c2: int, k: int = 3, s: int = 1, branches: int = 2,")
    assert "\n    z   = ReLU(BN(W1 mean(sum_i U_i)))\n" in out
    assert "\n- [-1, 1, SKConv, [256, 3, 1]]\n" in out
    assert "\n- [-1, 3, C2f_SK, [256, True]]\n" in out
    assert "\nbranches   2        Number of branches, at least 2.\n" in out
    assert "recipe   sk, as in yolo11n-sk.yaml\nconfig   yolov8-sk.yaml\n" in out
    assert out.endswith("paper    https://arxiv.org/abs/1903.06586\n")
    assert "``" not in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("block", registry.OURS, ids=lambda block: block.name)
def test_each_block_is_described(block, capsys):
    assert cli.main(["list", block.name]) == 0
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines() if line[:4] != "    ") <= 80  # but equations
    assert f"https://arxiv.org/abs/{block.paper}" in out
    assert ":class:" not in out


def test_a_recipe_of_several_blocks_is_shown_as_a_recipe(capsys):
    assert cli.main(["list", "combo"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("combo\n")
    assert "steps:\n  - use: spd\n  - use: ca\n  - use: sk\n" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["list", "CBAN"], "yolograft: unknown block 'CBAN'\n\nHint: did you mean CBAM?\n"),
        (["list", "xyzzy"], "Hint: `yolograft list` shows all blocks\n"),
        (["recipes", "xyzzy"], "Hint: the recipes are acmix, "),
        (["recipes", "cban"], "unknown recipe 'cban'\n\nHint: did you mean cbam?\n"),
        (["compar"], "yolograft: unknown command 'compar'\n\nHint: did you mean compare?\n"),
        (["xyzzy"], "Hint: the commands are list, recipes, patch, train, val, coco, compare, "),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(words, says, capsys):
    assert cli.main(words) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["patch", "yolo11n.yaml", "--recipie", "sk"], "--recipie; did you mean --recipe?"),
        (["coco", "check", "--allow-mising", "x.json"], "did you mean --allow-missing?"),
        (
            ["compare", "--seed", "3", "--epoch=2", "--jobs-pr-device"],
            "did you mean --jobs-per-device?",
        ),
        (["coco", "chek"], "'chek' is unknown; did you mean check?"),
        (["completion", "bsh"], "'bsh' is unknown; did you mean bash?"),
        (["patch", "x.pt", "--recipe", "sk", "--warm", "exac"], "did you mean exact?"),
        (["list", "--quite"], "unrecognized arguments: --quite\n"),
    ],
)
def test_a_wrong_option_is_refused_with_the_nearest(words, says, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    assert says in capsys.readouterr().err


def test_recipes_shows_all_and_ones_own(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    mine = "about: mine\nsteps:\n  - {insert: SE, at: {rows: [4]}}\n"
    (tmp_path / "recipes" / "mine.yaml").write_text(mine)
    assert cli.main(["recipes"]) == 0
    out = capsys.readouterr().out
    for name in recipes.names():
        blocks = {step.label for step in recipes.load(name).steps}
        line = next(x for x in out.splitlines() if x.startswith(f"{name} "))
        assert any(block in line for block in blocks)
    assert "mine (yours)  SE" in out
    assert max(map(len, out.splitlines())) <= 80
    for name in ("cbam", "mine"):
        assert cli.main(["recipes", name]) == 0
        out = capsys.readouterr().out
        assert "\nsteps:\n  - " in out
        assert f"--recipe {name} --warm exact\n" in out


@pytest.mark.parametrize("word", ["cbam", "CBAM", "yolov8-cbam.yaml"])
def test_recipes_finds_a_recipe_by_its_block(word, capsys):
    assert cli.main(["recipes", word]) == 0
    out = capsys.readouterr().out
    assert out.startswith("cbam\n")
    assert out.endswith("As a model YAML of the pack: yolov8-cbam.yaml\n")


def test_recipes_shows_the_others_beside_a_wrong_one(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "bad.yaml").write_text("steps: []\n")
    assert cli.main(["recipes"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("bad (yours)")
    assert "cannot be used: recipe bad: " in lines[1]
    assert any(line.startswith("cbam ") for line in lines)


# -------------------------------------------------------------------------------------- the doctor


def test_doctor_finds_nothing_wrong_here(capfd, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.delenv("YOLOGRAFT_AUTOLOAD", raising=False)
    assert cli.main(["doctor"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("ok ")] == [
        "ok  `yolo` on the PATH",
        "ok  start-up line",
        "ok  wrapped functions",
        "ok  a small model",
    ]
    assert lines[-1] == "All is well: `yolo` knows the blocks."
    assert not [line for line in lines if "BAD" in line]


def test_doctor_reports_a_function_that_is_not_wrapped(capfd, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.setitem(hooks.STATUS, "ultralytics.nn.tasks:parse_model", "parse_model is missing")
    monkeypatch.delitem(hooks.STATUS, "ultralytics.cfg:entrypoint")
    assert cli.main(["doctor"]) == 1
    out = " ".join(capfd.readouterr().out.split())
    says = (
        "not wrapped: ultralytics.cfg:entrypoint (not attached), ultralytics.nn.tasks:parse_model"
    )
    first = f"Not well: 1 of 4 checks failed. Start with wrapped functions: {says}"
    assert f"{first} (parse_model is missing); update yolograft" in out


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


@pytest.mark.parametrize(
    "command", [command.__name__.rpartition(".")[2] for command in cli._COMMANDS]
)
def test_each_command_stands_in_the_list_with_two_examples(command, capsys, monkeypatch):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    out = capsys.readouterr().out
    assert re.search(rf"^    {command} *\n? +\w+", out, re.MULTILINE)
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    examples = re.findall(rf"^  (?:eval \"\$\()?yolograft {command}", text, re.MULTILINE)
    assert len(examples) >= 2
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("env", "says", "remedy"),
    [
        ({"PATH": "/nowhere"}, "BAD `yolo` on the PATH there is none", "there is none; run `pip"),
        (
            {"YOLOGRAFT_AUTOLOAD": "0"},
            "BAD start-up line YOLOGRAFT_AUTOLOAD=0 switches it off",
            "YOLOGRAFT_AUTOLOAD=0 switches it off; unset it",
        ),
    ],
)
def test_doctor_prints_the_remedy(env, says, remedy, capfd, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    assert cli.main(["doctor"]) == 1
    out = " ".join(capfd.readouterr().out.split())
    assert says in out
    assert re.search(rf"Not well: [12] of 4 checks failed. Start with [^:]+: {remedy}", out)


def test_doctor_finds_a_yolo_of_another_python(tmp_path, capfd, monkeypatch):
    command = tmp_path / "yolo"
    command.write_text("#!/opt/other/bin/python3\nimport sys\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["doctor"]) == 1
    out = " ".join(capfd.readouterr().out.split())
    assert "runs /opt/other/bin/python3, not" in out
    assert f"`/opt/other/bin/python3 -m {install.line()}`" in out


def test_help_shows_the_stock_command():
    done = subprocess.run(
        [Path(sys.executable).with_name("yolograft"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "yolo train model=yolov8n-sk.yaml data=shapes.yaml" in " ".join(done.stdout.split())


# ---------------------------------------------------------------------------- terminals and pipes

COMMAND = Path(sys.executable).with_name("yolograft")


def in_terminal(words, columns=80, **env):
    """Run the command in a terminal; return its status and what the terminal got."""
    status, got = None, b""
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "CI")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": str(columns), **env}
    pid, master = pty.fork()
    if pid == 0:
        os.execve(COMMAND, [str(COMMAND), *words], environment)  # the child
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        got += part
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, got.decode().replace("\r\n", "\n")


def visible(text):
    """Return what is seen of a text with control codes; a spinner's lines are erased."""
    text = re.sub(r"\x1b\[\??[\d;]*[A-Za-z]", "", text)
    return [line.rpartition("\r")[2] for line in text.split("\n")]


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["list", "sk"],
        ["recipes"],
        ["recipes", "sk"],
        ["--help"],
        ["compare", "--help"],
        ["patch", "yolo11n.yaml", "--recipe", "sk", "--dry-run"],
    ],
    ids=" ".join,
)
def test_a_terminal_gets_colour_and_a_pipe_plain_text(words):
    status, got = in_terminal(words)
    assert status == 0
    assert re.search(r"\x1b\[(1|3\d)", got)
    assert max(map(len, visible(got))) <= 80
    status, got = in_terminal(words, NO_COLOR="1")
    assert not re.search(r"\x1b\[(3|4|9)\d", got)  # no colour
    done = subprocess.run([COMMAND, *words], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not re.search("[\u2500-\u257f]", done.stdout)  # no lines of boxes


def test_bare_yolograft_prints_the_help_and_the_exit_codes(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: yolograft ")
    assert re.search(r"Exit codes: 0 .* 1 .* 2 .* 130 ", " ".join(out.split()))


def test_an_interrupt_ends_in_one_line(capsys, monkeypatch):
    def stopped(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("yolograft.cli.val.main", stopped)
    assert cli.main(["val"]) == 130
    assert capsys.readouterr().err == "yolograft: stopped\n"


def test_a_reader_may_leave_early():
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {COMMAND} recipes | true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_in_a_terminal_has_colour():
    status, got = in_terminal(["compar"])
    assert status == 2
    assert "\x1b[1;31myolograft: \x1b[0m" in got
    assert visible(got)[:3] == [
        "yolograft: unknown command 'compar'",
        "",
        "Hint: did you mean compare?",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_command(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    out = capsys.readouterr().out
    for command in cli._COMMANDS:
        assert command.__name__.rpartition(".")[2] in out
    assert "warm" in out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=out, text=True, check=True)


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        ({"url": "file:///a%20b", "dir_info": {"editable": True}}, 'pip install -e "/a b[ray]"'),
        ({"url": "file:///a", "dir_info": {}}, 'pip install "/a[ray]"'),
        (
            {"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "1"}},
            'pip install "yolograft[ray] @ git+https://host/x.git"',
        ),
        (
            {"url": "https://host/x.whl", "archive_info": {}},
            'pip install "yolograft[ray] @ https://host/x.whl"',
        ),
        (None, 'pip install "ray>=2.40"'),
    ],
)
def test_messages_install_from_where_this_copy_came(origin, line, monkeypatch):
    text = json.dumps(origin) if origin else None
    read = PathDistribution.read_text
    monkeypatch.setattr(
        PathDistribution,
        "read_text",
        lambda self, name: text if name == "direct_url.json" else read(self, name),
    )
    assert install.line("ray") == line


def test_every_command_and_option_is_in_the_docs():
    page = (Path(__file__).parents[1] / "docs" / "commands.md").read_text()
    parser = cli.parser()
    commands = next(a for a in parser._actions if hasattr(a, "choices") and a.choices).choices
    for name, command in commands.items():
        part = page[page.index(f"\n## yolograft {name}\n") :].partition("\n## ")[2]
        part = part.partition("\n## ")[0]
        nested = [a.choices for a in command._actions if isinstance(a.choices, dict)]
        for one in (command, *(x for choices in nested for x in choices.values())):
            for action in one._actions:
                for option in action.option_strings:
                    assert option in ("-h", "--help") or f"`{option}" in part, (name, option)
