"""Whole writes, locks, the cache folder."""

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from yolograft import ConfigError, files

MODULES = Path(files.__file__).parent


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache folder of each test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "yolograft"


def start(code, *args, env=()):
    """Start Python; it prints a line when it has come to the place of interest."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **dict(env)},
    )
    assert process.stdout.readline() == "ready\n"
    return process


# ------------------------------------------------------------------------------------------- write


@pytest.mark.parametrize(
    "content", ["text: ü\n", b"\x00bytes", lambda stream: stream.write(b"from a function")]
)
def test_a_file_is_written_with_its_folder(content, tmp_path):
    file = tmp_path / "a" / "b" / "file.txt"
    for _ in range(2):  # new, then over the old one
        files.write(file, content)
    wanted = content if isinstance(content, bytes) else b"from a function"
    assert file.read_bytes() == (content.encode() if isinstance(content, str) else wanted)
    assert [p.name for p in file.parent.iterdir()] == ["file.txt"]


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    file = tmp_path / "file"
    files.write(file, "old")

    def fail(stream):
        stream.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write(file, fail)
    assert file.read_text() == "old"
    assert list(tmp_path.glob("file*")) == [file]


HALF = """
    import sys, time
    from pathlib import Path
    from yolograft import files

    def half(stream):
        stream.write(b"half")
        stream.flush()
        print("ready", flush=True)
        time.sleep(100)

    files.write(Path(sys.argv[1]), half)
"""


def test_a_killed_writer_leaves_the_old_file_and_its_part_is_removed(home):
    file = home / "data" / "file.yaml"
    files.write(file, "old")
    process = start(HALF, file)
    (part,) = file.parent.glob("*.part")
    assert part.read_bytes() == b"half"
    files.write(file.parent / "other.yaml", "x")
    assert part.exists()  # its writer lives
    process.kill()
    process.wait()
    assert file.read_text() == "old"
    files.write(file.parent / "other.yaml", "x")
    assert not part.exists()
    assert {p.name for p in file.parent.iterdir()} == {"file.yaml", "other.yaml"}


def test_parts_of_other_machines_are_removed_by_age(home):
    home.mkdir(parents=True)
    there, lost = (home / f"{name}.1-2@elsewhere.part" for name in "ab")
    here = home / f"c.{os.getpid()}-2@{socket.gethostname()}.part"
    foreign = home / "no-writer.part"
    for part in (there, lost, here, foreign):
        part.write_text("half")
    two_days = time.time() - 2 * 24 * 60 * 60
    for part in (lost, foreign):
        os.utime(part, (two_days, two_days))
    files.write(home / "file", "x")
    assert {p.name for p in home.iterdir()} == {there.name, here.name, foreign.name, "file"}


def test_outside_the_cache_folder_nothing_is_removed(tmp_path):
    part = tmp_path / "a.1-2@elsewhere.part"
    part.write_text("half")
    os.utime(part, (0, 0))
    files.write(tmp_path / "file", "x")
    assert part.exists()


def test_a_long_name_can_be_written(tmp_path):
    files.write(tmp_path / ("x" * 250), "text")
    assert (tmp_path / ("x" * 250)).read_text() == "text"


def test_files_are_replaced_and_locked_in_one_place():
    """Folders and files that are moved aside are no writes."""
    found = {
        f"{file.relative_to(MODULES)}: {line.strip()}"
        for file in MODULES.rglob("*.py")
        for line in file.read_text().splitlines()
        if re.search(r"os\.(replace|rename)\(|mkstemp|NamedTemporaryFile|\bfcntl\b|msvcrt", line)
    }
    kept = {line for line in found if line.startswith("files.py: ") or "folder" in line}
    assert found == kept
    assert "files.py: os.replace(part, file)" in found


# ------------------------------------------------------------------------------------------- locks

HELD = """
    import sys
    from pathlib import Path
    from yolograft import files

    with files.locked(Path(sys.argv[1])) as held:
        assert held
        print("ready", flush=True)
        sys.stdin.readline()
"""

WAITS = """
    import sys
    from pathlib import Path
    from yolograft import files

    print("ready", flush=True)
    with files.locked(Path(sys.argv[1])) as held:
        print(held, flush=True)
"""


@pytest.fixture
def lock(tmp_path):
    """A lock that another process holds, and the process."""
    file = tmp_path / "a" / "lock"
    holder = start(HELD, file)
    yield file, holder
    holder.kill()
    holder.wait()


def test_without_waiting_a_lock_of_another_process_is_reported(lock):
    file, holder = lock
    with files.locked(file, wait=False) as held:
        assert held is False
    holder.communicate("end\n")
    with files.locked(file, wait=False) as held:
        assert held is True


def test_who_waits_gets_the_lock_when_it_is_free(lock):
    file, holder = lock
    waiting = start(WAITS, file)
    time.sleep(0.5)
    assert waiting.poll() is None
    holder.communicate("end\n")
    assert waiting.stdout.read() == "True\n"


def test_a_killed_process_releases_its_lock(lock):
    file, holder = lock
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with files.locked(file, wait=False) as held:
        assert held


def test_an_error_releases_the_lock(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.locked(tmp_path / "lock"):
        raise KeyboardInterrupt
    with files.locked(tmp_path / "lock", wait=False) as held:
        assert held


NO_FCNTL = """
    import sys
    sys.modules["fcntl"] = None  # as on Windows
    from pathlib import Path
    from yolograft import files

    with files.locked(Path(sys.argv[1])) as held:
        with files.locked(Path(sys.argv[1]), wait=False) as again:
            print("ready", flush=True)
            print(held, again, flush=True)
"""


def test_locks_need_no_fcntl(tmp_path):
    """Ours go through filelock, which has a lock for each system."""
    process = start(NO_FCNTL, tmp_path / "lock")
    assert process.stdout.read() == "True False\n"
    assert process.wait() == 0


# ------------------------------------------------------------------------------------------- cache


def test_the_cache_folder_is_that_of_the_system(home, monkeypatch):
    if sys.platform.startswith("linux"):
        assert files.cache("data", "a.yaml") == home / "data" / "a.yaml"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", "/somewhere")
        assert files.cache() == Path("/somewhere/.cache/yolograft")
    assert files.cache().name == "yolograft"
    assert not home.exists()  # asking creates nothing


def test_a_text_is_kept_in_the_cache_folder(home):
    file = files.keep("nc: 1\n", "models", files.digest("nc: 1\n"), "a.yaml")
    assert file == str(home / "models" / files.digest("nc: 1\n") / "a.yaml")
    assert Path(file).read_text() == "nc: 1\n"
    assert files.digest("nc: 1\n") != files.digest("nc: 2\n")


def test_a_cache_folder_that_cannot_be_written_is_reported(home):
    home.parent.mkdir()
    home.write_text("a file")
    with pytest.raises(ConfigError) as error:
        files.keep("text", "data", "a.yaml")
    assert str(error.value).startswith(f"{home / 'data' / 'a.yaml'}: ")
    assert "set XDG_CACHE_HOME" in str(error.value)


def test_the_packs_own_files_are_found():
    assert (files.CFG / "recipes").is_dir()
    assert (files.CFG / "data" / "shapes.yaml").is_file()
