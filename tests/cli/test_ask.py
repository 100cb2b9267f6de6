"""Questions are asked at a terminal, answered by -y where that is allowed, refused where nobody can answer."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Done, Laptop, Script
from tests.cli.terminal import Terminal

ASKS = """
import sys
from launcher.cli.main import cli, main
from launcher.cli.verb import verb, with_session
from launcher.runner.context import Question
import launcher.cli.more

def ask(version):
    from click import get_current_context
    session = get_current_context().obj
    session.yes = {yes!r}
    print("answer", session.context.ask(Question({kind!r}, "really\\x1b[2J?", "--flag")))

launcher.cli.more.version_command.callback = lambda: ask(0)
sys.exit(main({words!r}))
"""


def asked(script: Script, kind: str, yes: bool = False, *words: str) -> Done:
    return script(ASKS.format(kind=kind, yes=yes, words=[*words, "-v", "version"]))


@pytest.mark.parametrize("kind", ["cost", "size"])
def test_without_a_terminal_a_question_is_refused_and_its_flag_named(script: Script, kind: str) -> None:
    done = asked(script, kind)
    assert (done.code, done.out) == (126, "")
    assert done.err.splitlines()[:2] == ["error: really?", "hint: nobody can answer here; --flag does"]


def test_a_host_key_that_nobody_can_confirm_is_125(script: Script) -> None:
    assert asked(script, "host-key").code == 125


@pytest.mark.parametrize("kind", ["cost", "size"])
def test_yes_answers_cost_and_size(script: Script, kind: str) -> None:
    assert asked(script, kind, True).out == "answer True\n"


def test_yes_never_answers_for_a_host_key(script: Script) -> None:
    done = asked(script, "host-key", True)
    assert (done.code, done.out) == (125, "")


def test_with_json_nobody_is_asked(script: Script) -> None:
    done = asked(script, "cost", False, "--json")
    assert json.loads(done.out)["error"]["code"] == "refused"


@pytest.mark.parametrize(
    ("typed", "answer"), [("y", True), ("YES", True), ("n", False), ("", False), ("yep", False)]
)
def test_at_a_terminal_a_person_is_asked(launcher: Laptop, typed: str, answer: bool) -> None:
    import sys

    text = ASKS.format(kind="host-key", yes=True, words=["version"])
    terminal = Terminal([sys.executable, "-c", text], launcher)
    terminal.until("really? [y/N]")
    terminal.type(typed + "\n")
    assert terminal.end() == 0
    assert f"answer {answer}" in terminal.said
