"""Every way of ending badly: one line and a hint, the exit code of the kind, JSON where JSON was asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launcher.errors import (
    AuthError,
    CapacityError,
    IntegrityError,
    LauncherError,
    Refused,
    RemoteError,
    RunNotFound,
    SpecError,
    TargetError,
    Unreachable,
)
from tests.cli.conftest import ROOT, Done, Laptop, Script

RAISES = """
import sys
from launcher.cli import main as program
from launcher.errors import *

def fail(*_):
    {statement}

import launcher.cli.more
launcher.cli.more.version_command.callback = fail
sys.exit(program.main({words!r}))
"""


def failing(script: Script, statement: str, *words: str) -> Done:
    """`launcher version`, whose body is `statement`."""
    return script(RAISES.format(statement=statement, words=[*words, "version"]))


CODES = {
    LauncherError: 125,
    SpecError: 2,
    RunNotFound: 2,
    Refused: 126,
    TargetError: 125,
    AuthError: 125,
    CapacityError: 125,
    Unreachable: 125,
    RemoteError: 125,
    IntegrityError: 125,
}


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_each_kind_of_error_has_its_exit_code(script: Script, kind: type[LauncherError], code: int) -> None:
    done = failing(script, f"raise {kind.__name__}('it broke', 'mend it')")
    assert (done.code, done.out, done.err) == (code, "", "error: it broke\nhint: mend it\n")


def test_a_hint_that_there_is_not_is_not_shown(script: Script) -> None:
    assert failing(script, "raise Refused('no')").err == "error: no\n"


def test_errors_are_an_object_on_stdout_with_json(script: Script) -> None:
    done = failing(script, "raise Refused('no\\x1b[2J', 'yes')", "--json")
    assert (done.code, done.err) == (126, "")
    assert done.json == {"schema": 1, "error": {"code": "refused", "message": "no", "hint": "yes"}}


def test_a_server_cannot_write_to_the_terminal_through_an_error(script: Script) -> None:
    done = failing(script, "raise RemoteError('bad\\x1b]0;x\\x07\\nerror: worse')")
    assert done.err == "error: bad error: worse\n"


def test_a_bug_is_one_line_that_says_where_the_traceback_is(script: Script, launcher: Laptop) -> None:
    done = failing(script, "raise ZeroDivisionError('x\\ny')")
    assert (done.code, done.out) == (125, "")
    first, hint = done.err.splitlines()
    assert first == "error: launcher failed: ZeroDivisionError: x"
    kept = Path(hint.removeprefix("hint: the traceback is in "))
    assert kept.parent == launcher.folder / "state" / "errors"
    assert "ZeroDivisionError" in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_bug_shows_its_traceback_with_v(script: Script) -> None:
    done = failing(script, "1 / 0", "-v")
    assert done.code == 125
    assert "Traceback" in done.err
    assert "Traceback" not in failing(script, "1 / 0").err


def test_a_bug_where_nothing_can_be_written_is_still_one_line(script: Script, launcher: Laptop) -> None:
    (launcher.folder / "state").write_text("a file")
    done = failing(script, "1 / 0")
    assert done.code == 125
    assert done.err.splitlines()[1] == "hint: -v shows the traceback"


def test_ctrl_c_is_130(script: Script) -> None:
    done = failing(script, "raise KeyboardInterrupt")
    assert (done.code, done.err.strip()) == (130, "error: interrupted")


@pytest.mark.parametrize(
    "words", [["--nosuch"], ["ps", "--nosuch"], ["status"], ["nosuch"], ["target", "nosuch"]]
)
def test_wrong_words_are_2(launcher: Laptop, words: list[str]) -> None:
    done = launcher(*words)
    assert (done.code, done.out) == (2, "")
    error, hint = done.err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: launcher")
    as_json = launcher("--json", *words)
    assert (as_json.code, as_json.err, as_json.json["schema"]) == (2, "", 1)
    assert as_json.json["error"]["code"] == "usage"


def test_no_words_show_the_help(launcher: Laptop) -> None:
    done = launcher()
    assert done.code == 2
    assert "Stop and go on:" in done.err


@pytest.mark.parametrize("words", [["status", "nosuch"], ["logs", "last"], ["diff", "a", "b"]])
def test_an_unknown_run_is_2(launcher: Laptop, words: list[str]) -> None:
    assert launcher(*words).code == 2
    assert launcher(*words, "--json").json["error"]["code"] == "run-not-found"


def test_a_reader_that_leaves_is_no_error(launcher: Laptop) -> None:
    words = [sys.executable, "-m", "launcher", "schema"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=launcher.environ, cwd=ROOT
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, b"")


def test_closed_streams_are_no_error(launcher: Laptop) -> None:
    line = f"exec {sys.executable} -m launcher ps -a >&- 2>&-"
    assert subprocess.run(["sh", "-c", line], env=launcher.environ, cwd=ROOT).returncode == 0
