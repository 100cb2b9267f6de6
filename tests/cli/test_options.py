"""The words of a command line arrive as the values that the verbs take."""

from __future__ import annotations

from typing import Any

import click
import pytest

from launcher.cli.main import cli
from launcher.cli.session import Session
from launcher.cli.touch import port_pair


def parsed(*words: str) -> dict[str, Any]:
    """The parameters that the last command of `words` would be called with."""
    command: click.Command | None = cli
    rest = list(words)
    parent = None
    while isinstance(command, click.Group):
        parent = click.Context(command, parent, obj=Session())
        command = command.get_command(parent, rest.pop(0))
    assert command is not None
    return command.make_context(command.name, rest, parent).params


def test_run_takes_all_of_its_words() -> None:
    line = (
        "run jobs/a --on box --on local -p lr=1 -p epochs=2 -e A=b -e C --data t=./x --name n --out o -d --spot"
        " --timeout 6h --max-cost 5 --image ship --keep 30m --from last:best -y -- --lr 1 -- x"
    )
    assert parsed(*line.split()) == {
        "job": "jobs/a",
        "on": ("box", "local"),
        "params": ("lr=1", "epochs=2"),
        "env": ("A=b", "C"),
        "data": ("t=./x",),
        "name": "n",
        "out": "o",
        "detach": True,
        "dry_run": False,
        "spot": True,
        "timeout": "6h",
        "max_cost": "5",
        "image": "ship",
        "keep": "30m",
        "source": "last:best",
        "yes": True,
        "words": ("--lr", "1", "--", "x"),
    }


def test_the_job_is_here_by_default_even_with_words_for_it() -> None:
    assert parsed("run", "--", "--epochs", "3")["job"] == "."
    assert parsed("run", "--", "--epochs", "3")["words"] == ("--epochs", "3")
    assert parsed("run")["words"] == ()
    assert parsed("plan")["job"] == "."


def test_both_spellings_of_a_dry_run_are_taken() -> None:
    assert parsed("run", "--dry-run")["dry_run"]
    assert parsed("run", "--dryrun")["dry_run"]


@pytest.mark.parametrize("words", [["a", "--", "ls", "-l", "--json"], ["a", "ls", "-l", "--json"]])
def test_exec_takes_a_command_with_its_own_options(words: list[str]) -> None:
    assert parsed("exec", *words) == {"run": "a", "words": ("ls", "-l", "--json")}


def test_logs_takes_all_of_its_words() -> None:
    assert parsed(*["logs", "a", "-f", "-n", "5", "--since", "10m", "--grep", "x.*", "--raw"]) == {
        "run": "a",
        "follow_": True,
        "tail": 5,
        "since": "10m",
        "grep": "x.*",
        "raw": True,
    }


def test_ports() -> None:
    assert port_pair("6006") == (6006, 6006)
    assert port_pair("8080:80") == (8080, 80)
    for text in ("", "x", "0", "1:2:3", "70000", "80:", ":80"):
        with pytest.raises(click.BadParameter):
            port_pair(text)


@pytest.mark.parametrize(
    "line",
    [
        *("run a b", "run --image pull", "logs", "logs a -n -1", "logs a -n x", "pull a --checkpoints first"),
        *("wait", "diff a", "target add x", "completion tcsh", "secret set", "cancel"),
    ],
)
def test_wrong_words_are_usage_errors(line: str) -> None:
    with pytest.raises(click.UsageError):
        parsed(*line.split())
